"""Figures of a training run over its steps: loss, learning rate, gradient norm, speed, and a panel for each monitor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from data_recipes.recipes.phases import is_annealing
from yulanmini.report.figure import DOMAIN_NAMES, Figure, colour, line_figure, short_name
from yulanmini.report.line_chart import FULL, HALF, Band, Plot, Series
from yulanmini.report.svg import smooth
from yulanmini.report.units import compact, integer, percent, significant

# A median jump of so many nats at phase borders is visible, and the caption explains it.
SAW_TOOTH = 0.05
MOST_LAYERS = 8
Values = Sequence[float | None]


@dataclass(frozen=True)
class Panel:
    """How a monitor's figures are drawn. Figures named in captions are those of the technical report."""

    title: str
    caption: str
    unit: str
    log: bool = True
    smoothed: bool = False


# By the key in metrics.jsonl; a monitor that was off has no panel.
PANELS = {
    "hidden_state_variance": Panel("Hidden-state variance by layer", "", "variance of the hidden states"),
    "norm_output_variance": Panel(
        "Variance behind the attention norm", "Near 1 while weight and scale are (Figures 5 and 7).", "variance"
    ),
    "attention_logit_max": Panel(
        "Largest attention logit by layer",
        "Sampled. Attention scores explode before the norms do (Figures 5 and 7).",
        "logit",
        log=False,
    ),
    "grad_rms": Panel("Gradient by kind of parameter", "Root mean square after clipping.", "RMS"),
    "update_rms": Panel("Update by kind of parameter", "Adam's step with its rate, without weight decay.", "RMS"),
    "weight_rms": Panel("Weights by kind of parameter", "Root mean square.", "RMS"),
    "alphas": Panel("Learnable scales", "Mean over the layers; the table has the range.", "scale", log=False),
    "loss_by_domain": Panel("Training loss by domain", "Moving average.", "nats per token", log=False, smoothed=True),
    "z_loss": Panel("z-loss", "Each step faint, the line their moving average.", "z-loss", smoothed=True),
}


def phase_bands(run: dict[str, Any]) -> list[Band]:
    """A band a phase over the steps, every second one shaded, annealing in its own colour."""
    return [
        Band(
            phase["first_step"] - 1,
            phase["last_step"],
            phase["phase"],
            "annealing" if is_annealing(phase["phase"]) else ("odd" if index % 2 else "even"),
        )
        for index, phase in enumerate(run.get("phases", ()))
    ]


def annealing_band(run: dict[str, Any]) -> list[Band]:
    """The annealing phases as one shaded stretch, where there are any."""
    steps = [band for band in phase_bands(run) if band.kind == "annealing"]
    return [Band(steps[0].start, steps[-1].end, "", "annealing")] if steps else []


def window_over(run: dict[str, Any], points: int) -> int:
    """Odd, and about half a phase of `points` points: a phase's own trend stays visible."""
    return max(points // max(len(run["phases"]), 1) // 2, 3) | 1


def raw_and_smooth(
    name: str,
    steps: Sequence[float],
    values: Values,
    window: int,
    average: Callable[[list[float]], float] = fmean,
    *,
    label: str = "",
) -> list[Series]:
    """Every value faint, and over it a moving average with the name; `label` stands at its end."""
    smoothed = smooth(values, window, average)
    return [Series("", steps, values, faint=True), Series(name, steps, smoothed, label=label)]


def step_figure(run: dict[str, Any], identity: str, title: str, series: Sequence[Series], **options: Any) -> Figure:
    """A chart over the steps, half the page wide, with the annealing phases shaded; `options` are those of `Plot`."""
    usual: dict[str, Any] = {
        "description": f"{title} over the steps.",
        "bands": annealing_band(run),
        "height": 260,
        "width": HALF,
    }
    return line_figure(Plot(identity, title, series=series, x_caption="step", **(usual | options)))


def loss_figure(run: dict[str, Any], continued: dict[str, Any] | None = None) -> Figure:
    """Training loss: every step faint, a moving average over it; `continued` as `collect.continued_documents` gives."""
    curves, phases = run["curves"], run["phases"]
    window = window_over(run, len(curves["step"]))
    first, last = significant(phases[0]["loss_start"]), significant(run["loss_end"])
    rows = [
        [
            phase["phase"],
            f"{integer(phase['first_step'])}–{integer(phase['last_step'])}",
            compact(phase["tokens"]),
            *(significant(phase[key]) for key in ("loss_start", "loss_end", "grad_norm_median", "grad_norm_max")),
            integer(phase["tokens_per_second"]),
        ]
        for phase in phases
    ]
    jumps = [
        after["loss_start"] - before["loss_end"]
        for before, after in pairwise(phases)
        if after["loss_start"] is not None and before["loss_end"] is not None
    ]
    teeth = ""
    if continued and jumps and median(jumps) > SAW_TOOTH:
        teeth = (
            " The saw-tooth: documents are longer than a row, and a phase's rows are mixed. In the last fifth of phase "
            f"{continued['phase']}, {percent(continued['share'])} of the tokens belong to documents of which the model "
            "has just read another part; the next phase begins new ones. Held-out text, below, shows what is learnt "
            "for good."
        )
    skipped = f" {run['skipped_steps']} steps were left out as spikes." if run["skipped_steps"] else ""
    return step_figure(
        run,
        "loss",
        "Training loss",
        raw_and_smooth("loss", curves["step"], curves["loss"], window, label=last),
        description=(
            f"Loss over {integer(run['steps'])} steps and {len(phases)} phases: {first} at the start, "
            f"{last} at the end."
        ),
        bands=phase_bands(run),
        y_caption="nats per token; above: the phase",
        height=340,
        width=FULL,
        x_names=[f"step {step:,}, phase {p}" for step, p in zip(curves["step"], curves["phase"], strict=True)],
        caption=(
            f"Each step faint, the line their moving average over {window} points; the number is the mean of the last "
            f"{run['loss_end_steps']} steps.{teeth}{skipped}"
        ),
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
    return step_figure(
        run,
        "lr",
        "Learning rate",
        [Series("learning rate", curves["step"], curves["lr"])],
        description=f"Linear warm-up to {significant(peak)} at step {warm}, then constant"
        + (f", annealing from step {anneal}." if anneal else "."),
        bands=bands,
        floor=0.0,
        y_caption="base rate",
        caption="Base rate; matrices train at this divided by the width multiplier (muP).",
        headers=["Stage", "Steps", "Rate"],
        rows=rows,
    )


def gradient_norm_figure(run: dict[str, Any]) -> Figure:
    """Gradient norm before clipping."""
    curves, window = run["curves"], window_over(run, len(run["curves"]["step"]))
    norms = [value for value in curves["grad_norm"] if value is not None]
    limit = (run["config"].get("optimizer") or {}).get("clip")
    clipped = percent(sum(value > limit for value in norms) / len(norms)) if limit and norms else "none"
    return step_figure(
        run,
        "grad-norm",
        "Gradient norm",
        raw_and_smooth("gradient norm", curves["step"], curves["grad_norm"], window),
        description=f"Norm of all gradients over the steps; {clipped} of the steps were clipped.",
        limits=[(limit, f"clipped above {limit:g}")] if limit else [],
        log=True,
        y_caption="global norm before clipping, log scale",
        caption=f"{clipped.capitalize()} of the steps shown were clipped."
        + (" Shaded: annealing." if annealing_band(run) else ""),
        headers=["Phase", "Median", "Largest"],
        rows=[[p["phase"], significant(p["grad_norm_median"]), significant(p["grad_norm_max"])] for p in run["phases"]],
    )


def speed_figure(run: dict[str, Any]) -> Figure:
    """Tokens a second by step."""
    curves, window = run["curves"], window_over(run, len(run["curves"]["step"]))
    return step_figure(
        run,
        "speed",
        "Training speed",
        raw_and_smooth("tokens/s", curves["step"], curves["tokens_per_second"], window, median),
        floor=0.0,
        y_caption="tokens per second",
        caption=f"{integer(run['tokens_per_second'])} tokens a second over all steps, without evaluation and saving.",
        headers=["Phase", "Tokens/s, median"],
        rows=[[phase["phase"], integer(phase["tokens_per_second"])] for phase in run["phases"]],
        show=integer,
    )


def monitor_figure(run: dict[str, Any], key: str) -> Figure:
    """The panel of one monitor: a line for each layer, domain or kind of parameter."""
    panel, steps, lines = PANELS[key], run["monitors"][key]["step"], run["monitors"][key]["lines"]
    window = window_over(run, len(steps)) if panel.smoothed else 1
    names = list(lines)
    if names == [""]:
        series = raw_and_smooth(panel.title, steps, lines[""], window)
    else:
        shown = evenly_spaced(names, MOST_LAYERS) if names[0].startswith("layer") else names
        series = [
            Series(
                name,
                steps,
                smooth([middle(value) for value in lines[name]], window, fmean),
                colour=colour(name) if name in DOMAIN_NAMES else shade(names.index(name), len(names)),
                label=short_name(name.removesuffix("_alpha").replace("_layernorm", " norm")),
            )
            for name in shown
        ]
    return step_figure(
        run,
        key.replace("_", "-"),
        panel.title,
        series,
        log=panel.log,
        limits=variance_limit(run) if key == "hidden_state_variance" else (),
        y_caption=panel.unit + (", log scale" if panel.log else ""),
        caption=variance_caption(run) if key == "hidden_state_variance" else panel.caption,
        headers=["", *(name or panel.title for name in names)],
        rows=[
            [end, *(significant(summary(lines[name])[place]) for name in names)]
            for place, end in enumerate(("First", "Smallest", "Largest", "Last"))
        ],
    )


def variance_limit(run: dict[str, Any]) -> list[tuple[float, str]]:
    """Where the run would warn now: so many times the recent median of the layer that has the largest variance."""
    factor, history = growth_limit(run)
    lines = run["monitors"]["hidden_state_variance"]["lines"].values()
    recent = [[value for value in line[-history:] if value is not None] for line in lines]
    largest = max((median(values) for values in recent if values), default=None)
    if not factor or not largest:
        return []
    return [(factor * largest, f"a warning: {factor:g} times the recent median")]


def growth_limit(run: dict[str, Any]) -> tuple[float | None, int]:
    """The growth of hidden-state variance that the run warns of, by its config, and over how many measurements."""
    settings = run["config"].get("warnings") or {}
    return (settings.get("variance_growth") or {}).get("above"), settings.get("history", 0)


def variance_caption(run: dict[str, Any]) -> str:
    """What the variance of this run says beside that of a run which will diverge."""
    (factor, history), growth = growth_limit(run), run["largest_variance_growth"]
    here = ""
    if factor and growth:
        verdict = "healthy" if growth <= factor else "worth a look"
        here = (
            f" Here the largest value was {significant(growth, 2)} times the median of the {history} before "
            f"it ({verdict}; the run warns beyond {factor:g})."
        )
    return (
        "Healthy: all layers level off or rise slowly together. A run that will diverge rises by orders of magnitude "
        "within tens of steps, while its loss still looks well (the report's Figures 3 and 4; docs/stability.md)."
        + here
    )


def middle(value: Any) -> float | None:
    """The mean of a triple of smallest, mean and largest; another value as it is."""
    return value[1] if isinstance(value, list) else value


def summary(values: Sequence[Any]) -> list[float | None]:
    """First, smallest, largest and last value; of triples the means, and the ends of their range."""
    present = [value for value in values if value is not None]
    if not present:
        return [None] * 4
    low, high = (lambda v: v[0], lambda v: v[2]) if isinstance(present[0], list) else (middle, middle)
    return [middle(present[0]), min(map(low, present)), max(map(high, present)), middle(present[-1])]


def evenly_spaced(names: Sequence[str], most: int) -> list[str]:
    """At most `most` of the names, the first and the last among them."""
    if len(names) <= most:
        return list(names)
    return [names[round(index * (len(names) - 1) / (most - 1))] for index in range(most)]


def shade(index: int, count: int) -> str:
    """From the shallow to the deep colour of the page."""
    return f"color-mix(in oklab, var(--shallow), var(--deep) {100 * index // max(count - 1, 1)}%)"


def training_figures(run: dict[str, Any], continued: dict[str, Any] | None = None) -> dict[str, Figure]:
    """The charts of a training run by name, in the order of the page."""
    return {
        "loss": loss_figure(run, continued),
        **({"lr": learning_rate_figure(run)} if run["schedule"] else {}),
        "grad_norm": gradient_norm_figure(run),
        **{key: monitor_figure(run, key) for key in PANELS if key in run["monitors"]},
        "speed": speed_figure(run),
    }
