"""Figures of the stages that make the instruct model: their loss, and what each one aims at."""

from dataclasses import dataclass
from typing import Any

from yulanmini.report.figure import Figure
from yulanmini.report.training_figures import raw_and_smooth, step_figure
from yulanmini.report.units import integer, significant


@dataclass(frozen=True)
class Curve:
    """How a key of a stage's metrics.jsonl is drawn."""

    key: str
    title: str
    unit: str
    caption: str
    log: bool = False


SMOOTHED = "Each step faint, their moving average over it."
CURVES = {
    "sft": (
        Curve(
            "loss",
            "Instruction tuning: loss",
            "nats per trained token, log scale",
            "Of the dialogues only the assistant's tokens are learned from, of the text of pretraining among them all.",
            log=True,
        ),
    ),
    "dpo": (
        Curve("loss", "Preferences: loss", "loss", "0.69 where the model prefers neither answer."),
        Curve(
            "rewards/margins",
            "Preferences: margin",
            "nats times beta",
            "How much more likely the right answer has become than the wrong one, compared with the model before.",
        ),
    ),
    "on-policy": (
        Curve("reward", "On-policy: reward", "reward", "Mean over the answers that the model gave at this step."),
        Curve("kl", "On-policy: distance to the model before", "KL, nats an answer", "What the reward has cost."),
    ),
}


def tuning_figures(tuning: dict[str, Any]) -> list[Figure]:
    """The charts of the stages that were run, in order; of what a stage logged."""
    return [
        tuning_figure(stage, figures, curve)
        for stage, figures in tuning.items()
        for curve in CURVES[stage]
        if any(value is not None for value in figures["curves"].get(curve.key, ()))
    ]


def tuning_figure(stage: str, figures: dict[str, Any], curve: Curve) -> Figure:
    steps, values = figures["curves"]["step"], figures["curves"][curve.key]
    raw, smoothed = raw_and_smooth(curve.unit, steps, values, max(len(steps) // 30, 1) | 1)
    ends = [(0, "First"), (len(steps) // 2, "Middle"), (-1, "Last")]
    return step_figure(
        figures,
        f"{stage}-{curve.key.replace('/', '-')}",
        curve.title,
        [raw, smoothed],
        bands=[],
        log=curve.log,
        y_caption=curve.unit,
        caption=f"{curve.caption} {SMOOTHED}",
        headers=["", "Step", "Value", "Moving average"],
        rows=[[name, integer(steps[at]), significant(values[at]), significant(smoothed.y[at])] for at, name in ends],
    )
