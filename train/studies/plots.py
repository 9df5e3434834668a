"""The figures of the studies, drawn from their results (the JSON that each command writes)."""

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from data_recipes.files import write_whole

NAMES = {
    "standard": "SI",
    "minicpm": "MiniCPM",
    "cerebras-gpt": "CerebrasGPT (muP)",
    "depth-mup": "YuLan-Mini without WeSaR",
    "yulanmini": "YuLan-Mini (muP + WeSaR)",
    "yulanmini-corrected": "YuLan-Mini, width-corrected",
}

STYLE = {
    "svg.hashsalt": "yulanmini",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": "#e4e4e0",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
}


def plot_coordinate_check(result: dict[str, Any], path: Path) -> None:
    """Change of activations over the width after the last update, a panel a parametrization."""
    columns = result["columns"]
    with styled():
        figure, axes = make_panels(1, len(columns), width=2.9, height=3.0, sharey=True)
        for axis, (column, found) in zip(axes[0], columns.items(), strict=True):
            places = list(found["change"])
            for place, colour in zip(places, shades(len(places)), strict=True):
                by_width = found["change"][place]
                widths = [int(width) for width in by_width]
                values = [steps[-1] for steps in by_width.values()]
                label = f"{place} ({found['slope'][place]:+.2f})"
                axis.plot(widths, values, marker="o", markersize=3, color=colour, label=label)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.set_xticks(widths, [str(width) for width in widths])
            axis.set_title(NAMES[column])
            axis.set_xlabel("width")
            axis.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.2), title="slope in brackets", title_fontsize=7, fontsize=7
            )
        axes[0, 0].set_ylabel(f"RMS change after {result['steps']} updates")
        save(figure, path)


def plot_lr_transfer(result: dict[str, Any], path: Path) -> None:
    """Loss over the base rate, a panel a parametrization and a colour a width: each seed a dot, the mean a curve, and
    below them the best rates with their intervals."""
    columns = result["columns"]
    best = [loss for found in columns.values() for loss in found["best_loss"].values()]
    bottom, top = min(best) - 0.45, max(best) + 0.4
    with styled():
        figure, axes = make_panels(1, len(columns), width=2.9, height=3.4, sharex=True, sharey=True)
        for axis, (column, found) in zip(axes[0], columns.items(), strict=True):
            colours = shades(len(found["losses"]))
            for index, (width, by_rate) in enumerate(found["losses"].items()):
                colour = colours[index]
                seeds = [(float(rate), loss) for rate, losses in by_rate.items() for loss in losses if loss is not None]
                axis.plot(*zip(*seeds, strict=True), linestyle="", marker=".", markersize=3, alpha=0.5, color=colour)
                means = [(float(rate), fmean(losses)) for rate, losses in by_rate.items() if None not in losses]
                axis.plot(*zip(*means, strict=True), color=colour, label=f"width {width}")
                height = bottom + 0.06 * (index + 1)
                axis.plot(found["best_lr_interval"][width], [height] * 2, color=colour, linewidth=2.5)
                axis.plot(found["best_lr"][width], height, color=colour, marker="|", markersize=9)
            low, high = found["widest_over_narrowest_interval"]
            ratio = f"widest / narrowest {found['widest_over_narrowest']:.2f} ({low:.2f} to {high:.2f})"
            axis.set_title(f"{NAMES[column]}\n{ratio}", fontsize=9)
            axis.set_xscale("log", base=2)
            axis.set_ylim(bottom, top)
            axis.set_xlabel("base learning rate")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        axes[0, 0].set_ylabel(f"training loss, last {result['loss_over_last_steps']} of {result['steps']} steps")
        save(figure, path)


def plot_stability(result: dict[str, Any], path: Path) -> None:
    """Loss, hidden-state variance of the last layer and largest attention logit over the steps: a column of panels a
    row of Figure 6, a colour a rate, a line a seed."""
    rows = result["rows"]
    rates = sorted({rate for row in rows.values() for rate in row["runs"]}, key=float)
    colours = dict(zip(rates, shades(len(rates)), strict=True))
    with styled():
        figure, axes = make_panels(3, len(rows), width=2.1, height=1.9, sharey="row", sharex=True)
        for index, (name, row) in enumerate(rows.items()):
            loss, variance, logits = axes[:, index]
            for rate, runs in row["runs"].items():
                colour = colours[rate]
                label: str | None = f"{float(rate):g}: {outcome(runs)}"
                for curves in (run["curves"] for run in runs):
                    loss.plot(smoothed(curves["loss"], 7), color=colour, label=label, linewidth=0.9)
                    steps = curves["measured_at"]
                    last = [_positive(values[-1]) for values in curves["hidden_state_variance"]]
                    variance.plot(steps, last, color=colour, linewidth=0.9)
                    largest = [_positive(value) for value in curves["attention_logit_max"]]
                    logits.plot(steps, largest, color=colour, linewidth=0.9)
                    label = None
            loss.set_title(name)
            loss.legend(loc="upper right", fontsize=6)
            variance.set_yscale("log")
            logits.set_yscale("log")
            logits.set_xlabel("step")
        for axis, label in zip(
            axes[:, 0], ("loss", "hidden-state variance,\nlast layer", "largest attention logit"), strict=True
        ):
            axis.set_ylabel(label)
        save(figure, path)


def outcome(runs: Sequence[Mapping[str, Any]]) -> str:
    """States of the seeds of one rate, each with its count where they differ: `stable`, `2 spiking, 1 stable`."""
    states = Counter(run["state"] for run in runs)
    if len(states) == 1:
        return next(iter(states))
    return ", ".join(f"{count} {state}" for state, count in states.most_common())


def _positive(value: float | None) -> float:
    return math.nan if value is None or value <= 0 else value


def make_panels(rows: int, columns: int, *, width: float, height: float, **options: Any) -> tuple[Any, Any]:
    """A figure of `rows` x `columns` panels, each `width` x `height` inches; axes always as a 2-d array."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def styled() -> Any:
    """A context in which everything drawn has the studies' style."""
    from matplotlib import rc_context

    return rc_context(STYLE)


def shades(count: int) -> list[Any]:
    """`count` colours from dark (first layer, narrowest) to bright (last layer, widest)."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.92 * index / max(count - 1, 1)) for index in range(count)]


def save(figure: Any, path: Path) -> None:
    """Write the figure whole or not at all; the ending chooses the format."""
    content, form = io.BytesIO(), path.suffix.lower().removeprefix(".")
    # Dates and version numbers would make two files of the same data differ.
    metadata: dict[str, Any] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    figure.savefig(content, format=form, dpi=150, metadata=metadata.get(form))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())


def smoothed(values: Sequence[float | None], window: int) -> list[float | None]:
    """Centred moving average that leaves out missing values."""
    half = window // 2
    near = [[v for v in values[max(at - half, 0) : at + half + 1] if v is not None] for at in range(len(values))]
    return [fmean(found) if found else None for found in near]
