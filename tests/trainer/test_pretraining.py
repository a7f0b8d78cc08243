"""The recipe of examples/pretraining: texts to chunks, and chunks to a model."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskmix_trainer.models.opening import ModelName
from taskmix_trainer.targets import RawTask, resolve
from taskmix_trainer.tokens.folder import read_manifest
from taskmix_trainer.tokens.preparing import Wanted, prepare

FOLDER = Path(__file__).parents[2] / "examples/pretraining"
CHUNKS: dict[str, Any] = runpy.run_path(str(FOLDER / "chunks.py"))


@pytest.mark.parametrize("most", [20, 60, 1000])
def test_chunks_have_all_words_in_order_and_none_is_too_long(most: int) -> None:
    text = (
        'One. Two three four.\r\n\r\nA paragraph of some length! And "more." Of it, on and on and on.\n\n\nlast\n'
        + "x" * 70
    )
    chunks = list(CHUNKS["chunks"](text, most))
    assert all(0 < len(chunk) <= most for chunk in chunks)
    assert "".join("".join(chunks).split()) == "".join(text.split())


def test_the_recipe_makes_a_task_of_text_generation_without_input(tmp_path: Path) -> None:
    works = [{"title": f"work {at}", "text": f"Of work {at}.\n\nIt is short, and ends here."} for at in range(40)]
    (tmp_path / "works.jsonl").write_text("".join(json.dumps(work) + "\n" for work in works), "utf-8")
    out, command = tmp_path / "data", [sys.executable, str(FOLDER / "chunks.py"), str(tmp_path / "works.jsonl")]
    subprocess.run([*command, "--out", str(out), "--validation", "0.2"], check=True)
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text((FOLDER / "catalog.yaml").read_text("utf-8"), "utf-8")
    target = resolve("books", catalog=catalog)
    assert isinstance(target, RawTask)
    found = read_manifest(prepare(target, Wanted(ModelName("scratch:tiny")), tmp_path / "tokens"))
    assert found.head == "causal-language-model"
    assert found.splits["train"].rows + found.splits["validation"].rows == 40
    assert not found.splits["train"].tally
