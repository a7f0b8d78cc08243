"""The kinds of labelled tasks, by the field's names, one module each."""

from collections.abc import Mapping

from taskmix.kinds import (
    conversation,
    multiple_choice,
    question_answering,
    table,
    text_classification,
    text_generation,
    token_classification,
)
from taskmix.kinds.base import Column, Kind, View

KINDS: Mapping[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (
        text_classification,
        token_classification,
        question_answering,
        multiple_choice,
        text_generation,
        conversation,
        table,
    )
}

__all__ = ["KINDS", "Column", "Kind", "View"]
