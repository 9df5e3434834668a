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

from train.config_file import CONFIGS
from train.errors import TrainError
from train.studies.trials import Inputs, parametrization_changes, run_trial, settings_of

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


def search(losses_at: Callable[[float], Sequence[float]], start: float) -> dict[float, Sequence[float]]:
    """Losses by exponent, from `start` outwards until both sides of the best are settled or the range ends."""
    losses: dict[float, Sequence[float]] = {}
    wanted: float | None = start
    while wanted is not None:
        losses[wanted] = losses_at(wanted)
        wanted = _next(losses)
    return losses


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


def lr_transfer(
    inputs: Inputs,
    out: Path,
    *,
    widths: Sequence[int],
    columns: Sequence[str],
    steps: int,
    seeds: int,
    base: Path = BASE,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Sweep every width under every parametrization (names of `PARAMETRIZATIONS`) on `inputs`.

    Each loss is measured from `seeds` initialisations; trials go to `out`. Returns the table that `yulanmini train
    lr-transfer` prints.
    """
    tail = max(steps // 5, 1)
    found: dict[str, list[Sweep]] = {}
    for column in columns:
        start = FIRST_EXPONENT
        for width in sorted(widths):

            def losses_at(exponent: float, column: str = column, width: int = width) -> list[float]:
                changes = {
                    **width_settings(width),
                    **parametrization_changes(column),
                    "optimizer.lr": 2.0**exponent,
                    "max_steps": steps,
                    # To 0 over the whole training: a rate that is held measures its own noise, not what was learnt.
                    "schedule.annealing": {"start": "1", "steps": steps, "shape": "linear"},
                }
                losses = []
                for seed in range(seeds):
                    folder = out / f"{column}-{width}-lr2^{exponent:g}-seed{seed}"
                    trial = run_trial(folder, settings_of(base, inputs, changes | {"seed": seed}))
                    loss = trial.final_loss(tail)
                    losses.append(math.inf if loss is None else loss)
                shown = ", ".join(f"{loss:.4f}" if math.isfinite(loss) else "broke down" for loss in losses)
                say(f"{column}, width {width}, rate 2^{exponent:g}: {shown}")
                return losses

            sweep = Sweep(width, search(losses_at, start))
            if not math.isfinite(min(sweep.means.values())):
                raise TrainError(f"{column}, width {width}: training broke down at every rate down to 2^{LOWEST:g}.")
            found.setdefault(column, []).append(sweep)
            start = float(round(sweep.best_exponent))
    return {
        "study": "lr-transfer",
        "steps": steps,
        "seeds": seeds,
        "loss_over_last_steps": tail,
        "columns": {column: _table(sweeps) for column, sweeps in found.items()},
    }


def _table(sweeps: list[Sweep]) -> dict[str, Any]:
    """One parametrization: best rates with intervals, and how the widest model's compares with the narrowest's."""
    narrowest, widest = sweeps[0], sweeps[-1]
    return {
        "best_lr": {str(sweep.width): 2**sweep.best_exponent for sweep in sweeps},
        "best_lr_interval": {str(sweep.width): _interval(sweep.resampled) for sweep in sweeps},
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
