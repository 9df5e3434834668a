"""Intervals of 95 %: of a mean over seeds, of what changes within each seed, of a share of trials,
of a median, and of events over time.

Few seeds make a bootstrap too narrow, so means have Student's t interval; shares have the exact binomial one (Clopper
and Pearson), which holds at 0 and 1 too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median, stdev
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure between its bounds, from `count` seeds or trials; bounds are infinite from one seed."""

    value: float
    low: float
    high: float
    count: int

    @property
    def verdict(self) -> str:
        """`below`, `above`, or `not told apart`: where 0 lies, for a change."""
        return "below" if self.high < 0 else "above" if self.low > 0 else "not told apart"

    def as_json(self) -> dict[str, Any]:
        """Plain values for a study's result; a bound that is not finite is None."""
        return {key: value if math.isfinite(value) else None for key, value in asdict(self).items()}


def mean_of(values: Sequence[float]) -> Interval:
    """The mean over seeds."""
    from scipy import stats

    mean, count = fmean(values), len(values)
    if count == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * stdev(values) / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, count)


def change_of(values: Sequence[float], reference: Sequence[float]) -> Interval:
    """Mean of the differences seed by seed: what all runs of a seed share does not count."""
    return mean_of([value - other for value, other in zip(values, reference, strict=True)])


def share_of(hits: int, total: int) -> Interval:
    """A share of trials; of none, between 0 and 1."""
    from scipy import stats

    if total == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    bounds = stats.binomtest(hits, total).proportion_ci(CONFIDENCE, method="exact")
    return Interval(hits / total, float(bounds.low), float(bounds.high), total)


def median_of(values: Sequence[float]) -> Interval:
    """The median, between the order statistics that hold that of the distribution; infinite bounds of few values."""
    from scipy import stats

    ordered, count = sorted(values), len(values)
    below = int(stats.binom.ppf((1 - CONFIDENCE) / 2, count, 0.5)) - 1  # order statistics left out at each end
    if below < 0:
        return Interval(median(ordered), -math.inf, math.inf, count)
    return Interval(median(ordered), ordered[below], ordered[count - 1 - below], count)


def rate_of(events: int, exposure: float) -> Interval:
    """Events for each unit of what they were watched for (exact, Poisson); `count`: the events."""
    from scipy import stats

    low = float(stats.chi2.ppf((1 - CONFIDENCE) / 2, 2 * events)) / 2 if events else 0.0
    high = float(stats.chi2.ppf((1 + CONFIDENCE) / 2, 2 * events + 2)) / 2
    if exposure == 0:
        return Interval(math.nan, 0.0, math.inf, events)
    return Interval(events / exposure, low / exposure, high / exposure, events)


def rounded(value: Any) -> Any:
    """A result's floats at six significant digits, at any depth: what is behind them is noise."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
