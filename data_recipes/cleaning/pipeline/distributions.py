"""How the values of a column are distributed: counts that add up over units, and the histogram drawn of them.

Numbers are counted in buckets of at most 3 % of their size, so that a unit's counts are small whatever its documents,
and the sum over units does not depend on how these were cut.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

STEPS_A_DOUBLING = 32
BINS = 40
MOST_VALUES = 20
UNIT_VALUES = 200
"""Of a column of texts with more different values only the most frequent of each unit are counted."""
LOGARITHMIC_FROM = 50
"""Where the largest value (1 in 1,000 apart) is so many times the median, bins grow with the values."""


def counts_by_value(column: pa.ChunkedArray) -> dict[str, Any] | None:
    """`{"numbers": {bucket: count}}` or `{"values": {value: count}}`, nulls left out; None for lists and the like."""
    column = column.drop_null()
    type = column.type
    if pa.types.is_boolean(type) or pa.types.is_string(type) or pa.types.is_large_string(type):
        pairs = pc.value_counts(column).to_pylist()
        pairs.sort(key=lambda pair: (-pair["counts"], str(pair["values"])))
        return {"values": {str(pair["values"]): pair["counts"] for pair in pairs[:UNIT_VALUES]}}
    if not (pa.types.is_integer(type) or pa.types.is_floating(type)):
        return None
    numbers = column.to_numpy().astype(np.float64)
    buckets, counts = np.unique(_buckets(numbers[np.isfinite(numbers)]), return_counts=True)
    return {"numbers": {str(bucket): count for bucket, count in zip(buckets.tolist(), counts.tolist(), strict=True)}}


def _buckets(numbers: np.ndarray) -> np.ndarray:
    """int64, ascending with the numbers; 0 for 0."""
    mantissas, exponents = np.frexp(np.abs(numbers))
    inside = np.floor((mantissas * 2 - 1) * STEPS_A_DOUBLING).astype(np.int64)
    # 2,000 doublings are more than there are, so that the bucket of the smallest number is above 0.
    buckets = (exponents.astype(np.int64) + 2000) * STEPS_A_DOUBLING + inside
    return np.where(numbers == 0, 0, np.sign(numbers).astype(np.int64) * buckets)


def _lower_edges(buckets: np.ndarray) -> np.ndarray:
    """The number of each bucket that is nearest to 0."""
    exponents, inside = np.divmod(np.abs(buckets), STEPS_A_DOUBLING)
    numbers = np.ldexp((1 + inside / STEPS_A_DOUBLING) / 2, exponents - 2000)
    return np.where(buckets == 0, 0.0, np.sign(buckets) * numbers)


def add_up(parts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The counts of all units."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    kind = next(iter(known[0]))
    total: Counter[str] = Counter()
    for part in known:
        total.update(part[kind])
    return {kind: dict(total)}


def distribution(counts: Mapping[str, Any] | None, limits: Sequence[float]) -> dict[str, Any] | None:
    """What the report draws of a column: `edges` and `counts` of a histogram with quantiles and thresholds, or the most
    frequent `values`. The first and last bin hold what is beyond them."""
    if counts is None:
        return None
    if "values" in counts:
        pairs = sorted(counts["values"].items(), key=lambda pair: (-pair[1], pair[0]))
        rest = sum(count for _, count in pairs[MOST_VALUES:])
        return {"values": dict(pairs[:MOST_VALUES]), "others": rest}
    if not counts["numbers"]:
        return {"edges": [], "counts": [], "documents": 0, "limits": list(limits), "quantiles": {}}
    pairs = sorted((int(bucket), count) for bucket, count in counts["numbers"].items())
    values = _lower_edges(np.array([bucket for bucket, _ in pairs]))
    weights = np.array([count for _, count in pairs])
    edges = _edges(values, weights, limits)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    shares = np.cumsum(weights) / weights.sum()
    quantiles = {str(share): float(values[np.searchsorted(shares, share)]) for share in (0.01, 0.1, 0.5, 0.9, 0.99)}
    return {
        "edges": [float(f"{edge:.6g}") for edge in edges],
        "counts": np.bincount(bins, weights, minlength=len(edges) - 1).astype(np.int64).tolist(),
        "documents": int(weights.sum()),
        "limits": list(limits),
        "quantiles": quantiles,
    }


def _edges(values: np.ndarray, weights: np.ndarray, limits: Sequence[float]) -> np.ndarray:
    """Bins that show all but the outermost thousandths, and every threshold."""
    shares = np.cumsum(weights) / weights.sum()
    low, high = values[np.searchsorted(shares, 0.001)], values[np.searchsorted(shares, 0.999)]
    median = values[np.searchsorted(shares, 0.5)]
    low, high = min(low, *limits, high), max(high, *limits, low)
    if low > 0 and high > LOGARITHMIC_FROM * median:
        return np.geomspace(low, high, BINS + 1)
    if low == high:
        return np.array([low, low + max(abs(low), 1.0)])
    return np.linspace(low, high, BINS + 1)
