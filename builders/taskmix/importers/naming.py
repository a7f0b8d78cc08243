"""Names of tasks, templates and files, made from names that strangers chose."""

import re
import unicodedata

MAX_NAME = 80


def readable(text: str, otherwise: str) -> str:
    """Return a name of lower-case letters, digits, `.`, `_` and `-` that reads like the text.

    >>> readable("Étape n° 2: what's next?", "template")
    'etape-n-2-whats-next'
    >>> readable("次は？", "template")
    'template'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower().replace("'", "")
    name = re.sub(r"[^a-z0-9._]+", "-", plain)
    name = re.sub(r"\.{2,}", ".", name)[:MAX_NAME].strip("-._")
    return name or otherwise


def unique(name: str, taken: set[str]) -> str:
    """Return the name, or with the first number behind it that is free; and take it.

    >>> taken = {"a"}
    >>> unique("a", taken), unique("a", taken)
    ('a-2', 'a-3')
    """
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found
