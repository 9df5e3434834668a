"""The order of a phase's rows: every stretch of it holds the mixture, and nothing is drawn at random.

Tijdeman's answer to the chairman assignment problem (1980): after any number of rows, each subset has had
its exact share to within less than one row. Integer arithmetic, no state to save.
"""

from collections.abc import Sequence

import numba
import numpy as np


def interleave(counts: Sequence[int]) -> np.ndarray:
    """Which subset each row belongs to: int16 `[sum(counts)]`, subset i occurring `counts[i]` times."""
    present = np.flatnonzero(np.asarray(counts, dtype=np.int64))
    order = _assign(np.asarray(counts, dtype=np.int64)[present])
    return present.astype(np.int16)[order]


def occurrences(order: np.ndarray, subsets: int) -> np.ndarray:
    """For each position, how many earlier positions hold the same subset: int64, as long as `order`."""
    return _occurrences(order, subsets)


@numba.njit(cache=True, nogil=True)
def _assign(counts):  # pragma: no cover - compiled
    subsets = len(counts)
    total = counts.sum()
    order = np.zeros(total, dtype=np.int16)
    if subsets < 2:
        return order
    scale = 2 * subsets - 2
    # deficit[i] = counts[i] * rows so far - total * rows given to i; a subset may be chosen once its deficit
    # reaches total / scale, and of those the one that would be late first is.
    deficit = np.zeros(subsets, dtype=np.int64)
    for row in range(total):
        best = -1
        earliest = 0.0
        for subset in range(subsets):
            deficit[subset] += counts[subset]
            if deficit[subset] * scale >= total:
                deadline = ((scale - 1) * total - scale * deficit[subset]) / counts[subset]
                if best < 0 or deadline < earliest:
                    best = subset
                    earliest = deadline
        order[row] = best
        deficit[best] -= total
    return order


@numba.njit(cache=True, nogil=True)
def _occurrences(order, subsets):  # pragma: no cover - compiled
    seen = np.zeros(subsets, dtype=np.int64)
    result = np.empty(len(order), dtype=np.int64)
    for row in range(len(order)):
        result[row] = seen[order[row]]
        seen[order[row]] += 1
    return result
