"""What can go wrong while training and evaluating, as a user sees it."""

from taskmix.errors import TaskmixError


class ModelError(TaskmixError):
    """A model or tokenizer is missing, unreadable, or not what the task needs."""


class TrainError(TaskmixError):
    """Training cannot start, or had to stop; the message names the rows of the batch where there is one."""
