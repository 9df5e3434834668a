"""Does the best learning rate stay where it is when the model gets wider? Sweeps over widths, by parametrization.

At each width the rates are tried on a grid of factors of 2, from the best rate of the width before outwards until
the best one has two worse ones on either side; a parabola through the lowest three gives the best rate itself.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from train.errors import TrainError
from train.studies.trials import CONFIGS, parametrization_changes, run_trial, settings_of

BASE = CONFIGS / "proxy-wide" / "pretrain.yaml"
HEAD_DIM = 32
FIRST_EXPONENT = -7.0
LOWEST, HIGHEST = -15.0, 1.0
WORSE = 1


@dataclass(frozen=True)
class Sweep:
    """Final loss by exponent (the rate is 2 ** exponent) of one width; infinite where the training broke down."""

    width: int
    losses: dict[float, float]

    @property
    def best_exponent(self) -> float:
        """Where the parabola through the lowest point and its neighbours (in log2 of the rate) has its minimum."""
        best = min(self.losses, key=self.losses.__getitem__)
        left, middle, right = (self.losses.get(best + shift, math.inf) for shift in (-1, 0, 1))
        curvature = left - 2 * middle + right
        if not math.isfinite(curvature) or curvature <= 0:
            return best
        return best + (left - right) / (2 * curvature)


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


def search(loss_at: Callable[[float], float], start: float) -> dict[float, float]:
    """Evaluate exponents around `start` until the lowest loss has `WORSE` evaluated points on either side."""
    losses: dict[float, float] = {}
    wanted = [start]
    while wanted:
        exponent = wanted[0]
        losses[exponent] = loss_at(exponent)
        best = min(losses, key=losses.__getitem__)
        around = [best + shift for shift in (*range(-1, -WORSE - 1, -1), *range(1, WORSE + 1))]
        wanted = [e for e in around if e not in losses and LOWEST <= e <= HIGHEST and _useful(losses, best, e)]
    return losses


def _useful(losses: dict[float, float], best: float, exponent: float) -> bool:
    """Beyond a rate that broke the training down nothing is to be learned."""
    between = [e for e in losses if min(best, exponent) < e < max(best, exponent)]
    return all(math.isfinite(losses[e]) for e in between)


def lr_transfer(
    inputs: Path,
    out: Path,
    *,
    widths: Sequence[int],
    columns: Sequence[str],
    steps: int,
    seeds: int = 1,
    base: Path = BASE,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Sweep every width under every parametrization (names of `PARAMETRIZATIONS`) on `inputs`, a folder that
    `yulanmini reproduce` made; a loss is the mean of `seeds` initialisations. Trials go to `out`. Returns the table
    that `yulanmini train lr-transfer` prints."""
    tail = max(steps // 5, 1)
    found: dict[str, list[Sweep]] = {}
    for column in columns:
        start = FIRST_EXPONENT
        for width in sorted(widths):

            def loss_at(exponent: float, column: str = column, width: int = width) -> float:
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
                return fmean(losses)

            sweep = Sweep(width, search(loss_at, start))
            found.setdefault(column, []).append(sweep)
            start = float(round(sweep.best_exponent))
    return {
        "study": "lr-transfer",
        "steps": steps,
        "seeds": seeds,
        "loss_over_last_steps": tail,
        "columns": _table(found),
    }


def _table(found: dict[str, list[Sweep]]) -> dict[str, Any]:
    table = {}
    for column, sweeps in found.items():
        exponents = [sweep.best_exponent for sweep in sweeps]
        table[column] = {
            "best_lr": {str(sweep.width): 2**sweep.best_exponent for sweep in sweeps},
            "best_loss": {str(sweep.width): min(sweep.losses.values()) for sweep in sweeps},
            "moves_by": 2 ** (max(exponents) - min(exponents)),
            "losses": {
                str(sweep.width): {
                    f"{2**exponent:.6g}": loss if math.isfinite(loss) else None
                    for exponent, loss in sorted(sweep.losses.items())
                }
                for sweep in sweeps
            },
        }
    return table
