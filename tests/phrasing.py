"""The words of templates: how much two of them share, and which runs of words stand in a public collection, too."""

import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from taskmix.templates.files import Template

Trigrams = frozenset[tuple[str, str, str]]
RUN = 8
"""So many words in a row are nobody's by chance."""

FEWEST_TRIGRAMS = 4
"""Below that two templates have a phrase in common, such as "positive or negative", rather than a sentence."""

# Chinese and Japanese do without spaces: there a character counts as a word
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
_JINJA = re.compile(r"{{.*?}}|{%.*?%}|{#.*?#}", re.DOTALL)
_STRING = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.DOTALL)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower().replace("'", "").replace("’", ""))


def trigrams(text: str) -> Trigrams:
    found = words(text)
    return frozenset(zip(found, found[1:], found[2:], strict=False))


def words_of_instruction(template: Template) -> str:
    """Return what a template says itself, without what it prints."""
    return _JINJA.sub(" ", f"{template.spec.instruction}\n{template.spec.input}")


def overlaps(found: Sequence[tuple[str, Trigrams]]) -> list[str]:
    """Return the pairs that share more than half of the trigrams of the shorter."""
    index: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    pairs = []
    for number, (name, grams) in enumerate(found):
        shared = Counter(other for gram in grams for other in index[gram])
        pairs += [
            f"{found[other][0]} and {name}: {count} of {min(len(grams), len(found[other][1]))}"
            for other, count in shared.items()
            if count > min(len(grams), len(found[other][1])) / 2
        ]
        for gram in grams:
            index[gram].append(number)
    return pairs


def alike(templates: Sequence[Template]) -> list[str]:
    """Return the pairs of templates that say the same: those of very few words are not compared."""
    found = [(each.name, trigrams(words_of_instruction(each))) for each in templates]
    return overlaps([(name, grams) for name, grams in found if len(grams) >= FEWEST_TRIGRAMS])


def runs(text: str) -> Iterator[str]:
    """Yield the runs of eight words of a template's own text: no run goes over what it prints."""
    quoted = [one or other for part in _JINJA.findall(text) for one, other in _STRING.findall(part)]
    for piece in (*_JINJA.split(text), *quoted):
        found = words(piece)
        for start in range(len(found) - RUN + 1):
            yield " ".join(found[start : start + RUN])


def repeated(templates: Iterable[Template]) -> list[str]:
    """Return the runs of words that stand in more than one file; eight characters of Chinese or Japanese are few."""
    files: dict[str, set[str]] = defaultdict(set)
    for template in templates:
        for text in (template.spec.instruction, template.spec.input or ""):
            for run in runs(text):
                if len(run) >= 2 * RUN:  # else it is of single characters
                    files[run].add(f"{template.file.name} [{template.name}]")
    return [f"“{run}” stands in {', '.join(sorted(where))}" for run, where in files.items() if _several(where)]


def _several(places: Iterable[str]) -> bool:
    return len({place.partition(" ")[0] for place in places}) > 1


def borrowed(template: Template, public: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the runs of a template that stand in a public collection, each with where."""
    spec = template.spec
    texts = (spec.instruction, spec.input, spec.output)
    return [(run, public[run]) for text in texts for run in runs(text) if run in public]


@functools.cache
def public_runs(shared: Path) -> Mapping[str, str]:
    """Return the runs of all templates of promptsource and all definitions of Natural Instructions, with where."""
    return {
        run: where for where, text in (*_promptsource(shared), *_natural_instructions(shared)) for run in runs(text)
    }


def _promptsource(shared: Path) -> Iterator[tuple[str, str]]:
    folder = shared / "promptsource" / "templates"
    for file in sorted(folder.rglob("templates.yaml")):
        dataset = file.parent.relative_to(folder).as_posix()
        for template in yaml.load(file.read_bytes(), _Untagged)["templates"].values():
            yield f"promptsource {dataset}: {template['name']}", template["jinja"]


def _natural_instructions(shared: Path) -> Iterator[tuple[str, str]]:
    folder = shared / "natural-instructions"
    whole = folder / "definitions.json"
    for number, task in enumerate(json.loads(whole.read_bytes()) if whole.is_file() else ()):
        yield from ((f"Natural Instructions {number}", text) for text in task["Definition"])
    for file in sorted((folder / "tasks").glob("*.json")):
        definition = json.loads(file.read_bytes())["Definition"]
        yield from (
            (f"Natural Instructions {file.stem}", text)
            for text in ([definition] if isinstance(definition, str) else definition)
        )


class _Untagged(yaml.CSafeLoader):
    """Reads tagged mappings as mappings."""


def _mapping(loader: Any, _: str, node: yaml.MappingNode) -> dict[Any, Any]:
    found: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return found


_Untagged.add_multi_constructor("", _mapping)
