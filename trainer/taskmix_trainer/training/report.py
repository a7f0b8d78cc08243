"""A page with the curves of a run. It needs nothing from anywhere else."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from taskmix_trainer.tokens.folder import Manifest

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 260, 64, 28
_COLOURS = 5
_STYLE = """
:root { color-scheme: light dark; --l0: #2563eb; --l1: #dc2626; --l2: #059669; --l3: #7c3aed; --l4: #d97706; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 720px; margin: 2rem auto; padding: 0 1rem; }
body { background: #fff; color: #1f2937; } svg text { font-size: 11px; fill: #6b7280; } .grid { stroke: #d1d5db; }
table { border-collapse: collapse; } td, th { padding: 2px 12px 2px 0; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
@media (prefers-color-scheme: dark) {
  :root { --l0: #7aa5ff; --l1: #ff8080; --l2: #4fd1a5; --l3: #b79bff; --l4: #f5b454; }
  body { background: #111827; color: #e5e7eb; } svg text { fill: #9ca3af; } .grid { stroke: #374151; }
}
"""
Points = Sequence[tuple[float, float]]


def make_report(
    manifest: Manifest, run: Mapping[str, Any], history: Sequence[Mapping[str, float]], metrics: Mapping[str, float]
) -> str:
    """Return the page of a run: what was trained, its figures, and a curve of each thing that was logged.

    Args:
        manifest: what was trained on.
        run: what `train.json` says.
        history: what was logged.
        metrics: those of the model that was kept.
    """
    names = dict.fromkeys(name for each in history for name in each)
    train = [name for name in names if not name.startswith("eval_") and name not in _PLACES]
    groups = {name: [(f"training {name}", _points(history, name))] for name in train if name == "loss"}
    for name in (name for name in names if name.startswith("eval_")):
        plain = name.removeprefix("eval_")
        groups.setdefault(plain, []).append((f"validation {_word(plain)}", _points(history, name)))
    groups |= {name: [(name, _points(history, name))] for name in train if name not in groups}
    charts = "".join(f"<h2>{html.escape(_word(name))}</h2>{chart(lines)}" for name, lines in groups.items())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=width=device-width>"
        f"<title>{html.escape(manifest.target)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(manifest.target)}</h1>{_facts(manifest, run, metrics)}{charts}"
        "</html>\n"
    )


_PLACES = ("step", "epoch")
_WORDS = {
    "grad_norm": "norm of the gradient",
    "padding": "share of tokens that only fill up",
    "tokens_per_second": "tokens a second",
}


def _word(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " "))


def _facts(manifest: Manifest, run: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    train = manifest.splits["train"]
    facts = {
        "model": manifest.model,
        "head": manifest.head,
        "examples": f"{train.rows:,} rows, {train.features:,} examples, {train.tokens:,} tokens",
        "left out or cut": ", ".join(f"{count:,} {name}" for name, count in train.tally.items()) or "nothing",
        "steps": f"{run['steps']:,}",
        "mixture's lock": manifest.lock_sha256 or "a raw task",
        **{f"validation {_word(name)}": f"{value:.4f}" for name, value in metrics.items() if name not in _PLACES},
    }
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in facts.items()
    )
    return f"<table>{rows}</table>"


def _points(history: Sequence[Mapping[str, float]], name: str) -> Points:
    return [(each["step"], each[name]) for each in history if name in each and math.isfinite(each[name])]


def chart(lines: Sequence[tuple[str, Points]], x_label: str = "step") -> str:
    """Return an SVG of lines, each with its name and its points (x, y)."""
    points = [point for _, line in lines for point in line]
    if not points:
        return ""
    x0, x1 = min(x for x, _ in points), max(x for x, _ in points)
    y0, y1 = min(y for _, y in points), max(y for _, y in points)
    if x1 == x0:
        x1 = x0 + 1
    if y1 == y0:
        y0, y1 = y0 - abs(y0) * 0.1 - 1e-9, y1 + abs(y1) * 0.1 + 1e-9

    def at(x: float, y: float) -> str:
        across = _LEFT + (x - x0) / (x1 - x0) * (_WIDTH - _LEFT - 12)
        down = 12 + (y1 - y) / (y1 - y0) * (_HEIGHT - _BOTTOM - 12)
        return f"{across:.1f},{down:.1f}"

    parts = []
    for y in (y0, (y0 + y1) / 2, y1):
        left, height = at(x0, y).split(",")
        right = at(x1, y).split(",")[0]
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{height}" y2="{height}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{float(height) + 4:.1f}" text-anchor="end">{_number(y)}</text>')
    for x in (x0, x1):
        anchor = "start" if x == x0 else "end"
        parts.append(
            f'<text x="{at(x, y0).split(",")[0]}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{_number(x)}</text>'
        )
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{html.escape(x_label)}</text>')
    for number, (name, line) in enumerate(lines):
        colour = f"var(--l{number % _COLOURS})"
        path = " ".join(at(x, y) for x, y in line)
        parts.append(f'<polyline style="fill:none;stroke:{colour};stroke-width:1.6" points="{path}"/>')
        parts += [
            f'<circle r="2.4" style="fill:{colour}" cx="{p.split(",")[0]}" cy="{p.split(",")[1]}"/>'
            for p in path.split()
            if len(line) < 30
        ]
        if len(lines) > 1:
            x = _LEFT + 10 + 150 * number
            parts.append(f'<text x="{x}" y="10" style="fill:{colour}">{html.escape(name)}</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%" role="img">{"".join(parts)}</svg>'


def _number(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.1e}"
    return f"{value:,.4g}"
