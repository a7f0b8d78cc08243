"""`mix eval`: a model and a target, to figures."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from taskmix.errors import UsageError
from taskmix.text import quoted, visible
from taskmix_trainer import reading
from taskmix_trainer.errors import ModelError
from taskmix_trainer.evaluation.classification import ClassScore
from taskmix_trainer.evaluation.mixtures import Asked, ask
from taskmix_trainer.evaluation.posing import CHATS, PLAIN, Example, Group, read_groups
from taskmix_trainer.evaluation.programs import Programs, no_tests, programs_of_mixture, programs_of_task
from taskmix_trainer.evaluation.raw import RawResult, evaluate_split, gold_in_words
from taskmix_trainer.evaluation.sandbox import isolation
from taskmix_trainer.evaluation.scores import Record, Results, put_together
from taskmix_trainer.evaluation.statistics import baseline
from taskmix_trainer.heads import HEAD_OF_KIND, HEADS, Head, spans
from taskmix_trainer.heads.base import Padding
from taskmix_trainer.models.opening import ADAPTER, ModelName, open_model, open_tokenizer, tokens_that_fit
from taskmix_trainer.runs import read_run
from taskmix_trainer.targets import Mixture, PreparedTokens, RawTask, Target
from taskmix_trainer.tokens.folder import Manifest, Tokens, read_manifest
from taskmix_trainer.tokens.preparing import Wanted, is_seq2seq, kept_rows, prepare

EVALUATED = ("validation", "heldout_templates", "heldout")
"""The evaluation splits of a mixture."""
SEQ2SEQ = "sequence-to-sequence"
RAW = "raw"
"""What a task's raw form is called where templates have names."""

_LOG = logging.getLogger("taskmix.trainer")


@dataclass(frozen=True)
class Options:
    """What to evaluate and how.

    Attributes:
        splits: by default `validation` of a raw task, all evaluation splits of a mixture.
        limit: at most so many source rows a task and split.
        shots: worked examples before each row of a mixture.
        new_tokens: tokens that are written at most.
        max_length: the most tokens of a feature of a raw task; by default that of the training run.
        stride: tokens that windows over a long context share; by default that of the training run.
        seed: of worked examples and bootstraps.
        separator_scored: whether white space that ends a prompt is scored with each choice: the rule of
            lm-evaluation-harness, whose accuracies are then the same.
        run_code: whether what is written for code tasks is run against the tests of the task's source.
        catalog: where the tasks of a mixture are looked up for their tests.
        mirror: a folder with copies of hub datasets, for the same.
    """

    splits: tuple[str, ...] = ()
    limit: int | None = None
    shots: int = 0
    new_tokens: int | None = None
    max_length: int | None = None
    stride: int | None = None
    seed: int = 0
    separator_scored: bool = False
    run_code: bool = False
    catalog: Path | None = None
    mirror: Path | None = None


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
    options = replace(options, splits=tuple(dict.fromkeys(options.splits)))
    run = _finished(model)
    if isinstance(target, PreparedTokens):
        raise UsageError("prepared tokens are for training", hint="name the task or the mixture")
    if isinstance(target, Mixture):
        return _of_mixture(model, target, options, progress)
    kind = target.entry.spec.kind
    if kind in HEAD_OF_KIND:
        return _classic(model, target, HEADS[HEAD_OF_KIND[kind]], options, run, progress)
    groups = _raw_groups(target, options)
    programs = {target.name: programs_of_task(target)} if options.run_code else {}
    if options.run_code and not programs[target.name]:
        raise no_tests(f"the task {target.name}")
    opened, tokenizer = _language_model(model)
    return _of_language(model, target.name, RAW, _ask(opened, tokenizer, groups, options, programs, progress), options)


def _of_mixture(model: ModelName, target: Mixture, options: Options, progress: Progress) -> Evaluation:
    """Evaluate a language model on a mixture."""
    splits = options.splits or tuple(name for name in EVALUATED if target.lock["splits"].get(name, {}).get("rows"))
    head, tokenizer = _tokenizer(model)
    groups = read_groups(
        target,
        splits or EVALUATED,
        tokenizer,
        limit=options.limit,
        shots=options.shots,
        seed=options.seed,
        encoder=head.name == SEQ2SEQ,
    )
    programs = programs_of_mixture(target, groups, options.catalog, options.mirror) if options.run_code else {}
    opened = _placed(open_model(model, head, tokenizer)).eval()
    asked = _ask(opened, tokenizer, groups, options, programs, progress, is_chat=target.format in CHATS)
    return _of_language(model, target.name, "instruct", asked, options)


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


def _tokenizer(model: ModelName) -> tuple[Head, Any]:
    """Return the head and the tokenizer of a language model."""
    if model.size is not None:
        raise UsageError("a model from scratch knows nothing yet", hint="train it first")
    head = HEADS[SEQ2SEQ if is_seq2seq(model) else "causal-language-model"]
    _check_writes(model)
    return head, open_tokenizer(model, head)


def _language_model(model: ModelName) -> tuple[Any, Any]:
    head, tokenizer = _tokenizer(model)
    return _placed(open_model(model, head, tokenizer)).eval(), tokenizer


def _ask(
    opened: Any,
    tokenizer: Any,
    groups: Sequence[Group],
    options: Options,
    programs: Mapping[str, Programs],
    progress: Progress,
    *,
    is_chat: bool = False,
) -> Asked:
    if programs:
        _LOG.info("--run-code: %s: %s", ", ".join(programs), isolation().words)
    return ask(
        opened,
        tokenizer,
        groups,
        max_length=tokens_that_fit(tokenizer, opened.config),
        new_tokens=options.new_tokens,
        separator_scored=options.separator_scored,
        complete=is_chat,
        programs=programs,
        progress=progress,
    )


def _of_language(model: ModelName, target: str, form: str, asked: Asked, options: Options) -> Evaluation:
    results = put_together(asked.records, options.seed)
    return Evaluation(
        model.name, target, form, asked.records, results, predictions=asked.predictions, notes=asked.notes
    )


def _raw_groups(target: RawTask, options: Options) -> list[Group]:
    """Return the rows of a text-generation task as they are."""
    if options.shots:
        raise UsageError(
            "worked examples come before rows of mixtures alone", hint="--as instruct, or leave out --shots"
        )
    groups = []
    with reading.open_raw(target) as reader:
        if reader.kind == "conversation":
            raise UsageError("a raw conversation is not evaluated", hint="evaluate on a mixture: --as instruct")
        for split in options.splits or ("validation",):
            _check_split(target, split, reader.splits)
            group = Group(split, target.name, target.entry.spec.cluster, reader.kind, RAW, PLAIN)
            for rows in reader.rows(split, options.limit):
                for at, row in enumerate(rows["row"]):
                    source, _, number = row.rpartition(":")
                    given = (rows["prompt"][at], rows["completion"][at], None, None, tuple(rows["references"][at]))
                    group.examples.append(Example(row, int(number), *given, source_split=source))
            groups.append(group)
    return groups


def _check_split(target: RawTask, split: str, known: Sequence[str]) -> None:
    if split == "train":
        raise UsageError("train is for training, not for evaluation", hint=f"the task has {', '.join(known)}")
    if split not in known:
        raise UsageError(f"the task {target.name} has no split {quoted(split)}", hint=f"it has {', '.join(known)}")


def _classic(
    model: ModelName, target: RawTask, head: Head, options: Options, run: Mapping[str, Any], progress: Progress
) -> Evaluation:
    """Evaluate a model with the classic head of a task."""
    if model.size is not None:
        raise UsageError("a model from scratch knows nothing yet", hint="train it first")
    _check_head(model, head)
    if options.shots or options.run_code or options.new_tokens:
        given = "--shots" if options.shots else "--run-code" if options.run_code else "--max-new-tokens"
        raise UsageError(f"{given} is for language models, not for the head {head.name}", hint=f"leave out {given}")
    if options.stride is not None and head.name != spans.HEAD.name:
        raise UsageError(f"--stride is for question answering, not for the head {head.name}", hint="leave out --stride")
    remembered = _remembered(head, options, run)
    wanted = Wanted(
        model,
        max_length=options.max_length or remembered.get("max_length"),
        stride=options.stride or remembered.get("stride", Wanted.stride),
        limit=options.limit,
        splits=options.splits or ("validation",),
    )
    with reading.open_raw(target) as reader:
        for split in wanted.splits:
            _check_split(target, split, reader.splits)
    folder = prepare(target, wanted)
    manifest = read_manifest(folder)
    tokenizer = open_tokenizer(model, head)
    _check_labels(model, manifest)
    opened = open_model(model, head, tokenizer, manifest.labels, multi_label=manifest.multi_label)
    placed = _placed(opened).eval()
    padding = Padding(tokenizer.pad_token_id, labels=len(manifest.labels) if manifest.multi_label else 0)
    records, predictions, found = [], list[Mapping[str, Any]](), None
    for split in wanted.splits:
        if not manifest.splits[split].features:
            raise UsageError(f"the task {target.name} has no rows in {quoted(split)}")
        tokens = Tokens(folder / f"{split}.arrow")
        found = evaluate_split(placed, head, manifest, folder, split, tokens, padding, report=progress)
        records.append(_record(target, split, found))
        triples = zip(found.rows, found.predictions, kept_rows(folder, split), strict=True)
        predictions += [
            {"id": name, "split": split, "prediction": made, "right": gold_in_words(row, manifest)}
            for name, made, row in triples
        ]
    alone = found if len(wanted.splits) == 1 else None
    return Evaluation(
        model=model.name,
        target=target.name,
        form=RAW,
        records=tuple(records),
        results=put_together(records, options.seed),
        classes=alone.classes if alone else (),
        predictions=tuple(predictions),
        notes=(
            *_as_trained(remembered),
            *(
                f"{split}: {count:,} {what}"
                for split, each in manifest.splits.items()
                for what, count in each.tally.items()
            ),
        ),
        loss=alone.loss if alone else None,
    )


def _remembered(head: Head, options: Options, run: Mapping[str, Any]) -> dict[str, int]:
    """Return how a run's features were made, as far as options do not say otherwise."""
    names = ("max_length", "stride") if head.name == spans.HEAD.name else ("max_length",)
    # a run that is older than its record of strides has none
    return {name: run[name] for name in names if getattr(options, name) is None and run.get(name)}


def _as_trained(remembered: Mapping[str, int]) -> list[str]:
    """Return in words what an evaluation takes from its run."""
    words = {"max_length": "at most {:,} tokens", "stride": "windows that share {:,}"}
    found = ", ".join(words[name].format(value) for name, value in remembered.items())
    return [f"as in training: {found}"] if found else []


def _record(target: RawTask, split: str, found: RawResult) -> Record:
    chance = baseline(found.gold, found.choices) if found.gold else None
    return Record(target.name, target.entry.spec.cluster, RAW, split, found.measures, baseline=chance)


def _config(model: ModelName) -> dict[str, Any]:
    """Return the configuration of a model; of an adapter nothing, since it is its base model that has one.

    Raises:
        ModelError: there is no such model.
    """
    from transformers import PretrainedConfig

    folder = Path(model.name)
    if (folder / ADAPTER).is_file() and not (folder / "config.json").is_file():
        return {}
    try:
        found, _ = PretrainedConfig.get_config_dict(
            model.name, **({"revision": model.revision} if model.revision else {})
        )
    except (OSError, ValueError) as error:
        hint = "a model is an id on the hub, or a folder"
        raise ModelError(
            f"cannot be opened: {visible(str(error).splitlines()[0])}", where=model.name, hint=hint
        ) from None
    return dict(found)


_HEADS: Mapping[str, str] = {
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
}
_WRITE_NOTHING = (*_HEADS.values(), "ForMaskedLM", "ForPreTraining")


def _check_head(model: ModelName, head: Head) -> None:
    """Raise ModelError if a model's configuration says that it has another head: a new one would be drawn at random."""
    known = _config(model).get("architectures") or []
    if known and not any(str(name).endswith(_HEADS[head.name]) for name in known):
        hint = "a language model is asked in words: --as instruct" if _writes(known) else "train it on the task first"
        raise ModelError(f"{known[0]} has no head for {head.name}", where=model.name, hint=hint)


def _check_writes(model: ModelName) -> None:
    """Raise ModelError if a model's configuration says that it writes no text."""
    known = _config(model).get("architectures") or []
    if known and all(str(name).endswith(_WRITE_NOTHING) for name in known):
        hint = "a mixture is for language models; a classic head is evaluated on its task"
        raise ModelError(f"{known[0]} writes no text", where=model.name, hint=hint)


def _writes(architectures: Sequence[str]) -> bool:
    return any(str(name).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in architectures)


def _check_labels(model: ModelName, manifest: Manifest) -> None:
    """Raise ModelError if the model's labels are not the task's, in order.

    Names that transformers gives for want of others say only how many there are.
    """
    config = _config(model)
    if not manifest.labels or not config:
        return
    known = {int(at): str(word) for at, word in (config.get("id2label") or {}).items()}
    # two labels without names are the default, which configurations leave out
    own = [known[at] for at in sorted(known)] or ["LABEL_0", "LABEL_1"]
    named = not all(word.startswith("LABEL_") for word in own)
    if len(own) != len(manifest.labels) or (named and own != list(manifest.labels)):
        wanted = f"{len(manifest.labels)}: {_listed(manifest.labels)}"
        raise ModelError(
            f"its {len(own)} labels are {_listed(own)}; the task has {wanted}",
            where=model.name,
            hint="evaluate it on the task that it was trained on",
        )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:8]) + (", …" if len(words) > 8 else "")
