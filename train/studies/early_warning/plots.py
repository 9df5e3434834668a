"""The figure of the early-warning study: one run's loss and signals, leads by cause, and the rules side by side."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.studies.early_warning.study import NAMES
from train.studies.plots import make_panels, save, shades, smoothed, styled

RULES = {
    "chosen": "the chosen rule",
    "chosen, default interval": "it, measured at the\ndefault interval",
    **{name: f"{text} alone" for name, text in NAMES.items()},
    "chosen, loss as logged": "it, against the loss\nas logged",
    "yesterday": "the default before",
}
SIGNALS = {
    "variance_growth": "growth of the variance",
    "grad_norm": "deviations of the gradient norm",
    "attention_logit": "largest attention logit",
    "attention_growth": "growth of the attention logit",
}


def plot_early_warning(result: Mapping[str, Any], path: Path) -> None:
    with styled():
        figure, axes = make_panels(2, 2, width=4.6, height=3.0)
        if result["example"]:
            example = result["example"]
            trial = result["trials"][example["trial"]]
            _plot_loss(axes[0, 0], example["losses"], trial)
            _plot_signals(axes[1, 0], example["signals"], result["rule"]["limits"], trial)
        _plot_leads(axes[0, 1], result["trials"])
        _plot_rules(axes[1, 1], result["judged"])
        save(figure, path)


def _plot_loss(axis: Any, losses: Sequence[float | None], trial: Mapping[str, Any]) -> None:
    steps = range(1, len(losses) + 1)
    axis.plot(steps, [math.nan if loss is None else loss for loss in losses], color="#c8c8c4", linewidth=0.8)
    axis.plot(steps, [math.nan if loss is None else loss for loss in smoothed(losses, 7)], color="black")
    _mark(axis, trial)
    axis.set_yscale("log")
    axis.set_title(f"{trial['condition']}: loss")


def _plot_signals(axis: Any, signals: Mapping[str, Any], limits: Mapping[str, Any], trial: Mapping[str, Any]) -> None:
    for (name, points), colour in zip(signals.items(), shades(len(signals)), strict=True):
        finite = [(step, value / limits[name]["above"]) for step, value in points if value is not None and value > 0]
        if finite:
            axis.plot(*zip(*finite, strict=True), color=colour, label=SIGNALS[name], linewidth=1)
    axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
    _mark(axis, trial)
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_title("its signals, over their limits")
    axis.legend(loc="lower left", fontsize=6)


def _mark(axis: Any, trial: Mapping[str, Any]) -> None:
    """Where the cause begins, the first warning is given, and the loss leaves its band."""
    for step, colour, text in (
        (trial["watched_after"], "#888888", "cause"),
        (trial["first_warning"], "#d08000", "warning"),
        (trial["event"], "#b00020", "loss leaves"),
        (trial["behind"], "#b00020", "loss falls behind"),
    ):
        if step:
            axis.axvline(step, color=colour, linewidth=1, label=text)
    axis.set_xlim(max(trial["watched_after"] - 40, 0), trial["steps"])


def _plot_leads(axis: Any, trials: Mapping[str, Any]) -> None:
    """A dot a run whose loss left its band or fell behind, right of 0 where it was warned of before; a cross where it
    was not."""
    left = [trial | {"shown": shown} for trial in trials.values() if (shown := trial["event"] or trial["behind"])]
    causes = list(dict.fromkeys(trial["cause"] for trial in left))
    for place, cause in enumerate(causes):
        mine = [trial for trial in left if trial["cause"] == cause]
        for index, trial in enumerate(mine):
            height = place + 0.5 * (index / max(len(mine) - 1, 1) - 0.5)
            warned = trial["first_warning"] is not None and trial["first_warning"] < trial["shown"]
            lead = trial["shown"] - trial["first_warning"] if warned else 0
            filled = "black" if trial["half"] == "judging" else "none"
            shape = {"marker": "o", "markerfacecolor": filled} if warned else {"marker": "x"}
            axis.plot(lead, height, color="black" if warned else "#b00020", markersize=4, linestyle="", **shape)
    axis.set_yticks(range(len(causes)), causes)
    axis.set_ylim(len(causes) - 0.5, -0.5)
    axis.set_xlabel("steps from warning to loss (cross: none in time)")
    axis.set_title("lead by cause (filled: judging half)")


def _plot_rules(axis: Any, judged: Mapping[str, Any]) -> None:
    for offset, key, colour, label in (
        (-0.2, "left_band", "#1f5f8b", "warned of before the loss left its band"),
        (0.0, "fell_behind", "#7a7a76", "exploding, before the loss fell behind"),
        (0.2, "false_alarms", "#b00020", "calm runs with a false alarm"),
    ):
        for place, name in enumerate(judged):
            share = judged[name][key]
            if share["value"] is None:
                continue
            height = place + offset
            axis.plot([100 * share["low"], 100 * share["high"]], [height] * 2, color=colour, linewidth=2)
            axis.plot(100 * share["value"], height, marker="o", color=colour, label=label, linestyle="")
            label = ""
    axis.set_yticks(range(len(judged)), [RULES[name] for name in judged])
    axis.set_ylim(len(judged) - 0.5, -0.5)
    axis.set_xlim(-3, 103)
    axis.set_xlabel("% of runs of the judging half, with intervals")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=7)
