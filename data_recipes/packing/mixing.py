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
    # Subset i may have its row number `given` (from 0) once counts[i] * rows so far - total * given reaches
    # total / scale; of those that may, the one comes that would be late first: the least (scale - 1 + scale * given) /
    # counts[i]. Both fractions are kept as quotient and remainder: exact, and 64 bits are enough for any phase.
    left = counts.copy()
    quotient, remainder = (scale - 1) // counts, (scale - 1) % counts
    # The same for when it may: rows so far, in whole numbers and in parts of scale * counts[i].
    share = scale * counts
    rows, parts = total // share, total % share
    row_step, part_step = total // counts, total % counts * scale
    # Who may from which row on: the last such subset of each row, and the one before it.
    last = np.full(total + 1, -1, dtype=np.int16)
    previous = np.full(subsets, -1, dtype=np.int16)
    for subset in range(subsets):
        row = rows[subset] + (parts[subset] > 0) - 1
        previous[subset] = last[row]
        last[row] = subset
    heap = np.empty(subsets, dtype=np.int16)  # those that may, the first of them at the top
    size = 0
    for row in range(total):
        subset = last[row]
        while subset >= 0:
            heap[size] = subset
            size += 1
            _rise(heap, size - 1, quotient, remainder, counts)
            subset = previous[subset]
        best = heap[0]
        size -= 1
        heap[0] = heap[size]
        _sink(heap, size, quotient, remainder, counts)
        order[row] = best
        left[best] -= 1
        if left[best] == 0:
            continue
        remainder[best] += scale
        while remainder[best] >= counts[best]:
            quotient[best] += 1
            remainder[best] -= counts[best]
        rows[best] += row_step[best]
        parts[best] += part_step[best]
        if parts[best] >= share[best]:
            rows[best] += 1
            parts[best] -= share[best]
        # One that is far behind may again at once, which is the next row.
        free = max(row + 1, rows[best] + (parts[best] > 0) - 1)
        previous[best] = last[free]
        last[free] = best
    return order


@numba.njit(cache=True, nogil=True)
def _before(one, other, quotient, remainder, counts):  # pragma: no cover - compiled
    if quotient[one] != quotient[other]:
        return quotient[one] < quotient[other]
    mine = remainder[one] * counts[other]
    theirs = remainder[other] * counts[one]
    return mine < theirs or (mine == theirs and one < other)


@numba.njit(cache=True, nogil=True)
def _rise(heap, place, quotient, remainder, counts):  # pragma: no cover - compiled
    while place > 0:
        parent = (place - 1) // 2
        if not _before(heap[place], heap[parent], quotient, remainder, counts):
            return
        heap[place], heap[parent] = heap[parent], heap[place]
        place = parent


@numba.njit(cache=True, nogil=True)
def _sink(heap, size, quotient, remainder, counts):  # pragma: no cover - compiled
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and _before(heap[child + 1], heap[child], quotient, remainder, counts):
            child += 1
        if not _before(heap[child], heap[place], quotient, remainder, counts):
            return
        heap[place], heap[child] = heap[child], heap[place]
        place = child


@numba.njit(cache=True, nogil=True)
def _occurrences(order, subsets):  # pragma: no cover - compiled
    seen = np.zeros(subsets, dtype=np.int64)
    result = np.empty(len(order), dtype=np.int64)
    for row in range(len(order)):
        result[row] = seen[order[row]]
        seen[order[row]] += 1
    return result
