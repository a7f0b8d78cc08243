"""Random templates in Jinja's own grammar, and random rows for them: what the compiler is tested on.

`GRAMMAR` says how a value of a kind can be written. The names in it are those of the sandbox (a test compares them),
and nothing here knows what the compiler takes. Most templates make sense; some do not, as people's do not.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import polars as pl
from hypothesis import strategies as st


@dataclass(frozen=True)
class Kind:
    """A sort of value, as Python has it; with a list's items or a mapping's fields."""

    name: str
    item: "Kind | None" = None
    fields: "tuple[tuple[str, Kind], ...]" = ()

    @property
    def dtype(self) -> pl.DataType:
        if self.item is not None:
            return pl.List(self.item.dtype)
        if self.fields:
            return pl.Struct({name: each.dtype for name, each in self.fields})
        return _DTYPES[self.name]


_DTYPES: Mapping[str, pl.DataType] = {
    "text": pl.String(),
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "none": pl.Null(),
}
TEXT, INT, FLOAT, BOOL, NOTHING = (Kind(name) for name in _DTYPES)
SCALARS = (TEXT, TEXT, INT, FLOAT, BOOL)


def list_of(item: Kind) -> Kind:
    return Kind("list", item)


@dataclass(frozen=True)
class Tree:
    """A piece of a template and its pieces. Those of one sort can stand for each other, which makes them smaller."""

    sort: str
    parts: "tuple[str | Tree, ...]"

    def __str__(self) -> str:
        return "".join(map(str, self.parts))


def smaller(tree: Tree) -> Iterator[Tree]:
    """Yield trees with a piece left out, or with a piece of a piece in its place: the greatest cuts first."""
    for part in tree.parts:
        if isinstance(part, Tree):
            yield from (each for each in _inside(part) if each.sort == tree.sort)
    if tree.sort == "body":
        for at in range(len(tree.parts)):
            yield replace(tree, parts=(*tree.parts[:at], *tree.parts[at + 1 :]))
    for at, part in enumerate(tree.parts):
        if isinstance(part, Tree):
            for each in smaller(part):
                yield replace(tree, parts=(*tree.parts[:at], each, *tree.parts[at + 1 :]))


def _inside(tree: Tree) -> Iterator[Tree]:
    yield tree
    for part in tree.parts:
        if isinstance(part, Tree):
            yield from _inside(part)


def shrunk(tree: Tree, fails: Callable[[str], bool], tries: int = 400) -> Tree:
    """Return a small tree that still fails."""
    for _ in range(tries):
        found = next((each for each in smaller(tree) if len(str(each)) < len(str(tree)) and fails(str(each))), None)
        if found is None:
            break
        tree = found
    return tree


# -- the grammar: `@kind` is a hole for a value of that kind, `@T` for one of any kind (the same throughout a line),
# `@any` for whatever there is, `@n` for a small number, `@field` and `@test` for names.

GRAMMAR: Mapping[str, Sequence[str]] = {
    "T": """
        @T if @bool else @T
        @T if @bool
        @T if @any else @T
        @T or @T
        @T and @T
        @any and @T
        @list(T)[@n]
        @list(T)[@int]
        @list(T)[-1]
        @list(T)[loop.index0]
        [@T, @T][@n]
        (@T, @any)[0]
        {'a': @T, 'b': @any}['a']
        {'a': @T, 'b': @any}.a
        {1: @T, 2: @T}[@n]
        {'yes': @T, 'no': @T}[@text]
        {'yes': @T}.get(@text, @T)
        {'a': @T}.get('a')
        @list(T) | first
        @list(T) | last
        @list(T) | choice
        @list(T) | random
        @list(T) | min
        @list(T) | max
        @list(T) | max(case_sensitive=true)
        @T | default(@T)
        @T | d(@T, true)
        @T | default(@T, boolean=@bool)
        @list(T).pop()
        loop.cycle(@T, @T)
        loop.previtem
        loop.nextitem
        missing | default(@T)
    """.splitlines(),
    "text": """
        @text ~ @text
        @any ~ @any
        @any ~ ' ' ~ @any ~ @text
        @text + @text
        @text * @n
        @n * @text
        @text[@n]
        @text[@int]
        @text[@n:@n]
        @text[:@n]
        @text[@n:]
        @text[:@int]
        @text[-@n:]
        @text[::2]
        @text | capitalize
        @any | capitalize
        @text | lower
        @any | lower
        @text | upper
        @any | upper
        @text | title
        @any | title
        @text | trim
        @any | trim
        @text | trim(@chars)
        @text | replace(@text, @text)
        @text | replace(@text, @text, @n)
        @any | replace(@literal, @literal)
        @text | replace(@literal, @any)
        @any | string
        @list(any) | join
        @list(any) | join(@text)
        @list(any) | join(@literal)
        @list(text) | join(@literal)
        @list(mapping) | join(', ', attribute=@field)
        @any | tojson
        @any | tojson(indent=2)
        @text | without(@literal, @literal)
        @text | reverse
        @text | indent(2)
        @text | truncate(9)
        @text | wordwrap(9)
        @text | default(@literal, @bool)
        @literal.join(@list(any))
        @literal.join(@list(text))
        @text.join(@list(text))
        @text.capitalize()
        @text.casefold()
        @text.lower()
        @text.lstrip()
        @text.lstrip(@chars)
        @text.rstrip()
        @text.rstrip(@chars)
        @text.strip()
        @text.strip(@chars)
        @text.removeprefix(@text)
        @text.removeprefix(@literal)
        @text.removesuffix(@text)
        @text.removesuffix(@literal)
        @text.replace(@literal, @literal)
        @text.replace(@text, @text)
        @text.replace(@text, @text, @n)
        @text.swapcase()
        @text.title()
        @text.upper()
        @text.partition(@literal)[@n]
        @text.rpartition(@literal)[0]
        @text.split(@literal)[@n]
        @text.split(@literal, 1)[@n]
        @text.split()[@n]
        @text % @any
    """.splitlines(),
    "int": """
        @int + @int
        @int + @bool
        @int - @int
        @int * @int
        @int // @int
        @int // @n
        @int % @int
        @int % @n
        @int ** @n
        -@int
        +@int
        +@bool
        @int | abs
        @any | length
        @any | count
        @text | length
        @list(any) | length
        @list(any) | count
        @text | int
        @text | int(@int)
        @text | int(default=-1)
        @text | int(0, 16)
        @any | int
        @float | int
        @list(int) | sum
        @list(mapping) | sum(attribute=@field)
        @list(int) | sum(start=@int)
        @int | round
        @text | wordcount
        @text.count(@literal)
        @text.count(@text)
        @text.find(@literal)
        @text.find(@text)
        @text.rfind(@literal)
        @text.index(@literal)
        @text.index(@text)
        @text.rindex(@literal)
        @list(any).index(@any)
        @list(text).index(@text)
        @list(T).index(@T)
        @list(T).count(@T)
        (@int, @int).count(@int)
        [@literal, @literal, 'a'].index('a')
        @list(mapping) | selectattr(@field) | list | length
        @list(mapping) | rejectattr(@field) | list | length
        (@text, @literal).index(@text)
        loop.index
        loop.index0
        loop.revindex
        loop.revindex0
        loop.length
        loop.depth
        loop.depth0
    """.splitlines(),
    "float": """
        @int / @int
        @int / @n
        @float / @int
        @float / @float
        @int / 100
        @float + @float
        @float - @int
        @float * @int
        @int * 0.1
        @float * 100
        @float // @int
        @float % @int
        -@float
        +@float
        @float | abs
        @float | round
        @float | round(1)
        @float | round(2)
        @float | round(@n)
        @float | round(1, 'floor')
        @float | round(method='ceil')
        @int | float
        @text | float
        @any | float
        @text | float(default=1.5)
        @list(float) | sum
    """.splitlines(),
    "bool": """
        not @any
        not @bool
        @T == @T
        @T != @T
        @any == @any
        @any != @any
        @T < @T
        @T <= @T
        @T > @T
        @T >= @T
        @int < @int
        @int <= @int
        @int > @n
        @int >= @float
        @float < @float
        @float == @int
        @text < @literal
        @text == @literal
        @n < @int < @n
        @n <= @int <= @n
        @int == @int == @int
        @any > @any
        @text in @text
        @literal in @text
        @text not in @text
        @T in @list(T)
        @T not in @list(T)
        @any in @list(any)
        @literal in @list(text)
        @int in [0, 1, 2]
        @text in ['yes', 'no', @text]
        @text in {'yes': 1, 'no': 2}
        @any in (@any, @any)
        @field in @mapping
        @text in @mapping
        @any in @any
        @bool and @bool
        @any and @any
        @bool or @bool
        @any or @any
        @any is @test
        @any is not @test
        @int is even
        @int is odd
        @int is divisibleby(@n)
        @int is divisibleby(@int)
        @int is divisibleby 3
        @T is eq(@T)
        @T is equalto(@T)
        @T is sameas(@T)
        @any is sameas true
        @T is ne(@T)
        @int is lt(@int)
        @int is lessthan(@n)
        @float is le(@int)
        @int is gt(@n)
        @text is greaterthan(@text)
        @int is ge(@n)
        @T is in(@list(T))
        @literal is filter
        @literal is test
        missing is defined
        missing is undefined
        @list(T)[@n] is defined
        @list(T)[@int] is none
        @text.endswith(@literal)
        @text.endswith(@text)
        @text.startswith(@literal)
        @text.startswith(@text)
        @text.startswith(('a', 'b'))
        @text.isalnum()
        @text.isalpha()
        @text.isascii()
        @text.isdecimal()
        @text.isdigit()
        @text.islower()
        @text.isnumeric()
        @text.isspace()
        @text.istitle()
        @text.isupper()
        loop.first
        loop.last
        loop.changed(@any)
    """.splitlines(),
    "list(T)": """
        [@T, @T]
        [@T]
        []
        (@T, @T)
        (@T,)
        @list(T) + @list(T)
        @list(T) + [@T]
        @list(T) * @n
        @list(T)[@n:]
        @list(T)[:@n]
        @list(T)[@n:@n]
        @list(T)[:-1]
        @list(T)[@int:@int]
        @list(T)[::-1]
        @list(T) | list
        @list(T) | reverse | list
        @list(T) | reverse
        @list(T) | select
        @list(T) | unique
        @list(T) | sort
        @list(T) | sort(reverse=true)
        @list(T) | sort(reverse=@bool, case_sensitive=true)
        @list(mapping) | map(attribute=@field) | list
        @list(mapping) | map(attribute=@field, default=@T) | list
        @list(any) | map(@mapped) | list
        @list(T) | unique | list
        @list(T) | unique(case_sensitive=true) | list
        @list(T) | select | list
        @list(T) | select(@tested) | list
        @list(T) | select('equalto', @T) | list
        @list(T) | select('in', @list(T)) | list
        @list(T) | select(@sign, @T) | list
        @list(T) | reject(@sign, @T) | list
        @list(T) | reject | list
        @list(T) | reject(@tested) | list
        @list(T) | reject('equalto', @T) | list
        @list(T) | reject('in', @list(T)) | list
        @list(mapping) | selectattr(@field) | map(attribute=@field) | list
        @list(mapping) | selectattr(@field, @tested) | map(attribute=@field) | list
        @list(mapping) | selectattr(@field, 'equalto', @any) | map(attribute=@field) | list
        @list(mapping) | rejectattr(@field) | map(attribute=@field) | list
        @list(mapping) | rejectattr(@field, 'equalto', @any) | map(attribute=@field) | list
        @list(T) | most_frequent
        @list(T) | batch(2) | first
        @list(T) | slice(2) | first
        @list(mapping) | groupby(@field) | first
        @mapping | dictsort | first
        @mapping | items | first
        @mapping.values() | list
        {'a': @T, 'b': @T}.values() | list
        @list(T).copy()
        @list(T) | default([])
        @list(T) if @bool else []
        @list(list(T)) | first
    """.splitlines(),
    "list(text)": """
        @text.split()
        @text.split(@literal)
        @text.split(@text)
        @text.split(@literal, @n)
        @text.split(none, 1)
        @text.rsplit(@literal, 1)
        @text.splitlines()
        @any.splitlines() | list
        @text | list
        @mapping | list
        @mapping.keys() | list
        @mapping.items() | list | length
        @list(any) | map('string') | list
        @list(text) | map('lower') | list
        @list(text) | map('upper') | list
        @list(text) | map('trim') | list
        @list(text) | map('replace', @literal, @literal) | list
        @list(text) | map('title') | list
        ['A', 'B', 'C']
        'a|||B||| c'.split('|||')
    """.splitlines(),
    "list(int)": """
        range(@n) | list
        range(@int, @n)
        range(@int) | list
        range(@n, @int) | list
        range(@int, @int) | list
        range(0, @int, 2) | list
        range(@int, 0, -1) | list
        range(@list(any) | length)
        range(@n)
        @list(any) | map('int') | list
        @list(text) | map('length') | list
        @list(int) | map('abs') | list
        [0, 1, 2]
    """.splitlines(),
    "list(float)": """
        @list(float) | map('round', 1) | list
        @list(any) | map('float') | list
        [0.5, 1.5, -0.0]
    """.splitlines(),
}
_HOLE = re.compile(r"@(\w+(?:\(\w+(?:\(\w+\))?\))?)")

TESTS = (
    "boolean callable defined escaped even false filter float integer iterable lower mapping none number odd"
    " sequence string test true undefined upper"
).split()
_TESTED = "boolean defined even float integer iterable lower mapping none number odd sequence string true upper".split()
SIGNS = "== != < <= > >= eq ne lt le gt ge".split()
_MAPPED = "abs capitalize first float int length list lower round string sum title tojson trim upper".split()
_METHODS_AS_VALUES = "keys items lower count x y".split()

TEXTS = (
    *("", "a", "b", "A", "yes", "no", "Yes", "the Cat sat", "x y  z", "hello World", "it's", 'say "hi"', "a'b\"c"),
    *("A) foo; B) bar", "a, b, c", "a|||B||| c", "{{ x }}", "{% if %}", "{", "}}", "x\ny", "\n", "\tz ", " sp ", "   "),
    *(
        "é",
        "ÅSE",
        "ß",
        "ﬁn",
        "ŉ",
        "İi",
        "ı",
        "ΑΣ",
        "ΑΣ ΟΔΟΣ",
        "Ǆ ǆ",
        "ᲀ",
        "日本 語",
        "\u2003u\u2003",
        "e\u0301x",
        "🙂🙃",
    ),
    *("\x1ca\x1f", "a\x1eb", "\x85", "a\u2028b", "\x00", "\x7f", "\u200b", "\ufeff", "\xa0", "\U00016e40x", "\ua7da"),
    *("Ɤ", "\U00010d50", "ⅷ", "ⓐ", "²", "½", "٣", "１２"),
    *("0", "1", "42", "-5", "+7", "007", " 12 ", "1_000", "1,000", "3.7", "-0.0", ".5", "5.", "1e3", "inf", "nan"),
    *("12abc", "1__0", "_1", "99999999999999999999", "1.9999999999999999", "\x1c5", "5\x85", "0x1f", "True", "None"),
    *("a\\b", "a/b", "<<48/2=24>>24 <b>", "aXbXc", "Xa", "aX", "XX", "Title Case", "iPhone o'neill-x", "ab" * 40),
)
_INTS = (0, 0, 1, 1, 2, 3, 4, 5, -1, -2, 7, 10, 100, 1000, -100, 255, 2**31, 2**53, 2**53 + 1, -(2**53) - 1)
_BIG = (10**6, 10**12, 2**62, -(2**62), 2**63 - 1, -(2**63), 2**61, 3**33)
_FLOATS = (0.0, -0.0, 1.0, 0.5, 1.5, 2.5, -2.5, 0.125, 1.115, 2.675, 1e-4, 1e-5, 1e15, 1e16, 123456.789, -7.25, 0.1)
_WILD = (float("nan"), float("inf"), float("-inf"), 1e300, 5e-324, 2.0**53, 1e22, -1e-7)
_LITERALS = (
    *(
        "",
        "a",
        "A",
        "yes",
        "no",
        ", ",
        " ",
        "\n",
        "|||",
        "X",
        "x",
        "é",
        "ß",
        "it's",
        "foo",
        "<<",
        ">>",
        ".",
        "1",
        "the",
    ),
    *("Cat", "ab", "\x1c", "\\", '"', "None", "{}", "日", "S", "i", "-", "aa", "hello"),
)
_CHARS = ("'a'", "'. '", "'xyzX'", "none", "''", "'\\n '", "'é日'", "'a-c'", "'^]'", "@text")
_DATA = ("Q: ", " ", "\n", "\n\n", "  x  ", ",", "|||", "é ", "{ a }", "}} ", "\t", "- item\n", "%", "#}", "Yes", "'")


def literal(text: str) -> str:
    """Return a text as Jinja writes it."""
    quoted = "".join(each if each.isprintable() and each not in "\\'" else _escape(each) for each in text)
    return f"'{quoted}'"


def _escape(char: str) -> str:
    return {"\\": "\\\\", "'": "\\'", "\n": "\\n"}.get(char, f"\\U{ord(char):08x}")


@dataclass
class Writer:
    """Writes one template. `names` are the variables in force and their kinds; `lists` those that it can append to."""

    random: Random
    names: dict[str, Kind]
    fields: Sequence[str]
    loops: int = 0
    lists: list[str] = field(default_factory=list)
    used: int = 0

    def template(self) -> Tree:
        """Return a template: most are small, so that what is refused in one part hides little of another."""
        size, depth = self.random.choice(((1, 1), (1, 1), (1, 2), (2, 1), (2, 2), (3, 2)))
        return self._body(size, depth)

    def example(self, made: str, line: str) -> Tree:
        """Return a template around one line of the grammar."""
        bound = self.kind() if made in ("T", "list(T)") or self.random.random() < 0.5 else Kind(made)
        self.loops += 1
        value = self._filled(line, bound, self.random.choice((0, 0, 1, 1, 2)))
        self.loops -= 1
        ends = (" }}", " | list }}", "[0] }}", " | join }}") if made.startswith("list") else (" }}",)
        shown = Tree("statement", ("{{ ", value, self.random.choice(ends)))
        if "loop." in str(value):
            return Tree("body", ("{% for v in items %}", shown, "{% endfor %}"))
        return Tree("body", (shown,))

    # -- statements

    def _body(self, size: int, depth: int) -> Tree:
        return Tree("body", tuple(self._statement(depth) for _ in range(self.random.randint(1, max(1, size)))))

    def _statement(self, depth: int) -> Tree:
        weights = {"output": 8, "data": 4, "set": 3, "comment": 0.2}
        if self.lists:
            weights["append"] = 2
        if depth:
            weights |= {"if": 4, "for": 4, "block": 0.7, "with": 0.7, "collect": 1.5}
        name = self.random.choices(list(weights), list(weights.values()))[0]
        found: Tree = getattr(self, f"_{name}")(depth)
        return found

    def _tag(self, *inside: "str | Tree") -> "tuple[str | Tree, ...]":
        return (self.random.choice(("{% ", "{% ", "{%- ", "{%+ ")), *inside, self.random.choice((" %}", " %}", " -%}")))

    def _output(self, depth: int) -> Tree:
        kind = self.kind() if self.random.random() < 0.4 else TEXT
        ends = self.random.choice((("{{ ", " }}"),) * 6 + (("{{- ", " }}"), ("{{ ", " -}}")))
        return Tree("statement", (ends[0], self.value(kind, self.random.choice((1, 2, 2, 3))), ends[1]))

    def _data(self, depth: int) -> Tree:
        return Tree("statement", (self.random.choice(_DATA),))

    def _comment(self, depth: int) -> Tree:
        return Tree("statement", (self.random.choice(("{# note #}", "{#- x -#}", "{% raw %}{{ x }}{% endraw %}")),))

    def _set(self, depth: int) -> Tree:
        if self.random.random() < 0.15:
            kind, other = self.kind(), self.kind()
            names = (self.fresh(), self.fresh())
            tag = self._tag(f"set {names[0]}, {names[1]} = ", self.value(kind, 1), ", ", self.value(other, 1))
            self.names |= {names[0]: kind, names[1]: other}
            return Tree("statement", tag)
        kind = self.kind()
        name = self.random.choice(list(self.names)) if self.random.random() < 0.15 else self.fresh()
        tag = self._tag(f"set {name} = ", self.value(kind, 2))
        self.names[name] = kind
        return Tree("statement", tag)

    def _block(self, depth: int) -> Tree:
        name = self.fresh()
        tree = Tree("statement", (*self._tag(f"set {name}"), self._inner(depth), *self._tag("endset")))
        self.names[name] = TEXT
        return tree

    def _with(self, depth: int) -> Tree:
        name, kind = self.fresh(), self.kind()
        head = self._tag(f"with {name} = ", self.value(kind, 2))
        return Tree("statement", (*head, self._inner(depth, {name: kind}), *self._tag("endwith")))

    def _inner(self, depth: int, names: Mapping[str, Kind] | None = None, loops: int = 0) -> Tree:
        """Return a body with variables of its own."""
        kept, own = dict(self.names), list(self.lists)
        self.names |= names or {}
        self.loops += loops
        body = self._body(2, depth - 1)
        self.names, self.lists, self.loops = kept, own, self.loops - loops
        return body

    def _if(self, depth: int) -> Tree:
        parts: list[str | Tree] = [*self._tag("if ", self._condition()), self._body(2, depth - 1)]
        while self.random.random() < 0.25:
            parts += [*self._tag("elif ", self._condition()), self._body(2, depth - 1)]
        if self.random.random() < 0.5:
            parts += [*self._tag("else"), self._body(2, depth - 1)]
        return Tree("statement", (*parts, *self._tag("endif")))

    def _condition(self) -> Tree:
        return self.value(BOOL if self.random.random() < 0.8 else self.kind(), 2)

    def _for(self, depth: int) -> Tree:
        names, target, source = self._loop()
        head: list[str | Tree] = [f"for {target} in ", source]
        if self.random.random() < 0.25:
            kept = dict(self.names)
            self.names |= names
            head += [" if ", self.value(BOOL, 2)]
            self.names = kept
        parts = [*self._tag(*head), self._inner(depth, names, loops=1)]
        if self.random.random() < 0.2:
            parts += [*self._tag("else"), self._inner(depth)]
        return Tree("statement", (*parts, *self._tag("endfor")))

    def _loop(self) -> tuple[dict[str, Kind], str, "str | Tree"]:
        """Return the variables of a loop, its target, and what it goes over."""
        kind, form = self.kind(), self.random.random()
        one, two = self.fresh(), self.fresh()
        if form < 0.15:
            other = self.kind()
            lists = (self.value(list_of(kind), 1), ", ", self.value(list_of(other), 1))
            return {one: kind, two: other}, f"{one}, {two}", Tree("expr", ("zip(", *lists, ")"))
        if form < 0.22:
            mapping = self.value(self._mapping(), 1)
            return {one: TEXT, two: kind}, f"{one}, {two}", Tree("expr", (mapping, ".items()"))
        if form < 0.28:
            pairs = self._hole(list_of(list_of(kind)), 1)
            return {one: kind, two: kind}, f"({one}, {two})", pairs
        if form < 0.33:
            return {one: TEXT}, one, self.value(TEXT, 1)
        if form < 0.4:
            mixed = (self.value(kind, 1), ", ", self.value(self.kind(), 1), ", ", self.value(kind, 1))
            return {one: kind}, one, Tree("expr", ("[", *mixed, "]"))
        return {one: kind}, one, self.value(list_of(kind), self.random.choice((0, 0, 1, 2)))

    def _append(self, depth: int) -> Tree:
        name = self.random.choice(self.lists)
        item = self.names[name].item or TEXT
        call: tuple[str | Tree, ...] = (f"{name}.append(", self.value(item, 2), ")")
        if self.random.random() < 0.05:
            call = (f"{name}.extend(", self.value(list_of(item), 1), ")")
        if self.random.random() < 0.3:
            return Tree("statement", ("{{ ", *call, " or '' }}"))
        if self.random.random() < 0.3:
            return Tree("statement", self._tag("if ", Tree("expr", call), " %}{% endif"))
        return Tree("statement", self._tag("set _ = ", *call))

    def _collect(self, depth: int) -> Tree:
        """Make a list, append to it in a loop, and use it."""
        name, item = self.fresh(), self.random.choice(SCALARS)
        start: str | Tree = "[]" if self.random.random() < 0.8 else self.value(list_of(item), 1)
        self.names[name] = list_of(item)
        self.lists.append(name)
        made = Tree("body", (Tree("statement", self._tag(f"set {name} = ", start)), self._for(depth)))
        use = Tree("statement", ("{{ ", name, self.random.choice((" | join(', ')", " | length", "", "[0]")), " }}"))
        # where the list is not its own, what it came from has changed too
        return Tree("body", (made, use) if start == "[]" else (made, use, Tree("statement", ("{{ ", start, " }}"))))

    # -- expressions

    def fresh(self) -> str:
        self.used += 1
        return f"v{self.used}"

    def kind(self) -> Kind:
        """Return a kind of value, mostly one that a variable has."""
        if self.names and self.random.random() < 0.6:
            return self.random.choice(list(self.names.values()))
        scalar = self.random.choice(SCALARS)
        return list_of(scalar) if self.random.random() < 0.2 else scalar

    def _mapping(self) -> Kind:
        known = [kind for kind in self.names.values() if kind.fields]
        known += [kind.item for kind in self.names.values() if kind.item is not None and kind.item.fields]
        return self.random.choice(known) if known else Kind("mapping", fields=(("x", INT), ("y", TEXT)))

    def value(self, kind: Kind, depth: int) -> Tree:
        """Return an expression, nearly always of a kind."""
        if self.random.random() < 0.02:
            kind = self.kind()
        if depth <= 0 or self.random.random() < 0.2:
            return self.leaf(kind)
        if kind.fields and self.random.random() < 0.5:
            return self._dict(kind, depth)
        lines = self._lines(kind)
        line, bound = self.random.choice(lines)
        return self._filled(line, bound, depth - 1)

    def _lines(self, kind: Kind) -> list[tuple[str, Kind]]:
        """Return the lines of the grammar that make a kind, and what `T` stands for in each."""
        own = GRAMMAR.get(_written(kind), ())
        found = [(line.strip(), self.kind()) for line in own for _ in range(2) if line.strip()]
        if kind.item is not None:
            found += [(line.strip(), kind.item) for line in GRAMMAR["list(T)"] if line.strip()]
        return found + [(line.strip(), kind) for line in GRAMMAR["T"] if line.strip()]

    def _filled(self, line: str, bound: Kind, depth: int) -> Tree:
        """Return a line of the grammar with its holes filled."""
        if "loop." in line and not self.loops and self.random.random() < 0.95:
            return self.leaf(bound)
        pieces = _HOLE.split(line.replace("| random", "| choice"))
        parts = [piece if at % 2 == 0 else self._fill(piece, bound, depth) for at, piece in enumerate(pieces)]
        return Tree("expr", ("(", *parts, ")") if " " in line or line[0] in "-+" else tuple(parts))

    def _fill(self, hole: str, bound: Kind, depth: int) -> "str | Tree":
        names: Mapping[str, Callable[[], str | Tree]] = {
            "n": lambda: str(self.random.choice((0, 1, 1, 2, 2, 3, 5))),
            "field": lambda: literal(self.random.choice((*self.fields, *self.fields, "nowhere"))),
            "test": lambda: self.random.choice(TESTS),
            "sign": lambda: literal(self.random.choice(SIGNS)),
            "tested": lambda: literal(self.random.choice(_TESTED)),
            "mapped": lambda: literal(self.random.choice(_MAPPED)),
            "literal": lambda: literal(self.random.choice(_LITERALS)),
            "chars": lambda: self.random.choice(_CHARS).replace("@text", str(self.leaf(TEXT))),
        }
        if hole in names:
            return names[hole]()
        return self._hole(self._kind_of(hole, bound), depth)

    def _hole(self, kind: Kind, depth: int) -> Tree:
        return self.value(kind, depth)

    def _kind_of(self, hole: str, bound: Kind) -> Kind:
        if hole.startswith("list("):
            return list_of(self._kind_of(hole[5:-1], bound))
        if hole == "T":
            return bound
        if hole == "any":
            return self.kind()
        return self._mapping() if hole == "mapping" else Kind(hole)

    def leaf(self, kind: Kind) -> Tree:
        """Return a variable, something in one, or a constant."""
        paths = [path for name, each in self.names.items() for path in _paths(name, each, kind, 2)]
        if self.loops and kind in (INT, BOOL) and self.random.random() < 0.3:
            fields = "index index0 length revindex revindex0" if kind == INT else "first last"
            return Tree("expr", ("loop." + self.random.choice(fields.split()),))
        roll = self.random.random()
        if paths and roll < 0.75:
            return Tree("expr", (self.random.choice(paths),))
        if roll < 0.79:
            return Tree("expr", (self.random.choice(("missing", "missing.x", "none", *self.names)),))
        if roll < 0.8:
            name = self.random.choice(list(self.names))
            return Tree("expr", (f"{name}.{self.random.choice(_METHODS_AS_VALUES)}",))
        return self._constant(kind)

    def _constant(self, kind: Kind) -> Tree:
        if kind.fields:
            return self._dict(kind, 0)
        if kind.item is not None:
            items = [self._constant(kind.item) for _ in range(self.random.choice((0, 1, 2, 2, 3)))]
            inside = [part for each in items for part in (each, ", ")][:-1]
            return Tree("expr", ("[", *inside, "]"))
        pools: Mapping[str, Callable[[], str]] = {
            "text": lambda: literal(self.random.choice(_LITERALS if self.random.random() < 0.7 else TEXTS)),
            "int": lambda: str(self.random.choice((*_INTS[:12], *_INTS[:12], *_INTS, *_BIG, -1, -3))),
            "float": lambda: repr(self.random.choice((*_FLOATS, *_FLOATS, 1e300))),
            "bool": lambda: self.random.choice(("true", "false", "True", "False")),
            "none": lambda: "none",
        }
        found = pools[kind.name]()
        return Tree("expr", (f"({found})" if found.startswith("-") else found,))

    def _dict(self, kind: Kind, depth: int) -> Tree:
        parts: list[str | Tree] = []
        for name, each in kind.fields:
            parts += [", " if parts else "", f"{literal(name)}: ", self.value(each, depth - 1)]
        return Tree("expr", ("{", *parts, "}"))


def _written(kind: Kind) -> str:
    return f"list({_written(kind.item)})" if kind.item is not None else kind.name


def _paths(name: str, kind: Kind, wanted: Kind, depth: int) -> Iterator[str]:
    """Yield how a value of a kind is reached from a variable."""
    if kind == wanted:
        yield name
    if depth and kind.item is not None:
        yield from _paths(f"{name}[0]", kind.item, wanted, depth - 1)
    if depth:
        for at, (each, inner) in enumerate(kind.fields):
            dotted = at % 2 and each.isidentifier()
            yield from _paths(f"{name}.{each}" if dotted else f"{name}['{each}']", inner, wanted, depth - 1)


# -- rows


@dataclass(frozen=True)
class Rows:
    """Typed rows, with the kinds of their columns, and the draw of each."""

    kinds: Mapping[str, Kind]
    frame: pl.DataFrame

    @property
    def schema(self) -> dict[str, pl.DataType]:
        return {name: dtype for name, dtype in self.frame.schema.items() if name != "draw"}

    @property
    def fields(self) -> list[str]:
        """Return the names of all fields of mappings."""
        pending, found = list(self.kinds.values()), ["x"]
        while pending:
            kind = pending.pop()
            found += [name for name, _ in kind.fields]
            pending += [each for _, each in kind.fields] + ([kind.item] if kind.item else [])
        return sorted(set(found))


def rows(random: Random, count: int) -> Rows:
    """Return random columns and so many rows."""
    kinds: dict[str, Kind] = {"text": TEXT, "number": INT, "items": list_of(TEXT)}
    for number in range(random.randint(2, 4)):
        kinds[f"c{number}"] = _random_kind(random, 2)
    columns = {name: _column(random, name, kind, count) for name, kind in kinds.items()}
    draws = pl.Series("draw", [random.getrandbits(64) for _ in range(count)], dtype=pl.UInt64)
    return Rows(kinds, pl.DataFrame([*columns.values(), draws]))


def _random_kind(random: Random, depth: int) -> Kind:
    roll = random.random()
    if not depth or roll < 0.45:
        return random.choice((*SCALARS, *SCALARS, NOTHING) if depth == 2 else SCALARS)
    if roll < 0.75:
        return list_of(_random_kind(random, depth - 1))
    names = random.sample(["x", "y", "label", "items", "a b", "title"], random.randint(1, 3))
    return Kind("mapping", fields=tuple((name, _random_kind(random, depth - 1)) for name in names))


def _column(random: Random, name: str, kind: Kind, count: int) -> pl.Series:
    nulls, wild = random.choice((0.0, 0.0, 0.1, 0.3)), random.choice((0.0, 0.0, 0.2))
    values = [cell(random, kind, nulls, wild) for _ in range(count)]
    found = pl.Series(name, values, dtype=kind.dtype)
    narrow: Sequence[pl.DataType] = (pl.Int8(), pl.UInt8(), pl.Int32(), pl.UInt32())
    if kind == INT and random.random() < 0.2:
        return found.cast(random.choice(narrow), strict=False)
    if kind == FLOAT and random.random() < 0.15:
        return found.cast(pl.Float32)
    if kind == TEXT and random.random() < 0.1:
        return found.cast(pl.Categorical)
    return found


def cell(random: Random, kind: Kind, nulls: float, wild: float) -> object:
    """Return a random value; `nulls` and `wild` are how often it is None, or a number that is hard to handle."""
    if kind == NOTHING or random.random() < nulls:
        return None
    if kind.item is not None:
        return [cell(random, kind.item, nulls, wild) for _ in range(random.choice((0, 1, 2, 2, 3, 4)))]
    if kind.fields:
        return {name: cell(random, each, nulls, wild) for name, each in kind.fields}
    if kind == TEXT:
        return " ".join(random.choices(TEXTS, k=3)) if random.random() < 0.15 else random.choice(TEXTS)
    if kind == INT:
        return random.choice(_BIG) if random.random() < wild else random.choice(_INTS)
    if kind == FLOAT:
        return random.choice(_WILD) if random.random() < wild else random.choice(_FLOATS)
    return random.random() < 0.5


def template(random: Random, data: Rows) -> Tree:
    """Return a random template for rows."""
    return Writer(random, dict(data.kinds), data.fields).template()


def _each_name(line: str) -> Iterator[str]:
    """Yield a line for each name that may stand in its place for names of tests and filters."""
    for hole, names in {"@tested": _TESTED, "@test": TESTS, "@sign": SIGNS, "@mapped": _MAPPED}.items():
        if hole in line:
            shown = names if hole == "@test" else map(literal, names)
            yield from (line.replace(hole, name) for name in shown)
            return
    yield line


LINES = tuple(
    (made, each)
    for made, lines in GRAMMAR.items()
    for line in lines
    if line.strip()
    for each in _each_name(line.strip())
)


def example(random: Random, data: Rows, number: int) -> Tree:
    """Return a template around one line of the grammar, by its number in `LINES`."""
    made, line = LINES[number % len(LINES)]
    return Writer(random, dict(data.kinds), data.fields).example(made, line)


@st.composite
def cases(draw: st.DrawFn, count: int = 8) -> tuple[Tree, Rows, bool]:
    """Draw a template, rows for it, and whether it is strict."""
    random = draw(st.randoms(use_true_random=False))
    data = rows(random, count)
    return template(random, data), data, draw(st.booleans())
