"""Breaks the compiler on purpose, in one place at a time, and sees whether its tests notice.

    python tests/mutations.py [NUMBER …]

runs the golden texts and the fast profile of generated templates against a copy of the package with each mutation,
and says which were caught. `tests/test_mutations.py` checks that each still applies.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMPILER = ROOT / "builders" / "taskmix" / "compiler"
TESTS = ("tests/golden/test_compiler_golden.py", "tests/test_compiler.py")
CHOSEN = "jinja or texts_in_the_file or needlessly or reached or batches or halves"


@dataclass(frozen=True)
class Mutation:
    """A change to one place of one module: a text that stands in it once, and what it becomes."""

    module: str
    old: str
    new: str

    def applied(self) -> str:
        """Return the module's source with the change. Raises ValueError unless the text stands in it once."""
        source = (COMPILER / f"{self.module}.py").read_text()
        if source.count(self.old) != 1:
            raise ValueError(f"{self.module}: {self.old!r} stands there {source.count(self.old)} times")
        return source.replace(self.old, self.new)


def _mutations(module: str, *pairs: tuple[str, str]) -> list[Mutation]:
    return [Mutation(module, old, new) for old, new in pairs]


MUTATIONS = [
    *_mutations(
        "values",
        ("return then if condition else otherwise", "return otherwise if condition else then"),
        ("return chosen.when(~condition.expr).then(right)", "return chosen.otherwise(right)"),
        ("return found if self.unknown else pl.lit(False)", "return pl.lit(False)"),
        ("then = [each & holds for each in unknown_rows(value.then)]", "then = unknown_rows(value.then)"),
        ("if not -(2**62) < value < 2**62:", "if not -(2**70) < value < 2**70:"),
        ("nested = isinstance(item, ListOf)", "nested = False"),
        ("expr=pl.when(condition).then(value.expr),", "expr=value.expr,"),
        ("expr = pl.when(held).then(a.expr).otherwise(held) if unknown", "expr = held & a.expr if unknown"),
        ("expr = pl.when(~held).then(b.expr).otherwise(held) if unknown", "expr = held | b.expr if unknown"),
        (
            'shown = condition.expr if b.constant == "" else ~condition.expr',
            'shown = condition.expr if b.constant == "" else condition.expr',
        ),
        ("nullable=any(each.none is not False for each in items)", "nullable=False"),
        ("bad = ([item.is_undefined()] if item.undefined is not False else [])", "bad = []"),
    ),
    *_mutations(
        "rules",
        ('then(pl.lit("True")).when(~expr)', 'then(pl.lit("true")).when(~expr)'),
        ('.then(pl.lit("None")).otherwise(expr)', '.then(pl.lit("")).otherwise(expr)'),
        ("finite = found.expr.is_finite() | found.expr.is_null()", "finite = found.expr.is_not_null() | True"),
        ('eval(items).list.join(", ", ignore_nulls=False)', 'eval(items).list.join(", ", ignore_nulls=True)'),
        ('ends = ("(", ",)" if len(items) == 1 else ")")', 'ends = ("(", ")")'),
        ("pl.when(single & ~double)", "pl.when(single)"),
        ("if chr(code).isspace())", 'if chr(code) in " \\t\\n\\r\\x0b\\x0c")'),
        (
            '**{chr(code): f"\\\\u{code:04x}" for code in range(32)},',
            '**{chr(code): f"\\\\u{code:04x}" for code in range(31)},',
        ),
        ("return pl.when(~body.str.contains(_not_printable())).then(quoted)", "return quoted"),
        ("        return expr != 0\n", "        return expr > 0\n"),
        ("return expr.list.len() > 0", "return expr.list.len() > 1"),
        ("unknown=found.unknown or (strict and found.undefined is not False))", "unknown=found.unknown)"),
    ),
    *_mutations(
        "python",
        ("rest = (texts.str.len_bytes() != texts.str.len_chars()).fill_null(False)", "rest = texts.is_null() & False"),
        ("| numbers.is_nan().fill_null(False)", "& ~numbers.is_nan().fill_null(False)"),
        ("same = ((size >= 1e-4) &", "same = ((size >= 1e-6) &"),
    ),
    *_mutations(
        "operators",
        ("_EXACT = 2**53", "_EXACT = 2**54"),
        ("return Value(pl.when(size.abs() < _WIDE).then(expr), INT, unknown=True)", "return Value(expr, INT)"),
        ("return left, right * _ones(left)", "return left, right"),
        ("if max(map(abs, ends)) < _WIDE else None", "if max(map(abs, ends)) < 2.0**90 else None"),
        ("unknown=unknown or inexact or isinstance(", "unknown=unknown or isinstance("),
        ("replace(value, undefined=False, unknown=True)", "replace(value, undefined=False)"),
        ("if at.bounds is not None and at.bounds[0] >= 0:", "if at.bounds is not None:"),
        ("number.constant in (0, -1)", "number.constant in (0, -1, 1)"),
        ("lambda position: pl.lit(items).gather(position))", "lambda position: pl.lit(items).gather(position * 0))"),
        ("Value(pl.when(right != 0).then(left / right)", "Value((left / right)"),
        ("return constant(text * count)", "return constant(text * (count + 1))"),
        ("nonzero = pl.when((right.expr != 0) &", "nonzero = pl.when((right.expr > 0) &"),
        ("compare(left, right) & ~left.is_nan() & ~right.is_nan()", "compare(left, right)"),
        ('"lt": _ordered(lambda left, right: left < right)', '"lt": _ordered(lambda left, right: left <= right)'),
        ('"gteq": _ordered(lambda left, right: left >= right)', '"gteq": _ordered(lambda left, right: left > right)'),
        ("return pl.when(empty).then(pl.lit(False)).otherwise(same)", "return same"),
        (
            "found.expr.str.contains(part.expr, literal=True), found, part)",
            "found.expr.str.contains(part.expr), found, part)",
        ),
        (
            "picked_text = found.expr.str.slice(number.expr, 1)",
            "picked_text = found.expr.str.slice(number.expr.abs(), 1)",
        ),
        (
            "inside = ((at.expr < size) & (at.expr >= -size)).fill_null(False)",
            "inside = ((at.expr < size) & (at.expr > -size)).fill_null(False)",
        ),
        ("hit = (number == position) | (number == position - len(value.items))", "hit = number == position"),
        ("(length + where).clip(0)", "(length + where)"),
        ("from_end = pl.when(where < 0)", "from_end = pl.when(where <= 0)"),
        (
            "undefined: Flag = value.is_undefined() & ~bad if value.undefined is not False else False",
            "undefined: Flag = value.undefined",
        ),
        ("nulls_equal=True", "nulls_equal=False"),
        (
            "pl.when(left.is_none() & right.is_none()).then(pl.lit(True))",
            "pl.when(left.is_none() & right.is_none()).then(pl.lit(False))",
        ),
    ),
    *_mutations(
        "filters",
        ("up = (above > 0) | ((above == 0) & ~even)", "up = above >= 0"),
        ('round(0, mode="half_to_even")', 'round(0, mode="half_away_from_zero")'),
        ("rest = ((high * p_high - scaled) + high * p_low + low * p_high) + low * p_low", "rest = scaled * 0.0"),
        ("then(pl.lit(-0.0))", "then(pl.lit(0.0))"),
        ("size = found.expr.str.len_chars()\n    elif", "size = found.expr.str.len_bytes()\n    elif"),
        ("found.expr.list.reverse(), found.type", "found.expr, found.type"),
        ("descending=bool(down)", "descending=not down"),
        (
            "return no_digit | text.str.strip_chars(rules.WHITESPACE).str.contains(_NOT_IN_NUMBERS)",
            'return no_digit | ~text.str.strip_chars(rules.WHITESPACE).str.contains("^[0-9.]+$")',
        ),
        (
            r'no_digit = ~text.str.contains(r"(?i)\p{Nd}|inf|nan")',
            r'no_digit = ~text.str.contains(r"(?i)[0-9]|inf|nan")',
        ),
        (
            "return Value(texts.list.join(str(between.constant), ignore_nulls=False)",
            "return Value(texts.list.join(str(between.constant), ignore_nulls=True)",
        ),
        ("each = in_rows(texts, pl.when(size < _MOST_BYTES).then(size))", "each = texts"),
        ("held if keep else operators.negated(held)", "held"),
        ("pieces.list.join(new.expr, ignore_nulls=False)", "pieces.list.join(old.expr, ignore_nulls=False)"),
        ("at = (draw % pl.when(size > 0)", "at = ((draw + 1) % pl.when(size > 0)"),
        ("return when_known(between.expr.is_not_null(), joined) if between.may_be_null else joined", "return joined"),
        ("tail = pieces.list.slice(1)", "tail = pieces.list.slice(0)"),
        ("if wanted and flag is not False]", "if flag is not False]"),
        ("(number.abs() >= 2.0**52)", "(number.abs() >= 2.0**32)"),
        ('return pl.when(text == "").then(between).otherwise(pl', "return (pl"),
        ("undefined = pick(item.is_undefined()).fill_null(False)", "undefined = False"),
    ),
    *_mutations(
        "methods",
        (
            "return text_of(cut(part.expr), text, part)",
            'return text_of(text.expr.str.replace(part.expr, "", literal=True), text, part)',
        ),
        (
            'words = text.expr.str.extract_all(f"[^{_escaped(WHITESPACE)}]+")',
            'words = text.expr.str.extract_all(r"\\S+")',
        ),
        (
            'pl.when(part.expr == "").then(pl.lit(0)).otherwise(before)',
            'pl.when(part.expr == "").then(pl.lit(0)).otherwise(before + 1)',
        ),
        (".list.first().str.len_chars()", ".list.first().str.len_bytes()"),
        ("_position(text, part).fill_null(-1)", "_position(text, part).fill_null(0)"),
        ("wanted.expr.is_not_null() | wanted.is_none()", "wanted.expr.is_not_null() | wanted.expr.is_null()"),
        ("item.expr.eq_missing(other.expr)", "(item.expr == other.expr)"),
        ('"islower": _ascii_test("^[^A-Z]*[a-z][^A-Z]*$")', '"islower": _ascii_test("^[a-z]*$")'),
        ('"lstrip": _strip("left")', '"lstrip": _strip("both")'),
        (
            "fields = text.expr.str.splitn(str(between.constant), most + 1)",
            "fields = text.expr.str.splitn(str(between.constant), most + 2)",
        ),
        ("plain = text.expr.str.len_bytes() == text.expr.str.len_chars()", "plain = text.expr.is_not_null()"),
    ),
    *_mutations(
        "tests",
        (
            '"odd": lambda c, value: _divides(column(value), constant(2), 1)',
            '"odd": lambda c, value: _divides(column(value), constant(2), -1)',
        ),
        ("held = held | found.is_undefined()", "held = held & found.is_undefined()"),
        ("return _known(value, value.is_none())", "return _known(value, value.expr.is_null())"),
        ("return _known(value, ~value.is_undefined())", "return _known(value, value.expr.is_not_null())"),
    ),
    *_mutations(
        "translator",
        ("        self.check(value)\n        self.names[name]", "        self.names[name]"),
        ("or (condition.unknown and not told):", "or False:"),
        ("itertools.repeat(replace(first, unknown=False))", "itertools.repeat(replace(first, expr=~first.expr))"),
        ("shortest = pl.min_horizontal(sizes)", "shortest = pl.max_horizontal(sizes)"),
        ("known = known & ~pl.col(doubts).list.any()", "known = known & True"),
        ("sure = pl.when(~pl.any_horizontal(unknown))", "sure = pl.when(~pl.all_horizontal(unknown))"),
    ),
    *_mutations(
        "expressions",
        (
            "lambda branch: branch.value(node.right), lambda branch: left)",
            "lambda branch: left, lambda branch: branch.value(node.right))",
        ),
        ("(SOFT if t.strict else UNDEFINED) if expr2 is None", "UNDEFINED if expr2 is None"),
        ("        left = right\n", ""),
        ("    t.check(*args, *options.values())\n    return filters", "    return filters"),
        ("told=not isinstance(picked, Clash))", "told=True)"),
        ("index.expr % len(args)", "(index.expr + 1) % len(args)"),
    ),
    *_mutations(
        "statements",
        ('"index": operators.add(index, _ONE),', '"index": index,'),
        (
            '"last": operators.equal(left, _ONE, strict=False),',
            '"last": operators.equal(left, _ZERO, strict=False),',
        ),
        ('"revindex0": operators.subtract(left, _ONE),', '"revindex0": left,'),
        ('if otherwise == "" and held.meta.eq(~expr):', "if held.meta.eq(~expr):"),
        ('return otherwise if then == "" and held.meta.eq(expr) else ""', 'return otherwise if then == "" else ""'),
        ("pieces = pieces[:-1] if after else pieces", "pieces = pieces[:-1] if len(pieces) > 1 else pieces"),
        ("else pieces, after + before", "else pieces, before + after"),
        ("[each.fill_null(True) for each in shown]", "[each.fill_null(False) for each in shown]"),
        ("items[0].expr.shift(-1), index < length - 1)", "items[0].expr.shift(-1), index < length)"),
        ("items[0].expr.shift(1), index > 0)", "items[0].expr.shift(1), index > -1)"),
        ("t.join(Value(turns == 0, BOOL), otherwise, t.fork())", "t.join(Value(turns > 0, BOOL), otherwise, t.fork())"),
        ("    t.check(*lists)\n", ""),
        ("        again.check(again.truth(node.test))\n", "        again.truth(node.test)\n"),
        ("        t.pieces.append(Value(pl.col(made), TEXT, unknown=True))\n", ""),
        ("[FAILS] * count", "[NONE] * count"),
        ("if target.name in t.mutated and not new:", "if target.name in t.mutated and new is None:"),
    ),
    *_mutations(
        "scopes",
        (
            "_nest(texts, offsets).list.join(between, ignore_nulls=False)",
            "_nest(texts, offsets).list.join(between, ignore_nulls=True)",
        ),
        ("np.repeat(offsets[:-1], counts)", "np.repeat(offsets[1:], counts)"),
        ("pl.Series(self.length, np.repeat(counts, counts))", "pl.Series(self.length, np.repeat(counts + 1, counts))"),
        ("name for other, name in alike if other.meta.eq(expr)", "name for other, name in alike if other is not expr"),
        ("else change(value.shown)", "else value.shown"),
        ("(each.start, each.place) == (flat.start, place)", "each.start == flat.start"),
        ("frame[self.bare].clone().scatter(places, texts)", "frame[self.bare].clone()"),
    ),
    *_mutations(
        "templates",
        ("pending += [part.slice(half), part.head(half)]", "pending += [part.head(half), part.slice(half)]"),
        ("return self._nothing(1) if len(rows) == 1 else None", "return self._nothing(len(rows))"),
        ("sure = text.str.contains(stand_in) | hidden", "sure = hidden"),
        ('edges = f"^{mark}|{mark}$"', 'edges = f"^{mark}"'),
        ("expr=_replaced(found.expr, found.type, mark, stand_in)", "expr=found.expr"),
        ("back = stripped.str.replace_many(list(choices.stand_in), list(choices.separator))", "back = stripped"),
        ("if not set(choices.part.source).isdisjoint(choices.stand_in):", "if choices is None:"),
        (
            'if node.ctx == "store" and node.name in early - seen:',
            'if node.ctx == "store" and node.name in seen - early:',
        ),
    ),
]


def caught(mutation: Mutation, folder: Path) -> bool:
    """Return whether the tests fail on a copy of the package with a mutation."""
    package = folder / "taskmix"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(COMPILER.parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "compiler" / f"{mutation.module}.py").write_text(mutation.applied())
    paths = (str(folder), str(ROOT / "trainer"), str(ROOT))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS, "-k", CHOSEN]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return done.returncode == 1


def main(numbers: list[int]) -> int:
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            mutation = MUTATIONS[number]
            found = caught(mutation, Path(folder))
            survived += [] if found else [number]
            print(
                f"{number:3} {'caught  ' if found else 'SURVIVED'} {mutation.module}: {mutation.new.strip()[:90]}",
                flush=True,
            )
    print(f"{len(numbers) - len(survived)} of {len(numbers)} caught; survived: {survived or 'none'}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main([int(each) for each in sys.argv[1:]] or list(range(len(MUTATIONS)))))
