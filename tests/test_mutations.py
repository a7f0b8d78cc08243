"""The deliberate mutations of the compiler still apply to it; `python tests/mutations.py` runs them."""

import ast
from collections import Counter

import pytest

from tests.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.module)
def test_a_mutation_applies_in_one_place_and_leaves_python(mutation: Mutation) -> None:
    ast.parse(mutation.applied())


def test_there_are_fifty_mutations_or_more_in_every_module() -> None:
    modules = Counter(each.module for each in MUTATIONS)
    assert len(MUTATIONS) >= 50
    assert len(modules) >= 12
