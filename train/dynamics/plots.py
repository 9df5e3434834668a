"""The figure of a series: sizes, scales and loss over the checkpoints; variances and logits over the layers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from train.studies.plots import make_panels, save, shades, styled

FIGURE_NAME = "dynamics.svg"
MOST_NAMES = 12
Rows = Sequence[Mapping[str, Any]]
Lines = dict[str, list[float | None]]


def plot_series(rows: Rows, path: Path) -> None:
    """Five panels, and three more of the rows that were given a text. Of the layers the median is drawn."""
    with_text = [row for row in rows if row["text"]]
    over_checkpoints = {
        "RMS of the matrices as stored": by_kind(rows, "weights", "rms"),
        "RMS times scale": by_kind(rows, "weights", "effective_rms"),
        "spectral norm times scale": by_kind(rows, "weights", "effective_spectral_norm"),
        "scales (alphas)": alphas(rows),
        "norm weights times scale, RMS": by_kind(rows, "norm_weights", "effective_rms"),
    }
    with styled():
        figure, axes = make_panels(2, 4 if with_text else 3, width=3.4, height=2.8)
        panels = iter(axes.flat)
        for title, lines in over_checkpoints.items():
            draw_over_checkpoints(next(panels), title, rows, lines, log=True)
        if with_text:
            losses = {"": [row["text"] and row["text"]["loss"] for row in rows]}
            draw_over_checkpoints(next(panels), "loss on the text, nats a token", rows, losses, log=False)
            draw_over_layers(next(panels), "hidden-state variance", with_text, "hidden_state_variance", log=True)
            draw_over_layers(next(panels), "largest attention logit", with_text, "attention_logit_max", log=False)
        for unused in panels:
            unused.remove()
        save(figure, path)


def by_kind(rows: Rows, part: str, size: str) -> Lines:
    """The median over the layers of a size, for each kind of matrix or norm."""
    return {kind: [median(row[part][kind][size]) for row in rows] for kind in rows[0][part]}


def alphas(rows: Rows) -> Lines:
    """The median over the layers of each scale; None for a checkpoint that has none."""
    names = dict.fromkeys(name for row in rows for name in row["alphas"])
    return {name: [median(row["alphas"][name]) if name in row["alphas"] else None for row in rows] for name in names}


def draw_over_checkpoints(axis: Any, title: str, rows: Rows, lines: Lines, *, log: bool) -> None:
    """A line each; over training steps where all checkpoints have theirs, else in the order given."""
    steps = [row["step"] for row in rows]
    by_step = None not in steps and len(set(steps)) == len(steps)
    places = steps if by_step else list(range(len(rows)))
    for (name, values), colour in zip(lines.items(), shades(len(lines)), strict=True):
        shown = [float("nan") if value is None or (log and value <= 0) else value for value in values]
        axis.plot(places, shown, marker="o", markersize=3, color=colour, label=name)
    axis.set_title(title)
    if log and any(value for values in lines.values() for value in values):
        axis.set_yscale("log")
    if by_step:
        axis.set_xlabel("step")
    else:
        every = -(-len(rows) // MOST_NAMES)
        names = [row["checkpoint"] for row in rows]
        axis.set_xticks(places[::every], names[::every], rotation=30, ha="right", fontsize=7)
    if any(lines):
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7)


def draw_over_layers(axis: Any, title: str, rows: Rows, measure: str, *, log: bool) -> None:
    """A line a checkpoint, from dark (first) to bright (last)."""
    for index, (row, colour) in enumerate(zip(rows, shades(len(rows)), strict=True)):
        values = row["text"][measure]
        named = index in (0, len(rows) - 1) or len(rows) <= MOST_NAMES
        axis.plot(range(len(values)), values, color=colour, label=row["checkpoint"] if named else None)
    axis.set_title(title)
    axis.set_xlabel("layer")
    if log:
        axis.set_yscale("log")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7)
