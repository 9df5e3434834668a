"""Figures of a training run over its steps: loss, learning rate, gradient norm, hidden-state variance, speed."""

from itertools import pairwise
from statistics import fmean, median
from typing import Any

from data_recipes.recipes.phases import is_annealing
from yulanmini.report.figure import FULL, HALF, Figure, line_figure
from yulanmini.report.line_chart import Band, Plot, Series
from yulanmini.report.svg import smooth
from yulanmini.report.units import compact, integer, percent, significant

# A jump of so many nats at the median phase border is seen, and asks for its reason.
SAW_TOOTH = 0.05


def phase_bands(run: dict[str, Any]) -> list[Band]:
    """A band a phase over the steps, every second one shaded, annealing in its own colour."""
    return [
        Band(
            phase["first_step"] - 1,
            phase["last_step"],
            phase["phase"],
            "annealing" if is_annealing(phase["phase"]) else ("odd" if index % 2 else "even"),
        )
        for index, phase in enumerate(run["phases"])
    ]


def annealing_band(run: dict[str, Any]) -> list[Band]:
    """The annealing phases as one shaded stretch, where there are any."""
    steps = [band for band in phase_bands(run) if band.kind == "annealing"]
    return [Band(steps[0].start, steps[-1].end, "", "annealing")] if steps else []


def smoothing_window(run: dict[str, Any]) -> int:
    """Odd, and about half a phase: a phase's own trend stays visible."""
    return max(len(run["curves"]["step"]) // max(len(run["phases"]), 1) // 2, 3) | 1


def loss_figure(run: dict[str, Any]) -> Figure:
    """Training loss: every step faint, a moving average over it."""
    curves, window = run["curves"], smoothing_window(run)
    smoothed = smooth(curves["loss"], window, fmean)
    first, last = run["phases"][0]["loss_start"], run["phases"][-1]["loss_end"]
    plot = Plot(
        identity="loss",
        title="Training loss",
        description=(
            f"Loss over {integer(run['steps'])} steps and {len(run['phases'])} phases: {significant(first)} at the "
            f"start, {significant(last)} at the end."
        ),
        series=[
            Series("", curves["step"], curves["loss"], faint=True),
            Series("loss", curves["step"], smoothed, label=significant(smoothed[-1])),
        ],
        bands=phase_bands(run),
        x_caption="step",
        y_caption="nats per token; above: the phase",
        height=340,
    )
    rows = [
        [
            phase["phase"],
            f"{integer(phase['first_step'])}–{integer(phase['last_step'])}",
            compact(phase["tokens"]),
            significant(phase["loss_start"]),
            significant(phase["loss_end"]),
            significant(phase["grad_norm_median"]),
            significant(phase["grad_norm_max"]),
            integer(phase["tokens_per_second"]),
        ]
        for phase in run["phases"]
    ]
    phases = run["phases"]
    jumps = [
        after["loss_start"] - before["loss_end"]
        for before, after in pairwise(phases)
        if after["loss_start"] is not None and before["loss_end"] is not None
    ]
    teeth = (
        " The saw-tooth: a phase's rows are shuffled, so its later rows go on with documents that it began before."
        if jumps and median(jumps) > SAW_TOOTH
        else ""
    )
    skipped = f" {run['skipped_steps']} steps were left out as spikes." if run["skipped_steps"] else ""
    return line_figure(
        plot,
        caption=f"Each step faint, the line their moving average over {window} points.{teeth}{skipped}",
        width=FULL,
        x_names=[f"step {step:,}, phase {p}" for step, p in zip(curves["step"], curves["phase"], strict=True)],
        headers=["Phase", "Steps", "Tokens", "Loss, start", "Loss, end", "Grad norm, median", "max", "Tokens/s"],
        rows=rows,
    )


def learning_rate_figure(run: dict[str, Any]) -> Figure:
    """The schedule as it was used: warm-up, stable, 1-sqrt annealing."""
    curves, points = run["curves"], run["schedule"]
    first, last, peak = curves["step"][0], run["steps"], points["peak_lr"]
    warm, anneal = points["warmup_end"], points["annealing_start"]
    shape = ((run["config"].get("schedule") or {}).get("annealing") or {}).get("shape", "")
    bands = [Band(warm, anneal or last, "stable", "even")]
    rows = [["Stable", f"{integer(warm)}–{integer(anneal or last)}", significant(peak)]]
    if warm > first:
        bands.insert(0, Band(first, warm, "warm-up", "odd"))
        rows.insert(0, ["Warm-up", f"{integer(first)}–{integer(warm)}", f"to {significant(peak)}"])
    if anneal is not None:
        bands.append(Band(anneal, last, f"{shape} annealing".strip(), "annealing"))
        rows.append(["Annealing", f"{integer(anneal)}–{integer(last)}", f"to {significant(points['final_lr'])}"])
    plot = Plot(
        identity="lr",
        title="Learning rate",
        description=f"Linear warm-up to {significant(peak)} at step {warm}, constant, then annealing from {anneal}.",
        series=[Series("learning rate", curves["step"], curves["lr"])],
        bands=bands,
        floor=0.0,
        x_caption="step",
        y_caption="base rate",
        height=260,
    )
    return line_figure(
        plot,
        caption="Base rate; matrices train at this divided by the width multiplier (muP).",
        width=HALF,
        headers=["Stage", "Steps", "Rate"],
        rows=rows,
    )


def gradient_norm_figure(run: dict[str, Any]) -> Figure:
    """Gradient norm before clipping."""
    curves, window = run["curves"], smoothing_window(run)
    norms = [value for value in curves["grad_norm"] if value is not None]
    limit = (run["config"].get("optimizer") or {}).get("clip")
    clipped = percent(sum(value > limit for value in norms) / len(norms)) if limit and norms else "none"
    plot = Plot(
        identity="grad-norm",
        title="Gradient norm",
        description=f"Norm of all gradients over the steps; {clipped} of the steps were clipped.",
        series=[
            Series("", curves["step"], curves["grad_norm"], faint=True),
            Series("gradient norm", curves["step"], smooth(curves["grad_norm"], window, fmean)),
        ],
        bands=annealing_band(run),
        limits=[(limit, f"clipped above {limit:g}")] if limit else [],
        log=True,
        x_caption="step",
        y_caption="global norm before clipping, log scale",
        height=260,
    )
    return line_figure(
        plot,
        caption=f"{clipped.capitalize()} of the steps shown were clipped. Shaded: annealing.",
        width=HALF,
        headers=["Phase", "Median", "Largest"],
        rows=[[p["phase"], significant(p["grad_norm_median"]), significant(p["grad_norm_max"])] for p in run["phases"]],
    )


def variance_figure(run: dict[str, Any]) -> Figure | None:
    """Hidden-state variance by layer: it rises before a run diverges, while the loss still looks well."""
    steps, layers = run["hidden_state_variance"]["step"], run["hidden_state_variance"]["layers"]
    if not steps:
        return None
    last = len(layers) - 1
    shades = [f"color-mix(in oklab, var(--shallow), var(--deep) {100 * n // max(last, 1)}%)" for n in range(last + 1)]
    named = {0, last} if last > 7 else set(range(last + 1))
    plot = Plot(
        identity="variance",
        title="Hidden-state variance by layer",
        description="Variance of the hidden states after each layer over the steps, on a logarithmic scale.",
        series=[
            Series(f"layer {n}", steps, values, colour=shades[n], label=f"layer {n}" if n in named else "")
            for n, values in enumerate(layers)
        ],
        bands=annealing_band(run),
        log=True,
        x_caption="step",
        y_caption="variance of the hidden states, log scale",
        height=260,
    )
    return line_figure(
        plot,
        caption="The early warning of a run that will diverge: it rises while the loss still looks well.",
        width=HALF,
        headers=["Layer", "First", "Largest", "Last"],
        rows=[
            [
                str(n),
                significant(values[0]),
                significant(max((v for v in values if v is not None), default=None)),
                significant(values[-1]),
            ]
            for n, values in enumerate(layers)
        ],
    )


def speed_figure(run: dict[str, Any]) -> Figure:
    """Tokens a second by step."""
    curves, window = run["curves"], smoothing_window(run)
    plot = Plot(
        identity="speed",
        title="Training speed",
        description="Tokens a second over the steps.",
        series=[
            Series("", curves["step"], curves["tokens_per_second"], faint=True),
            Series("tokens/s", curves["step"], smooth(curves["tokens_per_second"], window, median)),
        ],
        bands=annealing_band(run),
        floor=0.0,
        x_caption="step",
        y_caption="tokens per second",
        height=260,
    )
    overall = run["tokens"] / run["seconds"] if run["seconds"] else None
    return line_figure(
        plot,
        caption=f"{integer(overall)} tokens a second over all steps, evaluation and saving not counted.",
        width=HALF,
        headers=["Phase", "Tokens/s, median"],
        rows=[[phase["phase"], integer(phase["tokens_per_second"])] for phase in run["phases"]],
        show=integer,
    )


def tuning_figure(tuning: dict[str, Any]) -> Figure | None:
    """The loss of supervised fine-tuning."""
    curves = tuning["curves"]
    if not curves["step"]:
        return None
    window = max(len(curves["step"]) // 30, 1) | 1
    smoothed = smooth(curves["loss"], window, fmean)
    plot = Plot(
        identity="sft",
        title="Instruction tuning: loss",
        description="Loss on the answers of the training dialogues over the steps of supervised fine-tuning.",
        series=[
            Series("", curves["step"], curves["loss"], faint=True),
            Series("loss", curves["step"], smoothed, label=significant(smoothed[-1])),
        ],
        log=True,
        x_caption="step",
        y_caption="nats per answer token, log scale",
        height=260,
    )
    ends = [(0, "First"), (len(curves["step"]) // 2, "Middle"), (-1, "Last")]
    return line_figure(
        plot,
        caption="Only the assistant's tokens are learned from. Each step faint, their moving average over it.",
        width=HALF,
        headers=["", "Step", "Loss", "Moving average"],
        rows=[
            [name, integer(curves["step"][at]), significant(curves["loss"][at]), significant(smoothed[at])]
            for at, name in ends
        ],
    )
