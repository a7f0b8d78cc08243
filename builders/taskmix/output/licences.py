"""Licences of a mixture's sources: their names on the hub, and what stands in the way of passing the mixture on.

What is said here is for people to look into, not legal advice: it knows licences by their names alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HUB_NAMES = frozenset(
    "afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 "
    "bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 "
    "cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 "
    "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 "
    "cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 "
    "etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 "
    "lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 "
    "open-mdw openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib".split()
)
"""What `license:` of a card may say; a card with another name is refused."""

_COPYLEFT = (
    ("cc-by-sa", re.compile(r"cc-by-sa\b.*")),
    ("cc-by-nc-sa", re.compile(r"cc-by-nc-sa\b.*")),
    ("gpl", re.compile(r"[al]?gpl(-[\d.]+)?")),
    ("gfdl", re.compile(r"gfdl.*")),
    ("odbl", re.compile(r"odbl.*")),
    ("cdla-sharing", re.compile(r"cdla-sharing.*")),
)
"""Families of licences that what is made from a work must bear too."""
_NO_COMMERCE = re.compile(r"cc-by-nc\b.*|.*non-?commercial.*|.*research-only.*|[hi]\w*-research")
_NO_ADAPTATION = re.compile(r"cc-by(-nc)?-nd\b.*")

Licences = Mapping[str, Sequence[str]]
"""Tasks by the name of a licence that their source has."""


def of_lock(lock: Mapping[str, Any]) -> Licences:
    """Return the licences of a mixture that a lock describes."""
    return group((name, task["spec"].get("license", "unknown")) for name, task in lock["tasks"].items())


def group(tasks: Iterable[tuple[str, str | Sequence[str]]]) -> Licences:
    """Return the tasks by licence, from each task's name and its licence or licences."""
    found: dict[str, list[str]] = {}
    for task, licences in tasks:
        for licence in [licences] if isinstance(licences, str) else licences:
            found.setdefault(licence, []).append(task)
    return dict(sorted(found.items()))


def for_hub(licences: Iterable[str]) -> list[str]:
    """Return what a card's front matter is to say: names that the hub does not know are `other`."""
    return sorted({name if (name := each.lower()) in HUB_NAMES else "other" for each in licences})


def warnings(licences: Licences) -> list[str]:
    """Return what speaks against passing the mixture on: terms that forbid it, and terms that contradict each other."""
    lowered = {name.lower(): tasks for name, tasks in licences.items()}
    return [*_forbidding(lowered), *_contradicting(lowered)]


def _forbidding(licences: Licences) -> list[str]:
    found = []
    for name, tasks in licences.items():
        if _NO_ADAPTATION.fullmatch(name):
            found.append(f"{name} ({_named(tasks)}) forbids to pass on what was changed, as every row of a mixture is")
        elif name == "unknown":
            found.append(f"no licence is known of {_named(tasks)}: nothing says that these rows may be passed on")
        elif name == "other" or name not in HUB_NAMES:
            found.append(f"{name} ({_named(tasks)}) has terms of its own: read them before you pass these rows on")
    return found


def _contradicting(licences: Licences) -> list[str]:
    families = {family: names for family, pattern in _COPYLEFT if (names := _matching(licences, pattern))}
    found = []
    if len(families) > 1:
        shown = " and ".join(", ".join(names) for names in families.values())
        found.append(f"{shown} each demand that the whole is under their own terms: no licence meets both")
    commercial = sorted(name for family, names in families.items() if family != "cc-by-nc-sa" for name in names)
    forbidden = _matching(licences, _NO_COMMERCE)
    if commercial and (others := [name for name in forbidden if not name.startswith("cc-by-nc-sa")]):
        shown = f"forbidden by {', '.join(others)}, to be allowed by {', '.join(commercial)}"
        found.append(f"commercial use is {shown}: no licence of the whole meets both")
    elif forbidden:
        found.append(f"{', '.join(forbidden)}: the whole may not be used commercially")
    return found


def _matching(licences: Licences, pattern: re.Pattern[str]) -> list[str]:
    return [name for name in licences if pattern.fullmatch(name)]


def _named(tasks: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(tasks) - shown} more" if len(tasks) > shown else ""
    return ", ".join(tasks[:shown]) + more
