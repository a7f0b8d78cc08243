"""`mix eval`: a model and a target, to figures."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from taskmix.errors import UsageError
from taskmix.text import quoted
from taskmix_trainer import reading
from taskmix_trainer.errors import ModelError
from taskmix_trainer.evaluation.classification import ClassScore
from taskmix_trainer.evaluation.mixtures import Asked, Tests, ask
from taskmix_trainer.evaluation.posing import PLAIN, Example, Group, read_groups
from taskmix_trainer.evaluation.raw import RawResult, evaluate_split
from taskmix_trainer.evaluation.scores import Record, Results, put_together
from taskmix_trainer.evaluation.statistics import baseline
from taskmix_trainer.heads import HEAD_OF_KIND, HEADS, Head
from taskmix_trainer.heads.base import Padding
from taskmix_trainer.models.opening import ModelName, open_model, open_tokenizer, tokens_that_fit
from taskmix_trainer.runs import read_run
from taskmix_trainer.targets import Mixture, PreparedTokens, RawTask, Target
from taskmix_trainer.tokens.folder import Manifest, Tokens, read_manifest
from taskmix_trainer.tokens.preparing import Wanted, is_seq2seq, prepare

EVALUATED = ("validation", "heldout_templates", "heldout")
"""The evaluation splits of a mixture."""
RAW = "raw"
"""What a task's raw form is called where templates have names."""


@dataclass(frozen=True)
class Options:
    """What to evaluate and how.

    Attributes:
        splits: by default `validation` of a raw task, all evaluation splits of a mixture.
        limit: at most so many source rows a task and split.
        shots: worked examples before each row of a mixture.
        new_tokens: tokens that are written at most.
        max_length: the most tokens of a feature of a raw task; by default that of the training run.
        seed: of worked examples and bootstraps.
        run_code: whether what is written for code tasks is run against the tests of the task's source.
    """

    splits: tuple[str, ...] = ()
    limit: int | None = None
    shots: int = 0
    new_tokens: int | None = None
    max_length: int | None = None
    seed: int = 0
    run_code: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on a target.

    Attributes:
        model: its name.
        target: the target's name.
        form: `raw` or `instruct`.
        records: what was measured, by task and template.
        results: what that comes to.
        classes: of each label or entity type of a raw task.
        predictions: of each example.
        notes: what a reader should know.
        loss: the loss a label of a classic head.
    """

    model: str
    target: str
    form: str
    records: tuple[Record, ...]
    results: Results
    classes: tuple[ClassScore, ...] = ()
    predictions: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    loss: float | None = None


Progress = Callable[[int], None]


def evaluate(
    model: ModelName, target: Target, options: Options | None = None, progress: Progress = lambda done: None
) -> Evaluation:
    """Return the figures of a model on a raw task or a mixture.

    Args:
        model: an id on the hub, a folder, or a finished run's folder.
        target: what `targets.resolve` gives.
        options: what to evaluate and how.
        progress: called with the examples that are done.

    Raises:
        UsageError: the target has no such split, or the model cannot be asked it.
        ModelError: the model cannot be opened, or its labels are not the task's.
        TaskmixError: the target cannot be read.
    """
    options = options or Options()
    run = _finished(model)
    if isinstance(target, PreparedTokens):
        raise UsageError("prepared tokens are for training", hint="name the task or the mixture")
    if isinstance(target, Mixture):
        opened, tokenizer = _language_model(model)
        groups = read_groups(
            target,
            options.splits or tuple(name for name in EVALUATED if target.lock["splits"].get(name, {}).get("rows")),
            tokenizer,
            limit=options.limit,
            shots=options.shots,
            seed=options.seed,
        )
        asked = _ask(opened, tokenizer, groups, options, None, progress)
        return _of_language(model, target.name, "instruct", asked, options)
    kind = target.entry.spec.kind
    if kind in HEAD_OF_KIND:
        return _classic(model, target, HEADS[HEAD_OF_KIND[kind]], options, run, progress)
    opened, tokenizer = _language_model(model)
    groups, tests = _raw_groups(target, options)
    asked = _ask(opened, tokenizer, groups, options, tests, progress)
    return _of_language(model, target.name, RAW, asked, options)


def _finished(model: ModelName) -> Mapping[str, Any]:
    """Return what a run's folder says of it; nothing for other models. Raises ModelError if it is not finished."""
    run = read_run(Path(model.name)) or {}
    if run and not run.get("done"):
        hint = "the same `mix train` goes on with it; its checkpoints are models too"
        raise ModelError("the run there is not finished", where=model.name, hint=hint)
    return run


def device() -> torch.device:
    """Return the device to evaluate on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _placed(opened: Any) -> Any:
    if torch.cuda.is_available():
        return opened.to(device(), torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
    return opened


def _language_model(model: ModelName) -> tuple[Any, Any]:
    if model.size is not None:
        raise UsageError("a model from scratch knows nothing yet", hint="train it first")
    head = HEADS["sequence-to-sequence" if is_seq2seq(model) else "causal-language-model"]
    tokenizer = open_tokenizer(model, head)
    return _placed(open_model(model, head, tokenizer)).eval(), tokenizer


def _ask(
    opened: Any,
    tokenizer: Any,
    groups: Sequence[Group],
    options: Options,
    tests: Mapping[str, Tests] | None,
    progress: Progress,
) -> Asked:
    fits = tokens_that_fit(tokenizer, opened.config)
    return ask(
        opened,
        tokenizer,
        groups,
        max_length=fits,
        new_tokens=options.new_tokens,
        tests=tests if options.run_code else None,
        progress=progress,
    )


def _of_language(model: ModelName, target: str, form: str, asked: Asked, options: Options) -> Evaluation:
    results = put_together(asked.records, options.seed)
    return Evaluation(
        model.name, target, form, asked.records, results, predictions=asked.predictions, notes=asked.notes
    )


def _raw_groups(target: RawTask, options: Options) -> tuple[list[Group], dict[str, Tests]]:
    """Return the rows of a text-generation task as they are, and tests of programs where it has a column of them."""
    groups, tests = [], dict[int, str]()
    with reading.open_raw(target) as reader:
        if reader.kind == "conversation":
            raise UsageError("a raw conversation is not evaluated", hint="evaluate on a mixture: --as instruct")
        for split in options.splits or ("validation",):
            _check_split(target, split, reader.splits)
            group = Group(split, target.name, target.entry.spec.cluster, reader.kind, RAW, PLAIN)
            for rows in reader.rows(split, options.limit, with_tests=options.run_code):
                for at, row in enumerate(rows["row"]):
                    number = int(row.rpartition(":")[2])
                    given = (rows["prompt"][at], rows["completion"][at], None, None, tuple(rows["references"][at]))
                    group.examples.append(Example(row, number, *given))
                    if "tests" in rows:
                        tests[number] = rows["tests"][at]
            groups.append(group)
    if options.run_code and not tests:
        hint = "map a column to it: `columns: {tests: …}`"
        raise UsageError(f"--run-code: the task {target.name} has no `tests`", hint=hint)
    return groups, {target.name: tests}


def _check_split(target: RawTask, split: str, known: Sequence[str]) -> None:
    if split not in known:
        raise UsageError(f"the task {target.name} has no split {quoted(split)}", hint=f"it has {', '.join(known)}")


def _classic(
    model: ModelName, target: RawTask, head: Head, options: Options, run: Mapping[str, Any], progress: Progress
) -> Evaluation:
    """Evaluate a model with the classic head of a task."""
    if model.size is not None:
        raise UsageError("a model from scratch knows nothing yet", hint="train it first")
    _check_head(model, head)
    wanted = Wanted(
        model,
        max_length=options.max_length or run.get("max_length"),
        limit=options.limit,
        splits=options.splits or ("validation",),
    )
    with reading.open_raw(target) as reader:
        for split in wanted.splits:
            _check_split(target, split, reader.splits)
    folder = prepare(target, wanted)
    manifest = read_manifest(folder)
    tokenizer = open_tokenizer(model, head)
    opened = open_model(model, head, tokenizer, manifest.labels, multi_label=manifest.multi_label)
    _check_labels(model, opened, manifest)
    placed = _placed(opened).eval()
    padding = Padding(tokenizer.pad_token_id, labels=len(manifest.labels) if manifest.multi_label else 0)
    records, classes, predictions, loss = [], tuple[ClassScore, ...](), list[Mapping[str, Any]](), None
    for split in wanted.splits:
        tokens = Tokens(folder / f"{split}.arrow")
        found = evaluate_split(placed, head, manifest, folder, split, tokens, padding, report=progress)
        records.append(_record(target, split, found))
        classes, loss = found.classes, found.loss
        pairs = zip(found.rows, found.predictions, strict=True)
        predictions += [{"id": row, "split": split, "prediction": made} for row, made in pairs]
    results = put_together(records, options.seed)
    notes = [
        f"{split}: {count:,} {what}" for split, each in manifest.splits.items() for what, count in each.tally.items()
    ]
    return Evaluation(
        model.name, target.name, RAW, tuple(records), results, classes, tuple(predictions), tuple(notes), loss
    )


def _record(target: RawTask, split: str, found: RawResult) -> Record:
    chance = baseline(found.gold, found.choices) if found.gold else None
    return Record(target.name, target.entry.spec.cluster, RAW, split, found.measures, baseline=chance)


def _config(model: ModelName) -> dict[str, Any]:
    """Return the configuration of a model in a folder; nothing for others, which are checked when they are opened."""
    try:
        found = json.loads((Path(model.name) / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


_HEADS: Mapping[str, str] = {
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
}


def _check_head(model: ModelName, head: Head) -> None:
    """Raise ModelError if a model's folder says that it has another head: a new one would be drawn at random."""
    known = _config(model).get("architectures") or []
    if known and not any(str(name).endswith(_HEADS[head.name]) for name in known):
        hint = "a language model is asked in words: --as instruct" if _writes(known) else "train it on the task first"
        raise ModelError(f"{known[0]} has no head for {head.name}", where=model.name, hint=hint)


def _writes(architectures: Sequence[str]) -> bool:
    return any(str(name).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in architectures)


def _check_labels(model: ModelName, opened: Any, manifest: Manifest) -> None:
    """Raise ModelError if the model's labels are not the task's, in order."""
    if not manifest.labels:
        return
    known = _config(model).get("id2label")
    own = [known[str(at)] for at in range(len(known))] if known else list(opened.config.id2label.values())
    if own != list(manifest.labels) and not all(str(word).startswith("LABEL_") for word in own):
        raise ModelError(
            f"its labels are {', '.join(map(str, own[:8]))}; the task's are {', '.join(manifest.labels[:8])}",
            where=model.name,
            hint="evaluate it on the task that it was trained on",
        )
