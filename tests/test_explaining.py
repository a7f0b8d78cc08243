"""Every row of a mixture can be traced to its source row and rendered again, alone, to the same bytes."""

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

import taskmix
from taskmix.cli import main
from taskmix.errors import OutputError, UsageError
from taskmix.explaining import explain

CATALOG = """\
version: 1
extends: builtin
mixtures:
  styled:
    tasks: [review-sentiment, plain-reasoning, worked-arithmetic, everyday-entailment, helpful-chats]
    holdout: {{clusters: [nli], templates: 1}}
    sampling: {{size: 1500, templates: 2}}
    styles: {{few_shot: {{share: 0.4}}, options: 0.5, chain_of_thought: 0.3, inverted: 0.1, system: Be brief.}}
    evaluation: {{rows: 5, few_shot: {{k: 2, splits: [validation, heldout]}}}}
    format: {form}
default_mixture: styled
"""


def build(folder: Path, form: str = "messages") -> tuple[taskmix.catalog.loading.Catalog, Path]:
    (folder / "catalog.yaml").write_text(CATALOG.format(form=form), "utf-8")
    catalog = taskmix.load_catalog(folder / "catalog.yaml")
    return catalog, taskmix.build(catalog=catalog, out=folder / "out").out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[taskmix.catalog.loading.Catalog, Path]:
    return build(tmp_path_factory.mktemp("styled"))


def rows(out: Path) -> pl.DataFrame:
    files = sorted((out / "data").glob("*.parquet"))
    found = [pl.read_parquet(file).with_columns(split=pl.lit(file.name.rsplit("-", 3)[0])) for file in files]
    return pl.concat(found)


def test_a_row_of_every_split_task_and_style_is_rendered_again(
    built: tuple[taskmix.catalog.loading.Catalog, Path],
) -> None:
    catalog, out = built
    whole = rows(out)
    chosen = whole.unique(["split", "task", "style"], keep="first", maintain_order=True)
    assert len(chosen) > 25
    assert {"few-shot", "few-shot+options", "chain-of-thought+few-shot", "inverted"} <= set(chosen["style"])
    for row in chosen.sample(25, seed=1).iter_rows(named=True):
        found = explain(out, row["id"], catalog=catalog, workers=1)
        assert found.same, (row["split"], row["task"], row["style"])
        assert found.split == row["split"]
        assert ("few-shot" in row["style"]) == bool(found.exemplars)
        assert row["source_row"] not in found.exemplars or found.exemplar_split != row["source_split"]


def test_worked_examples_are_rows_that_train(built: tuple[taskmix.catalog.loading.Catalog, Path]) -> None:
    catalog, out = built
    whole = rows(out)
    train = whole.filter(split="train")
    row = train.filter(task="review-sentiment", style="few-shot").row(0, named=True)
    found = explain(out, row["id"], catalog=catalog, workers=1)
    used = set(train.filter(task="review-sentiment", source_split=found.exemplar_split)["source_row"])
    assert set(found.exemplars) <= used
    # the text is that of the examples rendered alone
    for number in found.exemplars:
        same = train.filter(task="review-sentiment", template=row["template"], source_row=number, style="zero-shot")
        for other in same["messages"].to_list():
            assert other[-1]["content"] in row["messages"][-2]["content"]


@pytest.mark.parametrize("form", ["prompt-completion", "text", "alpaca", "sharegpt"])
def test_rows_of_every_format_are_rendered_again(form: str, tmp_path: Path) -> None:
    text = CATALOG.format(form=form)
    if form in ("prompt-completion", "text", "alpaca"):
        text = text.replace(", helpful-chats", "")
    (tmp_path / "catalog.yaml").write_text(text, "utf-8")
    catalog = taskmix.load_catalog(tmp_path / "catalog.yaml")
    out = taskmix.build(catalog=catalog, out=tmp_path / "out", limit=20).out
    for row in rows(out).sample(4, seed=2).iter_rows(named=True):
        assert explain(out, row["id"], catalog=catalog, workers=1).same


def test_a_row_that_is_not_there_is_said_to_be_so(built: tuple[taskmix.catalog.loading.Catalog, Path]) -> None:
    catalog, out = built
    with pytest.raises(UsageError, match="has no row 'abc'"):
        explain(out, "abc", catalog=catalog)


def test_what_has_changed_since_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "toy.jsonl").write_text("".join(f'{{"text": "t {n}", "label": {n % 2}}}\n' for n in range(50)), "utf-8")
    template = '- {name: say, instruction: "Say: {{ text }}", output: "{{ choices[label] }}"}\n'
    (tmp_path / "templates" / "toy.yaml").write_text(template, "utf-8")
    (tmp_path / "catalog.yaml").write_text(
        "version: 1\ntasks:\n  toy: {kind: text-classification, cluster: c, source: {path: toy.jsonl}, "
        "labels: [no, yes]}\nmixtures:\n  m: {tasks: [toy]}\ndefault_mixture: m\n",
        "utf-8",
    )
    catalog = taskmix.load_catalog(tmp_path / "catalog.yaml")
    out = taskmix.build(catalog=catalog, out=tmp_path / "out").out
    wanted = rows(out)["id"][0]
    arguments = ["explain", str(out), wanted, "--catalog", str(tmp_path / "catalog.yaml")]
    same = CliRunner().invoke(main, arguments)
    assert (same.exit_code, "rendered again: the same bytes" in same.output) == (0, True)
    (tmp_path / "templates" / "toy.yaml").write_text(template.replace("Say", "Tell"), "utf-8")
    other = CliRunner().invoke(main, arguments)
    assert (other.exit_code, "OTHER BYTES" in other.output) == (1, True)
    (tmp_path / "templates" / "toy.yaml").write_text(template.replace("name: say", "name: tell"), "utf-8")
    with pytest.raises(OutputError, match="does not become it any more"):
        explain(out, wanted, catalog=taskmix.load_catalog(tmp_path / "catalog.yaml"))
