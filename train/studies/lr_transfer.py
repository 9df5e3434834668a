"""Does the best learning rate stay where it is when the model gets wider? Sweeps over widths, by parametrization.

At each width the rates are tried on a grid of factors of 2, from the best rate of the width before outwards, until one
on either side is worse by more than the seeds differ among themselves: a smaller difference may be noise, and the best
rate may lie behind it. A parabola through the lowest mean and its neighbours gives the best rate, resampling the seeds
its interval.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from train.config import phase_names
from train.config_file import CONFIGS
from train.errors import TrainError
from train.studies.trials import Inputs, Job, Trial, parametrization_changes, settings_of

BASE = CONFIGS / "proxy-wide.yaml"
HEAD_DIM = 32
FIRST_EXPONENT = -7.0
LOWEST, HIGHEST = -15.0, 1.0
RESAMPLES, INTERVAL = 2000, (2.5, 97.5)


@dataclass(frozen=True)
class Sweep:
    """Final losses of the seeds by exponent (the rate is 2 ** exponent) of one width; infinite: it broke down."""

    width: int
    losses: Mapping[float, Sequence[float]]

    @property
    def means(self) -> dict[float, float]:
        return {exponent: fmean(losses) for exponent, losses in sorted(self.losses.items())}

    @property
    def best_exponent(self) -> float:
        return lowest_point(self.means)

    @property
    def bracketed(self) -> bool:
        """Whether a rate on either side is clearly worse; if not, the best rate may lie outside the range searched."""
        best = min(self.means, key=self.means.__getitem__)
        worse = [exponent for exponent in self.losses if clearly_worse(self.losses[exponent], self.losses[best])]
        return any(exponent < best for exponent in worse) and any(exponent > best for exponent in worse)

    @cached_property
    def resampled(self) -> np.ndarray:
        """Best exponents of `RESAMPLES` sets of as many seeds, drawn from these with replacement (the bootstrap)."""
        exponents = sorted(self.losses)
        losses = np.array([self.losses[exponent] for exponent in exponents])
        seeds = losses.shape[1]
        draws = np.random.default_rng(self.width).integers(seeds, size=(RESAMPLES, seeds))
        means = losses[:, draws].mean(axis=2)
        return np.array([lowest_point(dict(zip(exponents, column, strict=True))) for column in means.T.tolist()])

    @property
    def interval(self) -> list[float]:
        """Of the best rate, from the resampled seeds."""
        return _interval(self.resampled)


def lowest_point(losses: Mapping[float, float]) -> float:
    """Where the parabola through the lowest loss and its neighbours (in log2 of the rate) has its minimum."""
    best = min(losses, key=losses.__getitem__)
    left, middle, right = (losses.get(best + shift, math.inf) for shift in (-1, 0, 1))
    curvature = left - 2 * middle + right
    if not math.isfinite(curvature) or curvature <= 0:
        return best
    return best + (left - right) / (2 * curvature)


def clearly_worse(losses: Sequence[float], best: Sequence[float]) -> bool:
    """Whether the mean of `losses` is above that of `best` by more than the seeds of either spread about theirs."""
    if _broke_down(losses):
        return not _broke_down(best)
    return fmean(losses) - fmean(best) > max(_spread(losses), _spread(best))


def _broke_down(losses: Sequence[float]) -> bool:
    return not math.isfinite(fmean(losses))


def _spread(losses: Sequence[float]) -> float:
    return stdev(losses) if len(losses) > 1 else 0.0


def width_settings(width: int) -> dict[str, Any]:
    """Keys of a proxy of `width`: published ratios, heads of 32, a key-value head for every two heads."""
    heads, remainder = divmod(width, HEAD_DIM)
    if remainder or heads < 2 or heads % 2:
        raise TrainError(f"--widths: {width} is not a multiple of {2 * HEAD_DIM} (two heads of {HEAD_DIM}).")
    return {
        "model.hidden_size": width,
        "model.intermediate_size": round(2.5 * width),
        "model.num_attention_heads": heads,
        "model.num_key_value_heads": heads // 2,
    }


@dataclass(frozen=True)
class Point:
    """A rate of one parametrization at one width: what the seeds are trained at."""

    column: str
    width: int
    exponent: float

    def __str__(self) -> str:
        return f"{self.column}, width {self.width}, rate 2^{self.exponent:g}"


def sweep_all(
    columns: Sequence[str], widths: Sequence[int], losses_of: Callable[[list[Point]], Sequence[Sequence[float]]]
) -> dict[str, list[Sweep]]:
    """Search the best rates of all columns at all widths; `losses_of` is asked for one point of each column at a time.

    A width begins at the best rate of the one before. Raises TrainError where no rate trains.
    """
    found: dict[str, dict[int, dict[float, Sequence[float]]]] = {
        column: {width: {} for width in sorted(widths)} for column in columns
    }
    while points := [point for column in columns if (point := _next_point(column, found[column]))]:
        for point, losses in zip(points, losses_of(points), strict=True):
            found[point.column][point.width][point.exponent] = losses
    return {column: [Sweep(width, losses) for width, losses in by_width.items()] for column, by_width in found.items()}


def _next_point(column: str, found: Mapping[int, Mapping[float, Sequence[float]]]) -> Point | None:
    """What has to be tried next of a column, the narrowest width first; None where all its widths are settled."""
    start = FIRST_EXPONENT
    for width, losses in found.items():
        exponent = _next(losses) if losses else start
        if exponent is not None:
            return Point(column, width, exponent)
        sweep = Sweep(width, losses)
        if not math.isfinite(min(sweep.means.values())):
            raise TrainError(f"{column}, width {width}: training broke down at every rate down to 2^{LOWEST:g}.")
        start = float(round(sweep.best_exponent))
    return None


def _next(losses: Mapping[float, Sequence[float]]) -> float | None:
    """The nearest exponent beside the best one that has to be tried yet."""
    best = min(losses, key=lambda exponent: fmean(losses[exponent]))
    for direction in (-1, 1):
        exponent = best + direction
        while LOWEST <= exponent <= HIGHEST:
            if exponent not in losses:
                return exponent
            # Above a rate that broke the training down nothing is to be learned, not even where the best one did.
            if clearly_worse(losses[exponent], losses[best]) or (direction > 0 and _broke_down(losses[exponent])):
                break
            exponent += direction
    return None


def training_at(base: Path, inputs: Inputs, point: Mapping[str, Any], *, phases: str | None = None) -> dict[str, Any]:
    """Settings of the training that `point` names by `column`, `width`, `rate`, `steps` and `seed`, on the rows of
    `phases`, of those of the base config where none are given."""
    changes: dict[str, Any] = {
        **width_settings(point["width"]),
        **parametrization_changes(point["column"]),
        "optimizer.lr": point["rate"],
        "max_steps": point["steps"],
        "seed": point["seed"],
        "threads": 1,
    }
    if phases is not None:
        changes["data.phases"] = phases
    settings = settings_of(base, inputs, changes)
    # To 0 over the whole training: a rate that is held measures its own noise, not what was learnt.
    start = phase_names(settings["data"]["phases"])[0]
    settings["schedule"]["annealing"] = {"start": start, "steps": point["steps"], "shape": "linear"}
    return settings


def search_rates(
    inputs: Inputs,
    out: Path,
    *,
    widths: Sequence[int],
    columns: Sequence[str],
    steps: int,
    seeds: int,
    run: Callable[[Sequence[Job]], list[Trial]],
    base: Path = BASE,
    say: Callable[[str], None] = print,
) -> dict[str, list[Sweep]]:
    """`sweep_all` over trainings from `seeds` initialisations, their folders in `out`; `run` runs them."""

    def losses_of(points: list[Point]) -> Sequence[Sequence[float]]:
        jobs = []
        for point in points:
            for seed in range(seeds):
                training = {"column": point.column, "width": point.width, "rate": 2.0**point.exponent, "steps": steps}
                folder = out / f"{point.column}-{point.width}-lr2^{point.exponent:g}-seed{seed}"
                jobs.append(Job(folder, training_at(base, inputs, {**training, "seed": seed})))
        ends = [trial.final_loss(tail_of(steps)) for trial in run(jobs)]
        losses = [math.inf if loss is None else loss for loss in ends]
        by_point = [losses[first : first + seeds] for first in range(0, len(losses), seeds)]
        for point, of_seeds in zip(points, by_point, strict=True):
            say(f"{point}: " + ", ".join(f"{loss:.4f}" if math.isfinite(loss) else "broke down" for loss in of_seeds))
        return by_point

    return sweep_all(columns, widths, losses_of)


def tail_of(steps: int) -> int:
    """The last fifth of a training, whose mean loss is its final one."""
    return max(steps // 5, 1)


def lr_transfer(
    inputs: Inputs,
    out: Path,
    *,
    widths: Sequence[int],
    columns: Sequence[str],
    steps: int,
    seeds: int,
    run: Callable[[Sequence[Job]], list[Trial]],
    base: Path = BASE,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Sweep every width under every parametrization (names of `PARAMETRIZATIONS`) on `inputs`.

    Each loss is measured from `seeds` initialisations; trials go to `out`. Returns the table that `yulanmini train
    lr-transfer` prints.
    """
    found = search_rates(
        inputs, out, widths=widths, columns=columns, steps=steps, seeds=seeds, run=run, base=base, say=say
    )
    return {
        "study": "lr-transfer",
        "steps": steps,
        "seeds": seeds,
        "loss_over_last_steps": tail_of(steps),
        "columns": {column: _table(sweeps) for column, sweeps in found.items()},
    }


def _table(sweeps: list[Sweep]) -> dict[str, Any]:
    """One parametrization: best rates with intervals, and how the widest model's compares with the narrowest's."""
    narrowest, widest = sweeps[0], sweeps[-1]
    return {
        "best_lr": {str(sweep.width): 2**sweep.best_exponent for sweep in sweeps},
        "best_lr_interval": {str(sweep.width): sweep.interval for sweep in sweeps},
        "bracketed": {str(sweep.width): sweep.bracketed for sweep in sweeps},
        "best_loss": {str(sweep.width): min(sweep.means.values()) for sweep in sweeps},
        "widest_over_narrowest": 2 ** (widest.best_exponent - narrowest.best_exponent),
        # Initialisations of two widths have nothing in common, so their resampled sets are paired at random.
        "widest_over_narrowest_interval": _interval(widest.resampled - narrowest.resampled),
        "losses": {
            str(sweep.width): {
                f"{2**exponent:.6g}": [loss if math.isfinite(loss) else None for loss in losses]
                for exponent, losses in sorted(sweep.losses.items())
            }
            for sweep in sweeps
        },
    }


def _interval(exponents: np.ndarray) -> list[float]:
    return [float(2**bound) for bound in np.percentile(exponents, INTERVAL)]
