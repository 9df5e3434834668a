"""The training dynamics of a run, drawn from its metrics.jsonl alone: the kind of Figures 2 to 5 and 7 of the report.

Loss and gradient norm (2), hidden-state variance by layer on a log scale (3, 4), attention logits beside the variance
behind the norms (5, 7), update and weight sizes, loss by domain, speed. A panel whose monitor was off is left out.
"""

import html
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from train.errors import TrainError
from train.studies import charts

MOST_POINTS = 1500
MOST_LAYERS = 8
Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Panel:
    """One drawing: `key` is what its records must have."""

    key: str
    title: str
    caption: str
    draw: Callable[[Any, Records], None]
    log: bool = False


def read_metrics(run: Path) -> Records:
    """The steps of a run in order, the last line of each step; TrainError where there are none."""
    path = run / "metrics.jsonl" if run.is_dir() else run
    if not path.is_file():
        raise TrainError(f"{path}: no such file. Expected the folder of a pretraining run (it holds metrics.jsonl).")
    steps: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            record = json.loads(line)
            steps[record["step"]] = record
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            if number == 1:
                raise TrainError(f"{path}: line 1 is not a step's record ({error!r}).") from error
            break  # a run that is being written to ends in half a line
    if not steps:
        raise TrainError(f"{path}: holds no steps yet.")
    return [steps[step] for step in sorted(steps)]


def write_report(run: Path, out: Path | None = None) -> Path:
    """Draw a run to `out` (.html, .svg, .png or .pdf; default RUN/report.html); returns the path."""
    records = read_metrics(run)
    out = out or (run if run.is_dir() else run.parent) / "report.html"
    panels = [panel for panel in PANELS if any(record.get(panel.key) is not None for record in records)]
    if out.suffix.lower() != ".html":
        figure, axes = charts.make_panels(-(-len(panels) // 2), 2, width=5.4, height=3.1)
        for panel, axis in zip(panels, axes.flat, strict=False):
            _draw(panel, axis, records)
        for axis in list(axes.flat)[len(panels) :]:
            axis.remove()
        charts.save(figure, out)
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(_page(run, records, panels), encoding="utf-8")
    partial.replace(out)
    return out


def summary(records: Records) -> dict[str, Any]:
    """The figures that stand above the drawings."""
    norms = sorted(record["grad_norm"] for record in records if record.get("grad_norm") is not None)
    last_fifth = records[-max(len(records) // 20, 1) :]
    losses = [record["loss"] for record in last_fifth if record.get("loss") is not None]
    spikes = sum(bool(record.get("spike")) or record.get("loss") is None for record in records)
    seconds = sum(record.get("seconds") or 0 for record in records)
    tokens = sum(record.get("tokens") or 0 for record in records)
    return {
        "steps": len(records),
        "tokens": tokens,
        "phases": [phase for phase, _ in groupby(str(record["phase"]) for record in records)],
        "last_loss": sum(losses) / len(losses) if losses else None,
        "grad_norm_median": norms[len(norms) // 2] if norms else None,
        "grad_norm_max": norms[-1] if norms else None,
        "spikes": spikes,
        "largest_variance_growth": max(
            (r["variance_growth"] for r in records if r.get("variance_growth")), default=None
        ),
        "tokens_per_second": tokens / seconds if seconds else None,
    }


# -- panels -----------------------------------------------------------------------------------------------------------


def _thinned(records: Records, key: str) -> Records:
    """Records that have `key`, at most MOST_POINTS of them, evenly spaced, the last one always."""
    found = [record for record in records if record.get(key) is not None]
    stride = -(-len(found) // MOST_POINTS)
    return found[::-1][::stride][::-1]


def _raw_and_smooth(key: str, colour: str) -> Callable[[Any, Records], None]:
    def draw(axis: Any, records: Records) -> None:
        kept = _thinned(records, key)
        steps, values = [record["step"] for record in kept], [record[key] for record in kept]
        axis.plot(steps, values, color=colour, alpha=0.25, linewidth=0.7)
        axis.plot(steps, charts.smoothed(values, max(len(values) // 40, 1)), color=colour)

    return draw


def _by_layer(key: str) -> Callable[[Any, Records], None]:
    def draw(axis: Any, records: Records) -> None:
        kept = _thinned(records, key)
        layers = len(kept[-1][key])
        kept = [record for record in kept if len(record[key]) == layers]
        shown = sorted({round(index * (layers - 1) / (MOST_LAYERS - 1)) for index in range(MOST_LAYERS)})
        for layer, colour in zip(shown, charts.shades(len(shown)), strict=True):
            values = [_number(record[key][layer]) for record in kept]
            axis.plot([record["step"] for record in kept], values, color=colour, label=f"layer {layer + 1}")
        axis.legend(ncols=2, loc="best")

    return draw


def _by_name(key: str) -> Callable[[Any, Records], None]:
    def draw(axis: Any, records: Records) -> None:
        kept = _thinned(records, key)
        names = sorted({name for record in kept for name in record[key]})
        window = max(len(kept) // 40, 1)
        for name, colour in zip(names, charts.shades(len(names)), strict=True):
            own = [record for record in kept if name in record[key]]
            values = charts.smoothed([record[key][name] for record in own], window)
            axis.plot(
                [record["step"] for record in own], [_number(value) for value in values], color=colour, label=name
            )
        axis.legend(ncols=2, loc="best")

    return draw


def _alphas(axis: Any, records: Records) -> None:
    kept = _thinned(records, "alphas")
    names = sorted(kept[-1]["alphas"])
    steps = [record["step"] for record in kept]
    for name, colour in zip(names, charts.shades(len(names)), strict=True):
        low, mean, high = zip(*(record["alphas"][name] for record in kept), strict=True)
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.plot(steps, mean, color=colour, label=name.removesuffix("_alpha"))
    axis.legend(ncols=3, loc="best", fontsize=6.5)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


PANELS: Sequence[Panel] = (
    Panel("loss", "Loss (nats a token)", "Figure 2's kind, upper half.", _raw_and_smooth("loss", "#30506b")),
    Panel("grad_norm", "Gradient norm before clipping", "Figure 2's kind, lower half.",
          _raw_and_smooth("grad_norm", "#a3472f"), log=True),
    Panel("hidden_state_variance", "Hidden-state variance by layer",
          "Figures 3 and 4: in a run that will diverge this rises before the loss does.",
          _by_layer("hidden_state_variance"), log=True),
    Panel("norm_output_variance", "Variance behind the attention norm, by layer",
          "Figures 5 and 7: near 1 while weight and alpha are.", _by_layer("norm_output_variance"), log=True),
    Panel("attention_logit_max", "Largest attention logit, by layer",
          "Figures 5 and 7: attention scores explode before the norms do. Sampled.", _by_layer("attention_logit_max")),
    Panel("grad_rms", "Gradient RMS by kind of parameter", "After clipping.", _by_name("grad_rms"), log=True),
    Panel("update_rms", "Update RMS by kind of parameter", "Adam's step with its rate, without weight decay.",
          _by_name("update_rms"), log=True),
    Panel("weight_rms", "Weight RMS by kind of parameter", "", _by_name("weight_rms"), log=True),
    Panel("alphas", "Learnable scales", "Mean over the layers; shaded from the smallest to the largest.", _alphas),
    Panel("loss_by_domain", "Training loss by domain (nats a token)", "Moving average.", _by_name("loss_by_domain")),
    Panel("z_loss", "z-loss", "", _raw_and_smooth("z_loss", "#6b5a30")),
    Panel("lr", "Base learning rate", "", lambda axis, records: axis.plot(
        [record["step"] for record in _thinned(records, "lr")], [record["lr"] for record in _thinned(records, "lr")],
        color="#30506b")),
    Panel("tokens_per_second", "Tokens a second", "", _raw_and_smooth("tokens_per_second", "#3c6b30")),
)  # fmt: skip


def _draw(panel: Panel, axis: Any, records: Records) -> None:
    with charts.styled():
        panel.draw(axis, records)
        axis.set_title(panel.title)
        axis.set_xlabel("step")
        if panel.log:
            axis.set_yscale("log")
        for first, last, name in _phases(records):
            axis.axvline(first, color="#b8b8b0", linewidth=0.5, zorder=0)
            if (last - first) > 0.06 * records[-1]["step"] or len(_phases(records)) < 12:
                middle = (first + last) / 2
                axis.annotate(name, (middle, 1), xycoords=("data", "axes fraction"), ha="center", va="top",
                              fontsize=6.5, color="#8a8a82")  # fmt: skip


def _phases(records: Records) -> list[tuple[int, int, str]]:
    """First and last step of each phase."""
    spans = []
    for name, group in groupby(records, key=lambda record: str(record["phase"])):
        steps = [record["step"] for record in group]
        spans.append((steps[0], steps[-1], name))
    return spans


# -- page -------------------------------------------------------------------------------------------------------------


def _page(run: Path, records: Records, panels: Iterable[Panel]) -> str:
    figures = []
    for panel in panels:
        figure, axes = charts.make_panels(1, 1, width=6.4, height=3.4)
        _draw(panel, axes[0, 0], records)
        svg = charts.as_bytes(figure, "svg").decode()
        svg = svg[svg.index("<svg") :]
        caption = html.escape(panel.caption)
        figures.append(
            f'<figure aria-label="{html.escape(panel.title)}">{svg}<figcaption>{caption}</figcaption></figure>'
        )
    cells = "".join(
        f"<tr><th>{html.escape(key.replace('_', ' '))}</th><td>{html.escape(shown(value))}</td></tr>"
        for key, value in summary(records).items()
    )
    name = html.escape(run.resolve().name if run.is_dir() else run.name)
    return PAGE.format(name=name, cells=cells, figures="\n".join(figures))


def shown(value: Any) -> str:
    """A figure of `summary` as text."""
    if isinstance(value, list):
        return ", ".join(value) if len(value) < 8 else f"{value[0]} to {value[-1]} ({len(value)})"
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None else f"{value:,.4g}"


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Training dynamics: {name}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1360px; padding: 0 1rem; color: #22241f;
  background: #fff; }}
main {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 560px), 1fr)); gap: 1.5rem; }}
figure {{ margin: 0; }} svg {{ width: 100%; height: auto; }} figcaption {{ color: #5c5c55; font-size: 13px; }}
table {{ border-collapse: collapse; margin: 1rem 0 2rem; }} th {{ font-weight: 400; color: #5c5c55; }}
th, td {{ text-align: left; padding: 0.1rem 1.5rem 0.1rem 0; }}
</style></head><body>
<h1>Training dynamics: {name}</h1>
<table>{cells}</table>
<main>
{figures}
</main></body></html>
"""
