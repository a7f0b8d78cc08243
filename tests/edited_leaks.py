"""Copies of evaluation rows, edited as people and programs edit texts: words exchanged, moved, left out and put in.

Written apart from the detector and from `planted_leaks`, after both were settled: nothing was chosen by what it found.
Words come from a corpus, by what stands around them. Everything random is drawn from the generator that is given.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from random import Random

Edit = Callable[[list[str], int, Random, "Corpus"], None]
"""Changes words at a place, and perhaps at the next."""


@dataclass(frozen=True)
class Corpus:
    """The words of some texts, and which of them stand between which."""

    words: Sequence[str]
    between: Mapping[tuple[str, str], Sequence[str]]

    def like(self, words: Sequence[str], place: int, random: Random) -> str:
        """Return a word that stands elsewhere between the same neighbours, as one of like meaning may; else any."""
        before = words[place - 1] if place else ""
        after = words[place + 1] if place + 1 < len(words) else ""
        same = [each for each in self.between.get((before, after), ()) if each != words[place]]
        return random.choice(same or self.words)


def corpus(texts: Iterable[str]) -> Corpus:
    """Return the words of texts."""
    between, words = defaultdict[tuple[str, str], list[str]](list), list[str]()
    for text in texts:
        found = ["", *text.split(), ""]
        words += found[1:-1]
        for before, word, after in zip(found, found[1:], found[2:], strict=False):
            between[before, after].append(word)
    return Corpus(words, between)


def exchange(words: list[str], place: int, random: Random, known: Corpus) -> None:
    words[place] = known.like(words, place, random)


def swap(words: list[str], place: int, random: Random, known: Corpus) -> None:
    other = place + 1 if place + 1 < len(words) else place - 1
    words[place], words[other] = words[other], words[place]


def leave_out(words: list[str], place: int, random: Random, known: Corpus) -> None:
    if len(words) > 1:
        del words[place]


def put_in(words: list[str], place: int, random: Random, known: Corpus) -> None:
    words.insert(place, random.choice(known.words))


def any_of_them(words: list[str], place: int, random: Random, known: Corpus) -> None:
    random.choice((exchange, swap, leave_out, put_in))(words, place, random, known)


EDITS: Mapping[str, Edit] = {
    "exchanged": exchange,
    "swapped with the next": swap,
    "left out": leave_out,
    "put in": put_in,
    "any of these": any_of_them,
}


def edited(text: str, edit: Edit, rate: float, random: Random, known: Corpus) -> str:
    """Return a text of which each word was edited with a probability, from the last to the first.

    White space becomes single spaces.
    """
    words = text.split()
    for place in reversed(range(len(words))):
        if random.random() < rate and place < len(words):
            edit(words, place, random, known)
    return " ".join(words)


def overlap(text: str, copy: str) -> float:
    """Return the share of a text's words that its copy has in the same order, as `difflib` matches them."""
    words = text.split()
    blocks = SequenceMatcher(None, words, copy.split(), autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / max(len(words), 1)
