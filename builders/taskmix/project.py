"""A new project folder: a catalog of one's own beside the built-in tasks, ready to build."""

import json
from pathlib import Path

from taskmix.catalog.models import json_schema
from taskmix.errors import OutputError

_CATALOG = """\
# yaml-language-server: $schema=catalog.schema.json
version: 1
extends: builtin            # the built-in tasks can be named below; `mix list` shows them

tasks:
  shop-messages:
    kind: text-classification
    cluster: intent
    source: {path: data/shop-messages.jsonl}
    splits: {train: train, validation: {from: train, fraction: 0.25}}
    columns: {text: message, label: topic}
    labels: {delivery: delivery, refund: refund, praise: praise}
    license: cc0-1.0

mixtures:
  first:
    tasks: [shop-messages, review-sentiment, everyday-entailment]
    holdout: {clusters: [nli]}
    sampling: {cap: 1000}
    format: messages

default_mixture: first
"""

_TEMPLATES = """\
- name: which-desk
  instruction: |-
    A customer wrote to our shop. Which desk should answer: {{ choices | join(", ") }}?
  input: "{{ text }}"
  output: "{{ choices[label] }}"
- name: sort-the-mail
  instruction: |-
    Sort this message.

    "{{ text }}"
  output: "It goes to {{ choices[label] }}."
"""

_ROWS = (
    ("delivery", "Where is my parcel? The link you sent shows nothing since Tuesday."),
    ("delivery", "Nobody rang, yet the driver noted that I was out. Can he come again tomorrow?"),
    ("delivery", "Could you leave the box with my neighbour at number 12?"),
    ("delivery", "Two of the three boxes came. What about the lamp?"),
    ("refund", "The kettle leaks, so I sent it back a week ago and still wait for my money."),
    ("refund", "You charged me twice for one order, please pay one back."),
    ("refund", "How long does it take until a return is credited to my card?"),
    ("refund", "I cancelled within the hour, but 39 euros are gone from my account."),
    ("praise", "Just wanted to say that the new shears cut like butter. Thank you!"),
    ("praise", "Your colleague Ifeoma was so patient on the phone, give her a raise."),
    ("praise", "Third order with you and once more everything was perfect."),
    ("praise", "What lovely wrapping, my daughter kept the ribbon."),
)


def create(folder: Path) -> list[Path]:
    """Write a new project and return its files.

    Raises:
        OutputError: the folder exists and is not empty, or cannot be written.
    """
    rows = "".join(json.dumps({"message": text, "topic": label}, ensure_ascii=False) + "\n" for label, text in _ROWS)
    texts = {
        "catalog.yaml": _CATALOG,
        "templates/shop-messages.yaml": _TEMPLATES,
        "data/shop-messages.jsonl": rows,
        "catalog.schema.json": json.dumps(json_schema(), indent=1) + "\n",
        ".gitignore": "mixtures/\n",
    }
    try:
        if folder.exists() and any(folder.iterdir()):
            raise OutputError("the folder is not empty", where=str(folder), hint="name a new one")
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(folder)) from None
    return [folder / name for name in texts]
