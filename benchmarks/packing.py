"""How many of a batch's tokens are examples' own: packed, grouped by length, or padded as they come.

    python benchmarks/packing.py

Lengths are log-normal, as those of instruction mixtures are; a row is a median. Everything is counted, nothing is timed
but the making of the plan.
"""

import time

import numpy as np

from taskmix_trainer.batches.plan import Budget, Ints, make_plan

EXAMPLES, SPREAD, LONGEST, MICRO_TOKENS = 65_536, 1.0, 2_048, 8_192
MEDIANS = (60, 110, 250)
ROWS = 32
"""Examples of a padded batch."""


def lengths_of(median: int) -> Ints:
    drawn = np.exp(np.random.default_rng(0).normal(np.log(median), SPREAD, EXAMPLES))
    return np.clip(drawn.astype(np.int64), 4, LONGEST)


def padded(lengths: Ints) -> float:
    cells = sum(int(part.max()) * len(part) for part in np.array_split(lengths, len(lengths) // ROWS))
    return float(lengths.sum() / cells)


def planned(lengths: Ints, *, pack: bool) -> tuple[float, float]:
    """Return the share of tokens that are examples' own, and the seconds that the plan took."""
    start = time.perf_counter()
    plan = make_plan(lengths, Budget(1, tokens=MICRO_TOKENS, micro_tokens=MICRO_TOKENS, pack=pack), 0)
    seconds = time.perf_counter() - start
    if pack:
        return float(lengths.sum() / (len(plan) * plan.size)), seconds
    parts = [lengths[plan.batch(at)] for at in range(len(plan))]
    return float(lengths.sum() / sum(len(part) * int(part.max()) for part in parts if len(part))), seconds


def main() -> None:
    drawn = f"log-normal lengths (sigma {SPREAD}, at most {LONGEST:,})"
    print(f"{EXAMPLES:,} examples, {drawn}, rows of {MICRO_TOKENS:,}\n")
    print("| median tokens | padded, 32 as they come | grouped by length | packed | seconds to plan |")
    print("| --- | --- | --- | --- | --- |")
    for median in MEDIANS:
        lengths = lengths_of(median)
        grouped, _ = planned(lengths, pack=False)
        packed, seconds = planned(lengths, pack=True)
        print(f"| {median} | {padded(lengths):.1%} | {grouped:.1%} | {packed:.1%} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
