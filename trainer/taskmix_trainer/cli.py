"""`mix train`: it parses, calls one function and prints what that gives.

Nothing here imports PyTorch before a command runs, so that `mix --help` stays quick.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskmix.cli.params import AnyName, catalog_option, json_option, mirror_option
from taskmix.errors import UsageError

if TYPE_CHECKING:
    from taskmix_trainer.tokens.preparing import Wanted

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "sklearn", "sacrebleu", "tensorboard", "tokenizers")


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
@click.option("--learning-rate", "--lr", type=click.FloatRange(0, min_open=True))
@click.option("--batch-size", type=click.IntRange(1), help="Examples a step, over all devices.")
@click.option("--batch-tokens", type=click.IntRange(1), help="Tokens a step, over all devices.")
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
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--lora", type=click.IntRange(1), metavar="RANK", help="Train low-rank adapters of this rank alone.")
@click.option("--compile/--no-compile", default=False, help="Compile the model's layers.")
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True)
@click.option("--pack/--no-pack", default=True, help="Lay examples side by side, where the model can.  [default: pack]")
@click.option("--eval-every", type=click.IntRange(1), metavar="STEPS", help="[default: once an epoch]")
@click.option("--save-every", type=click.IntRange(1), metavar="STEPS", help="[default: as --eval-every]")
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


COMMANDS: Mapping[str, click.Command] = {"train": train}
"""The commands that this package adds to `mix`."""
