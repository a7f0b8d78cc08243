"""What a card says of its sources' licences, and that the hub takes it."""

from pathlib import Path

import pytest

import taskmix
from taskmix.catalog import builtin
from taskmix.output.licences import for_hub, group, warnings
from taskmix.output.lock import verify
from tests.hub.cards import faults_of_card


@pytest.mark.parametrize(
    ("licences", "said"),
    [
        (["mit", "apache-2.0", "cc0-1.0", "cc-by-4.0"], []),
        (["cc-by-sa-4.0", "cc-by-sa-3.0", "mit"], []),
        (["unknown"], ["no licence is known of t0: nothing says that these rows may be passed on"]),
        (["other"], ["other (t0) has terms of its own: read them before you pass these rows on"]),
        (["Our Terms"], ["our terms (t0) has terms of its own: read them before you pass these rows on"]),
        (["cc-by-nd-4.0"], ["cc-by-nd-4.0 (t0) forbids to pass on what was changed, as every row of a mixture is"]),
        (["cc-by-nc-4.0", "mit"], ["cc-by-nc-4.0: the whole may not be used commercially"]),
        (["CC-BY-NC-SA-4.0"], ["cc-by-nc-sa-4.0: the whole may not be used commercially"]),
        (
            ["cc-by-sa-4.0", "gpl-3.0"],
            ["cc-by-sa-4.0 and gpl-3.0 each demand that the whole is under their own terms: no licence meets both"],
        ),
        (
            ["cc-by-nc-4.0", "cc-by-sa-4.0"],
            [
                "commercial use is forbidden by cc-by-nc-4.0, to be allowed by cc-by-sa-4.0: "
                "no licence of the whole meets both"
            ],
        ),
    ],
)
def test_what_stands_in_the_way_of_passing_a_mixture_on(licences: list[str], said: list[str]) -> None:
    assert warnings(group((f"t{number}", licence) for number, licence in enumerate(licences))) == said


def test_names_that_the_hub_does_not_know_are_other() -> None:
    assert for_hub(["MIT", "mit", "our own", "cc0-1.0"]) == ["cc0-1.0", "mit", "other"]


def test_the_hub_takes_the_card_and_it_warns_of_terms(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "toy.jsonl").write_text('{"text": "fine", "label": 1}\n' * 4)
    template = '- {name: t, instruction: Good?, input: "{{ text }}", output: "{{ choices[label] }}"}\n'
    (tmp_path / "templates" / "toy.yaml").write_text(template)
    entry = "{kind: text-classification, cluster: c, source: {path: toy.jsonl}, labels: [a, b], templates: toy, "
    (tmp_path / "catalog.yaml").write_text(
        f"version: 1\ntasks:\n  one: {entry}license: cc-by-sa-4.0}}\n  two: {entry}license: [gpl-3.0, my-own]}}\n"
        "mixtures: {m: {tasks: ['*']}}\n"
    )
    built = taskmix.build("m", catalog=taskmix.load_catalog(tmp_path / "catalog.yaml"), out=tmp_path / "out")
    card = (built.out / "README.md").read_text("utf-8")
    assert faults_of_card(card) == ([], [])
    assert "- cc-by-sa-4.0\n- gpl-3.0\n- other\n" in card
    assert "each demand that the whole is under their own terms" in card
    assert "my-own (two) has terms of its own" in card


def test_the_hub_takes_the_card_of_the_starter_mixture(tmp_path: Path) -> None:
    catalog = taskmix.load_catalog(builtin.catalog_path())
    built = taskmix.build("starter", catalog=catalog, out=tmp_path / "out", limit=2)
    assert faults_of_card((built.out / "README.md").read_text("utf-8")) == ([], [])
    assert "## Licences" not in (built.out / "README.md").read_text("utf-8")
    assert verify(built.out)
