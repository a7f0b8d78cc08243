"""SST-2 by a loop of PyTorch alone, on the rows of `finetune.py`: is what `mix train` reaches what the recipe gives?

    python benchmarks/plain_loop.py --model FOLDER [--data ../shared/data] [--rows 10000] [--learning-rate 2e-5]

AdamW with a weight decay of 0.01 but on biases and norms, 3 epochs of batches of 32, warm-up over the first tenth of
the steps, then a linear decay, gradients clipped at 1: as the defaults of `mix train` for classification.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

from finetune import TASKS, sampled
from measuring import ROOT

EPOCHS, BATCH = 3, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the folder of an encoder")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="copies of hub datasets")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/finetune", help="where the drawn rows are kept")
    parser.add_argument("--rows", type=int, default=10_000, help="so many rows to train on")
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    given = parser.parse_args()
    task = TASKS["sst2"]
    folder = sampled(given.data, task, given.rows, None, given.out / "data") / task.folder
    rows, asked = (pq.read_table(next(folder.glob(f"{name}*.parquet"))) for name in ("train", "validation"))
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(given.model, num_labels=2)
    plain = [each for each in model.parameters() if each.ndim < 2]
    decayed = [each for each in model.parameters() if each.ndim >= 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=given.learning_rate)
    steps = EPOCHS * -(-len(rows) // BATCH)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    order = np.random.default_rng(1)
    for epoch in range(EPOCHS):
        model.train()
        shuffled = rows.take(order.permutation(len(rows)))
        for at in range(0, len(rows), BATCH):
            batch = shuffled[at : at + BATCH].to_pydict()
            tokens = tokenizer(batch["sentence"], padding=True, truncation=True, max_length=256, return_tensors="pt")
            with torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bf16"):
                loss = model(**tokens, labels=torch.tensor(batch["label"])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        print(f"epoch {epoch + 1}: validation accuracy {100 * accuracy(model, tokenizer, asked.to_pydict()):.1f}")


@torch.no_grad()
def accuracy(model: torch.nn.Module, tokenizer: Any, rows: dict[str, list[Any]]) -> float:
    """Return the share of rows that the model classifies as they are labelled."""
    model.eval()
    right = 0
    for at in range(0, len(rows["label"]), 64):
        tokens = tokenizer(rows["sentence"][at : at + 64], padding=True, return_tensors="pt")
        right += int((model(**tokens).logits.argmax(-1) == torch.tensor(rows["label"][at : at + 64])).sum())
    return right / len(rows["label"])


if __name__ == "__main__":
    main()
