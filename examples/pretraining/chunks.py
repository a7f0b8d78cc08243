"""Cut long texts into chunks of whole paragraphs, for a task of text generation without input.

    python chunks.py FILE [--out data] [--chars 1400] [--validation 0.02]

FILE is JSONL, plain or compressed with gzip or Zstandard, with a text under `text` and the name of a work under
`title`. Whole works go to validation, so that no chunk of it comes from a work that training has seen. Rows are in
random order, so that the first ones (`mix train --limit`) are a sample of all works.
"""

import argparse
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl


def chunks(text: str, most: int) -> Iterator[str]:
    """Yield a text in chunks of whole paragraphs, of at most `most` characters each; a longer paragraph is cut."""
    held = ""
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        for piece in pieces(" ".join(paragraph.split()), most):
            if held and len(held) + 2 + len(piece) > most:
                yield held
                held = ""
            held = f"{held}\n\n{piece}" if held else piece
    if held:
        yield held


def pieces(paragraph: str, most: int) -> Iterator[str]:
    """Yield a paragraph, cut after sentences, or else between words, where it is longer than `most` characters."""
    while len(paragraph) > most:
        ends = [match.end() for match in re.finditer(r"[.!?][\"'”’)]* ", paragraph[:most])]
        cut = ends[-1] if ends else paragraph.rfind(" ", 0, most)
        cut = cut if cut > 0 else most
        yield paragraph[:cut].strip()
        paragraph = paragraph[cut:].strip()
    if paragraph:
        yield paragraph


def is_validation(title: str, share: float) -> bool:
    """Whether a work goes to validation, by a hash of its title."""
    return int.from_bytes(hashlib.sha256(title.encode()).digest()[:8]) < share * 2**64


def main() -> None:
    """Write `train.parquet` and `validation.parquet`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--chars", type=int, default=1400, help="the most characters of a chunk")
    parser.add_argument("--validation", type=float, default=0.02, help="the share of works for validation")
    wanted = parser.parse_args()
    works = pl.read_ndjson(wanted.file).select("title", "text").sort("title")
    wanted.out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        some = [
            (title, text)
            for title, text in works.iter_rows()
            if is_validation(title, wanted.validation) == (split == "validation")
        ]
        rows = [(title, chunk) for title, text in some for chunk in chunks(text, wanted.chars)]
        frame = pl.DataFrame(rows, schema={"title": pl.String, "text": pl.String}, orient="row")
        frame = frame.sample(fraction=1.0, shuffle=True, seed=0)
        frame.write_parquet(wanted.out / f"{split}.parquet", compression="zstd")
        print(f"{split}: {len(some):,} works, {len(rows):,} chunks, {frame['text'].str.len_chars().sum():,} characters")


if __name__ == "__main__":
    main()
