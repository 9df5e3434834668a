"""What the trials of the annealing study say: means over seeds, and changes within them, each with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from train.curriculum.schedule import TAIL_SHAPES
from train.studies.annealing import PUBLISHED, PUBLISHED_FLOOR, PUBLISHED_TAIL, Cell, Mixture, Study, trial_name
from train.studies.annealing_rows import CONTEXT_LENGTH, PASSAGE_CHARACTERS, RICHER, USUAL, shares_of
from train.studies.intervals import change_of, mean_of, rounded

Values = Mapping[str, Sequence[float]]
"""A value for each seed, by measure: `loss` (mean over domains), `solved`, and the loss of each domain."""
DOMAIN_NAMES = {
    "web-en": "web, English",
    "web-zh": "web, Chinese",
    "code": "code",
    "math": "mathematics",
    "books-papers-encyclopedia": "books, papers",
    "instruction-synthetic": "instructions",
}
TARGET = "instruction-synthetic"
"""The domain that the richer tail has more of."""


def annealing_result(study: Study, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The study's result: cells, comparisons, and the figures of each trial."""

    def of(shape: str | None, tail: int | None = None, mixture: Mixture = "usual", **others: Any) -> Values:
        return of_cell(Cell(shape, tail, mixture, **others))

    def of_cell(cell: Cell) -> Values:
        return values_of([found[trial_name(seed, cell.name)] for seed in range(study.seeds)])

    def tails_at(rate: float | None) -> dict[str, Any]:
        held = of(None, rate=rate)
        return {
            "shapes": {
                str(tail): {
                    shape: changes(of(shape, tail, rate=rate), of(PUBLISHED, tail, rate=rate))
                    for shape in study.shapes
                    if shape != PUBLISHED
                }
                for tail in study.tails
            },
            "gains": {
                str(tail): {shape: changes(of(shape, tail, rate=rate), held) for shape in study.shapes}
                for tail in study.tails
            },
            "longer": {
                f"{long} after {short}": changes(of(PUBLISHED, long, rate=rate), of(PUBLISHED, short, rate=rate))
                for short, long in pairwise(study.tails)
            },
        }

    best, held = of(PUBLISHED, PUBLISHED_TAIL), of(None)
    richer = of(PUBLISHED, PUBLISHED_TAIL, "richer")
    return rounded(
        {
            "study": "annealing",
            "settings": settings_of_study(study, found),
            "cells": {
                name: {
                    **vars(cell),
                    "mean": means(of_cell(cell)),
                    "against_published": changes(of_cell(cell), best),
                }
                for name, cell in study.cells.items()
            },
            "rates": {f"{rate:g}": tails_at(own) for rate, own in study.rates.items()},
            "floors": {
                f"{floor:g}": changes(of(PUBLISHED, PUBLISHED_TAIL, floor=floor), best) for floor in study.floors
            },
            "richer": {
                str(tail): {
                    "annealed": changes(of(PUBLISHED, tail, "richer"), of(PUBLISHED, tail)),
                    "held": changes(of(None, tail, "richer"), held),
                    "annealed_over_held": changes(
                        minus(of(PUBLISHED, tail, "richer"), of(PUBLISHED, tail)),
                        minus(of(None, tail, "richer"), held),
                    ),
                }
                for tail in study.tails
            },
            "in_the_tail_over_spread": changes(richer, of(PUBLISHED, PUBLISHED_TAIL, "spread")),
            "spread_over_usual": changes(of(PUBLISHED, PUBLISHED_TAIL, "spread"), best),
            "trials": {name: figures_of(trial) for name, trial in found.items()},
        }
    )


def figures_of(trial: Mapping[str, Any]) -> dict[str, Any]:
    """What was found of a trial, with the mean of its losses."""
    return {"loss": fmean(trial["heldout"].values()), **trial}


def values_of(trials: Sequence[Mapping[str, Any]]) -> Values:
    """The measures of some trials of different seeds."""
    return {
        "loss": [fmean(trial["heldout"].values()) for trial in trials],
        "solved": [trial["solved"] / trial["problems"] for trial in trials],
        **{domain: [trial["heldout"][domain] for trial in trials] for domain in trials[0]["heldout"]},
    }


def means(values: Values) -> dict[str, Any]:
    """Each measure's mean over seeds; a share lies between 0 and 1, whatever a few seeds of small ones suggest."""
    found = {measure: mean_of(some) for measure, some in values.items()}
    solved = found["solved"]
    if solved.count > 1:
        found["solved"] = replace(solved, low=max(solved.low, 0.0), high=min(solved.high, 1.0))
    return {measure: one.as_json() for measure, one in found.items()}


def changes(values: Values, reference: Values) -> dict[str, Any]:
    """Each measure's change from the reference, within seeds."""
    return {measure: change_of(some, reference[measure]).as_json() for measure, some in values.items()}


def minus(values: Values, others: Values) -> Values:
    """The differences seed by seed."""
    return {
        measure: [value - other for value, other in zip(some, others[measure], strict=True)]
        for measure, some in values.items()
    }


def settings_of_study(study: Study, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Everything that was chosen."""
    base, any_trial = study.base_settings, next(iter(found.values()))
    return {
        "steps": study.steps,
        "seeds": study.seeds,
        "tokens_per_step": base["tokens_per_step"],
        "tokens": study.steps * base["tokens_per_step"],
        "context_length": CONTEXT_LENGTH,
        "passage_characters": PASSAGE_CHARACTERS,
        "model": base["model"],
        "rate": base["optimizer"]["lr"],
        "warmup_steps": base["schedule"]["warmup_steps"],
        "shapes": list(study.shapes),
        "tails": list(study.tails),
        "tail_steps": {str(tail): study.budget.tail_steps(tail) for tail in study.tails},
        "published": {"shape": PUBLISHED, "tail": PUBLISHED_TAIL, "floor": PUBLISHED_FLOOR},
        "floors": list(study.floors),
        "last_rate": last_rate(study.budget.tail_steps(PUBLISHED_TAIL)),
        "usual": {"phase": USUAL.key, "shares": shares_of(USUAL)},
        "richer": {"phase": RICHER.key, "shares": shares_of(RICHER)},
        "target": TARGET,
        "domains": {domain: DOMAIN_NAMES.get(domain, domain) for domain in any_trial["heldout"]},
        "scores": study.score.settings,
        "problems": any_trial["problems"],
        "chance": any_trial["chance"],
        "trials": len(found),
        "trained_steps": study.steps_to_train,
    }


def last_rate(steps: int) -> float:
    """The share of the rate that a published tail of `steps` ends with if nothing stops it: a lower floor is none."""
    return TAIL_SHAPES[PUBLISHED]((steps - 1) / steps, 0.0)
