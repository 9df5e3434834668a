"""What became of a run of the early-warning study, and at which step its loss left its band.

A run is judged by what happened, not by what was done to it: *diverged* where its loss left its band for good or was
not finite; else *exploding* where hidden states end as the stability study calls exploding; else *disturbed* where the
loss left its band for a while; else *calm*. The thresholds are ours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

from train.studies.early_warning.runs import WatchedRun
from train.studies.stability import EXPLODED, describe

BAD = ("diverged", "exploding")
WINDOW = 8  # steps whose losses are held against the band
BEFORE = 48  # steps whose median and deviations make the band, and half as many at least
STAYS = 16  # steps that the loss stays outside at least, to the end of the run, to have left for good
WIDTHS = (4.0, 5.0, 6.0, 8.0, 10.0, 12.0)
BEHIND = 0.1  # nats above a calm training's loss


@dataclass(frozen=True)
class Outcome:
    """`event`: the step at which the loss left its band for good or was not finite; `left`: that at which it left it
    for a while; `behind`: of an explosion, that at which the loss fell behind a calm training's (`falls_behind`)."""

    state: str
    event: int | None
    left: int | None
    behind: int | None = None

    @property
    def shown(self) -> int | None:
        """The step at which the loss showed that something is wrong, if it ever did."""
        return self.event or self.behind

    @property
    def is_bad(self) -> bool:
        return self.state in BAD

    @property
    def is_calm(self) -> bool:
        return self.state == "calm"


def outcome_of(run: WatchedRun, losses: Sequence[float | None], width: float) -> Outcome:
    """`losses`: the run's even ones (even_losses.py); `width`: of the band, in errors of a window's mean."""
    exits = band_exits(losses, width, first=run.unmoved_steps)
    if exits.for_good is not None:
        return Outcome("diverged", exits.for_good, None)
    last = describe(run.trial, len(losses))["last_hidden_state_variance"]
    if last is None or last > EXPLODED:
        return Outcome("exploding", None, exits.any)
    return Outcome("calm" if exits.any is None else "disturbed", None, exits.any)


@dataclass(frozen=True)
class Exits:
    """Steps, counted from 1: the first at which the loss left its band for good, and at all."""

    for_good: int | None
    any: int | None


def band_exits(losses: Sequence[float | None], width: float, *, first: int) -> Exits:
    """Where the loss leaves its band after `first` steps.

    The band before a step ends `width` errors above the median of the `BEFORE` losses before; the error is that of a
    mean of `WINDOW` of them, from their median absolute deviation. The loss leaves it at a step above its end from
    which on all of `WINDOW` losses but one are above it; for good, where the median of every later `WINDOW` is.
    """
    finite = [loss for loss in losses if loss is not None]
    end = len(finite)
    broke = end + 1 if end < len(losses) else None
    medians = [median(finite[at : at + WINDOW]) for at in range(end - WINDOW + 1)]
    lowest_later = list(accumulate(reversed(medians), min))[::-1]
    for_good = any_exit = None
    for at in range(max(first, BEFORE // 2), len(medians)):
        before = finite[max(at - BEFORE, 0) : at]
        centre = median(before)
        spread = median(abs(loss - centre) for loss in before) / 0.6745 / math.sqrt(WINDOW)
        top = centre + width * spread
        if finite[at] <= top or sum(loss > top for loss in finite[at : at + WINDOW]) < WINDOW - 1:
            continue
        any_exit = any_exit or at + 1
        if lowest_later[at] > top and (broke or end - at >= STAYS):
            for_good = at + 1
            break
    steps = [step for step in (for_good, broke) if step is not None]
    return Exits(min(steps, default=None), min([*steps, *([any_exit] if any_exit else [])], default=None))


def falls_behind(losses: Sequence[float | None], calm: Sequence[float | None], *, first: int) -> int | None:
    """The step after `first` from which on the median of any `WINDOW` losses is more than `BEHIND` above those of a
    `calm` training at the same rows; None where it is not so at the end, for `STAYS` steps.

    A run that explodes from the beginning may never rise above its own past: its loss falls, only more slowly.
    """
    gaps = [
        mine - other if mine is not None and other is not None else math.inf
        for mine, other in zip(losses, calm, strict=False)
    ]
    medians = [median(gaps[at : at + WINDOW]) for at in range(first, len(gaps) - WINDOW + 1)]
    since = next((at + 1 for at in reversed(range(len(medians))) if medians[at] <= BEHIND), 0)
    return first + since + 1 if len(gaps) - first - since >= STAYS else None


def choose_width(runs: Sequence[tuple[Sequence[float | None], int]], *, most: float) -> float:
    """The narrowest of `WIDTHS` that at most the share `most` of these runs, all calm, leave at all: their losses, and
    after which step they are watched."""
    for width in WIDTHS:
        left = [band_exits(losses, width, first=first).any is not None for losses, first in runs]
        if sum(left) <= most * len(left):
            return width
    return WIDTHS[-1]
