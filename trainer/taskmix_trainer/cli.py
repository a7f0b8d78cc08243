"""`mix train`, `mix eval` and `mix compare`: each parses, calls one function and prints what that gives.

Nothing here imports PyTorch before a command runs, so that `mix --help` stays quick.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskmix.cli.params import AnyName, catalog_option, json_option, mirror_option
from taskmix.errors import OutputError, UsageError
from taskmix_trainer.runs import write_whole

if TYPE_CHECKING:
    from taskmix_trainer.tokens.preparing import Wanted

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "sklearn", "sacrebleu", "tensorboard", "tokenizers")
_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def trainer_packages() -> Iterator[None]:
    """Turn a package that is not installed into a message that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _PACKAGES:
            raise
        raise UsageError(
            f"training and evaluating need the package {error.name}", hint="pip install 'taskmix[train]'"
        ) from None


def _pairs(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Return KEY=VALUE pairs, values read as JSON where they are."""
    found: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


class _Any(AnyName):
    name = "target"


model_option = click.option(
    "--model",
    metavar="MODEL",
    help="An id on the hub, a folder, or scratch:tiny, scratch:small or scratch:base for random weights.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "fp32"]),
    default="auto",
    show_default=True,
    help="What the forward pass computes in; auto is bf16 on GPUs that have it.",
)
form_option = click.option(
    "--as", "form", type=click.Choice(["raw", "instruct"]), help="The task with its classic head, or as instructions."
)


@click.command(epilog="Example: mix train review-sentiment --model scratch:tiny --epochs 5 --out runs/review-sentiment")
@click.argument("target", type=_Any())
@model_option
@form_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/TARGET]")
@catalog_option
@mirror_option
@click.option("--revision", help="A branch, tag or commit of a model on the hub.")
@click.option("--head", help="Another head than the target's: causal-language-model or sequence-to-sequence.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Passes over the training split.")
@click.option("--steps", type=click.IntRange(1), help="At most so many steps.")
@click.option("--learning-rate", "--lr", type=click.FloatRange(0, min_open=True), help="The highest.")
@click.option("--batch-size", type=click.IntRange(1), help="Examples a step, over all devices.")
@click.option(
    "--batch-tokens",
    type=click.IntRange(1),
    help="Tokens a step, over all devices; at least 20 steps an epoch by default.",
)
@click.option("--micro-tokens", type=click.IntRange(1), help="Tokens that one device takes at a time.")
@click.option("--accumulate", type=click.IntRange(1), help="Parts that a step of --batch-size is cut into.")
@click.option("--max-length", type=click.IntRange(8), help="The most tokens of an example.")
@click.option("--stride", type=click.IntRange(1), default=128, show_default=True, help="Tokens that windows share.")
@click.option(
    "--too-long",
    type=click.Choice(["drop", "cut"]),
    default="drop",
    show_default=True,
    help="What becomes of an instruction example over --max-length: dropped, or its prompt cut at the front.",
)
@click.option("--limit", type=click.IntRange(1), help="At most so many rows a split.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order, and of new weights.")
@click.option("--lora", type=click.IntRange(1), metavar="RANK", help="Train low-rank adapters of this rank alone.")
@click.option("--compile/--no-compile", default=False, help="Compile the model's layers.")
@precision_option
@click.option("--pack/--no-pack", default=True, help="Lay examples side by side, where the model can.  [default: pack]")
@click.option(
    "--eval-every", type=click.IntRange(1), metavar="STEPS", help="Evaluate so often.  [default: once an epoch]"
)
@click.option(
    "--save-every", type=click.IntRange(1), metavar="STEPS", help="Save so often.  [default: as --eval-every]"
)
@click.option("--best", is_flag=True, help="Keep the best checkpoint rather than the last.")
@click.option("--patience", type=click.IntRange(1), help="Stop after so many evaluations without a better one.")
@click.option("--resume/--no-resume", default=True, help="Go on with an unfinished run.  [default: resume]")
@click.option("--force", is_flag=True, help="Replace a run that is there.")
@click.option(
    "--prepare",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write tokens to DIR and stop; DIR is a TARGET then, on a machine that needs neither Polars nor datasets.",
)
@click.option(
    "--report-to",
    multiple=True,
    type=click.Choice(["tensorboard", "wandb", "trackio"]),
    help="Where figures go besides history.jsonl.",
)
@click.option(
    "--set", "more", multiple=True, metavar="KEY=VALUE", callback=_pairs, help="Any of transformers' TrainingArguments."
)
@json_option
def train(target: str, catalog: Path | None, mirror: Path | None, **options: Any) -> None:
    """Train a model on TARGET: a task of the catalog with its classic head, a mixture, or prepared tokens.

    TARGET is a name of the catalog, the folder of a mixture, hf://datasets/ORG/NAME, or a folder of --prepare. What
    is not built is built first. A run that was cut off goes on where it was when the same command is given again.
    """
    with trainer_packages():
        _train(target, catalog, mirror, options)


def _train(target: str, catalog: Path | None, mirror: Path | None, options: dict[str, Any]) -> None:
    _remarks()
    from taskmix_trainer.quiet import without_datasets

    with without_datasets():
        from taskmix_trainer.training.running import train as run
    from taskmix_trainer.models.opening import ModelName
    from taskmix_trainer.processes import first_goes_first, rank
    from taskmix_trainer.targets import PreparedTokens, resolve
    from taskmix_trainer.tokens.preparing import Wanted, prepare
    from taskmix_trainer.training.settings import Settings

    form, folder = options.pop("form"), options.pop("prepare")
    with first_goes_first(on_cpu=_on_cpu(options)):
        found = resolve(target, catalog=catalog, mirror=mirror, form=form)
    name, revision = options.pop("model"), options.pop("revision")
    if isinstance(found, PreparedTokens):
        name = name or found.manifest.model
    elif name is None:
        raise UsageError("which model?", hint="--model bert-base-uncased, a folder, or --model scratch:tiny")
    model = ModelName(name, revision)
    wanted = Wanted(model, **{key: options.pop(key) for key in ("head", "max_length", "stride", "too_long", "limit")})
    as_json, out = options.pop("as_json"), options.pop("out")
    if isinstance(found, PreparedTokens):
        _check_prepared(wanted, folder)
        tokens = found.folder
    else:
        with first_goes_first(on_cpu=_on_cpu(options)):
            tokens = prepare(found, wanted, folder)
    if folder is not None:
        click.echo(_prepared(tokens, as_json=as_json), nl=as_json)
        return
    reports = options.pop("report_to")
    more = {**options.pop("more"), **({"report_to": list(reports)} if reports else {})}
    # a folder of tokens is named after what is in it
    label = found.name if "/" not in found.name else Path(found.name).name
    settings = Settings(model, out or Path("runs") / label, more=more, **options)
    trained = run(tokens, settings)
    if trained.ended_early:
        if not rank():
            click.echo(f"{trained.out}: stopped after step {trained.steps:,}; the same command goes on", err=True)
        sys.exit(143)
    if rank():
        return
    result = {"out": str(trained.out), "steps": trained.steps, "metrics": dict(trained.metrics)}
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(f"{trained.out}: {trained.steps:,} steps")
    for metric, value in trained.metrics.items():
        if not metric.endswith(("_runtime", "_per_second")):
            click.echo(f"  validation {metric:<16} {value:.4f}")
    click.echo(f"  curves in {trained.out / 'report.html'}")


def _check_prepared(wanted: "Wanted", folder: Path | None) -> None:
    """Raise UsageError for options that say how to make tokens which are there."""
    given = {"--head": wanted.head, "--max-length": wanted.max_length, "--limit": wanted.limit, "--prepare": folder}
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} says how tokens are made, and these are made", hint="prepare them again")


def _prepared(tokens: Path, *, as_json: bool) -> str:
    from taskmix_trainer.tokens.folder import read_manifest

    manifest = read_manifest(tokens)
    if as_json:
        return (tokens / "tokens.json").read_text("utf-8")
    lines = [f"{tokens}: {manifest.target} for {manifest.head}, at most {manifest.max_length:,} tokens each"]
    for name, split in manifest.splits.items():
        lost = "".join(f", {count:,} {what}" for what, count in split.tally.items())
        lines.append(f"  {name}: {split.rows:,} rows, {split.features:,} examples, {split.tokens:,} tokens{lost}")
    return "\n".join(lines) + "\n"


def _on_cpu(options: Mapping[str, Any]) -> bool:
    import torch

    return not torch.cuda.is_available() or bool(options["more"].get("use_cpu"))


def _remarks() -> None:
    """Show what the trainer logs on stderr, and of transformers errors alone."""
    from transformers.utils import logging as theirs

    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    logging.getLogger("taskmix.trainer").setLevel(logging.INFO)


@click.command("eval", epilog="Example: mix eval runs/review-sentiment review-sentiment")
@click.argument("names", nargs=-1, required=True, metavar="[MODEL] TARGET", type=_Any())
@form_option
@catalog_option
@mirror_option
@click.option("--revision", help="A branch, tag or commit of a model on the hub.")
@click.option("--split", "splits", multiple=True, help="[default: validation, of a mixture all evaluation splits]")
@click.option("--limit", type=click.IntRange(1), help="At most so many source rows a task and split.")
@click.option("--shots", type=click.IntRange(0), default=0, show_default=True, help="Worked examples before each row.")
@click.option(
    "--max-new-tokens", "new_tokens", type=click.IntRange(1), help="Of an answer.  [default: 128, of code 512]"
)
@click.option(
    "--max-length", type=click.IntRange(8), help="Tokens of a feature, for classic heads.  [default: the run's]"
)
@click.option(
    "--stride", type=click.IntRange(1), help="Tokens that windows share, for question answering.  [default: the run's]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of worked examples and intervals.")
@click.option(
    "--separator-scored",
    is_flag=True,
    help="Score white space that ends a prompt with each choice, as lm-evaluation-harness does.",
)
@click.option("--run-code", is_flag=True, help="Run what is written for code tasks against their tests, sandboxed.")
@click.option("--templates", is_flag=True, help="Show the figures of each template too.")
@click.option("--out", type=click.Path(path_type=Path), help="Write figures to this file (JSON), or the --export here.")
@click.option("--predictions", type=click.Path(path_type=Path, dir_okay=False), help="Write predictions (JSON lines).")
@click.option("--export", type=click.Choice(["lm-eval"]), help="Write TARGET's held-out tasks for another evaluator.")
@json_option
def evaluate(
    names: tuple[str, ...],
    form: Any,
    catalog: Path | None,
    mirror: Path | None,
    revision: str | None,
    export: str | None,
    **options: Any,
) -> None:
    """Measure MODEL on TARGET: a task of the catalog with its classic head, or a mixture.

    Of a mixture: seen tasks, unseen phrasings and held-out tasks. Where there are choices the likeliest is taken, by
    the sum of its tokens' log-probabilities and by that for its length; elsewhere an answer is written and compared
    with the references. Of each task the median over its templates, with a bootstrap interval, beside majority and
    chance.
    """
    if len(names) != (1 if export else 2):
        raise UsageError("--export takes a TARGET alone" if export else "name a MODEL and a TARGET")
    with trainer_packages():
        _remarks()
        from taskmix_trainer.targets import resolve

        found = resolve(names[-1], catalog=catalog, mirror=mirror, form=form)
        if export:
            _export(found, options["splits"], options["out"], options["limit"])
        else:
            _evaluate(names[0], revision, found, {**options, "catalog": catalog, "mirror": mirror})


def _evaluate(name: str, revision: str | None, target: Any, options: dict[str, Any]) -> None:
    from taskmix_trainer.evaluation import shown
    from taskmix_trainer.evaluation.running import Options, evaluate
    from taskmix_trainer.models.opening import ModelName

    shows = {key: options.pop(key) for key in ("templates", "out", "predictions", "as_json")}
    with counting("evaluated") as report:
        done = evaluate(ModelName(name, revision), target, Options(**options), report)
    if shows["out"]:
        _write(shows["out"], shown.as_json(done))
    if shows["predictions"]:
        lines = (json.dumps(each, ensure_ascii=False) + "\n" for each in done.predictions)
        _write(shows["predictions"], "".join(lines))
    click.echo(shown.as_json(done) if shows["as_json"] else shown.as_text(done, templates=shows["templates"]), nl=False)
    for note in done.notes:
        click.echo(note, err=True)


def _export(target: Any, splits: tuple[str, ...], out: Path | None, limit: int | None) -> None:
    from taskmix_trainer.evaluation.exporting import export_lm_eval
    from taskmix_trainer.targets import Mixture

    if not isinstance(target, Mixture):
        raise UsageError("only mixtures have held-out tasks to export", hint="--as instruct makes one of a task")
    folder = out or Path("lm-eval") / target.name
    written = export_lm_eval(target, splits or ("heldout",), folder, limit)
    click.echo(f"{folder}: {written:,} tasks; now: lm_eval --include_path {folder} --tasks taskmix-{target.name}")


@contextmanager
def counting(done: str) -> Iterator[Any]:
    """Yield what is called with numbers of examples; they are counted on stderr, on a terminal live."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        last = time.monotonic()

        def say(count: int) -> None:
            nonlocal last
            if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                click.echo(f"{count:,} {done}", err=True)

        yield say
        return
    columns = (TextColumn("{task.completed:,} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task(done, total=None)
        yield lambda count: bar.update(shown, completed=count)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all, in a folder that need not be there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(path)) from None


@click.command(epilog="Example: mix compare starter --task review-sentiment --model scratch:tiny --epochs 3 --limit 20")
@click.argument("name", type=_Any(), metavar="MIXTURE")
@click.option("--task", required=True, help="The task that the second model is fine-tuned on.")
@model_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder of everything.  [default: runs/compare-MIXTURE]")
@catalog_option
@mirror_option
@click.option("--revision", help="A branch, tag or commit of a model on the hub.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Passes, in both runs.")
@click.option("--steps", type=click.IntRange(1), help="At most so many steps, in both runs.")
@click.option("--learning-rate", "--lr", type=click.FloatRange(0, min_open=True), help="The highest.")
@click.option("--batch-tokens", type=click.IntRange(1), help="Tokens a step.")
@click.option("--micro-tokens", type=click.IntRange(1), help="Tokens that one device takes at a time.")
@click.option("--max-length", type=click.IntRange(8), help="The most tokens of an example.")
@precision_option
@click.option("--limit", type=click.IntRange(1), help="At most so many source rows a task to evaluate.")
@click.option("--shots", type=click.IntRange(0), default=0, show_default=True, help="Worked examples before each row.")
@click.option(
    "--max-new-tokens", "new_tokens", type=click.IntRange(1), help="Of an answer.  [default: 128, of code 512]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything that is drawn.")
@json_option
def compare(name: str, task: str, catalog: Path | None, mirror: Path | None, as_json: bool, **options: Any) -> None:
    """Take MODEL three ways, and ask each the same: as it is, fine-tuned on TASK, instruction-tuned on MIXTURE.

    Each is measured on the task, on the other tasks that the mixture trains on, and on those that it holds out, beside
    majority and chance. Runs that are done are not done again.
    """
    with trainer_packages():
        _remarks()
        _compare(name, task, catalog, mirror, options, as_json=as_json)


def _compare(
    name: str, task: str, catalog: Path | None, mirror: Path | None, options: dict[str, Any], *, as_json: bool
) -> None:
    from taskmix_trainer import comparing
    from taskmix_trainer.evaluation.running import Options
    from taskmix_trainer.models.opening import ModelName
    from taskmix_trainer.targets import Mixture, resolve
    from taskmix_trainer.tokens.preparing import Wanted
    from taskmix_trainer.training.settings import Settings

    if options["model"] is None:
        raise UsageError("which model?", hint="--model with an id on the hub, a folder, or scratch:tiny")
    model = ModelName(options.pop("model"), options.pop("revision"))
    found = resolve(name, catalog=catalog, mirror=mirror, form="instruct")
    single = resolve(task, catalog=catalog, mirror=mirror, form="instruct")
    assert isinstance(found, Mixture)
    assert isinstance(single, Mixture)
    wanted = Wanted(model, max_length=options.pop("max_length"))
    asked = {key: options.pop(key) for key in ("limit", "shots", "new_tokens")}
    out = options.pop("out") or Path("runs") / f"compare-{found.name}"
    made = comparing.compare(
        found,
        single,
        task,
        Settings(model, out, **options),
        wanted,
        Options(**asked, seed=options["seed"]),
        say=lambda text: click.echo(text, err=True),
        counting=lambda: counting("evaluated"),
    )
    comparing.write(made, out)
    click.echo(comparing.as_json(made) if as_json else comparing.as_markdown(made), nl=False)


COMMANDS: Mapping[str, click.Command] = {"train": train, "eval": evaluate, "compare": compare}
"""The commands that this package adds to `mix`."""
