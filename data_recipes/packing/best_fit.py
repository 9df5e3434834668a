"""Best-fit-decreasing packing of documents into rows, by length classes and at memory speed.

Documents are taken from the longest down; each goes into the row where it leaves the least room. Rows are kept
in one stack per free space, so a document costs a few operations whatever the number of rows.
"""

import numba
import numpy as np


def best_fit(lengths: np.ndarray, context_length: int) -> tuple[np.ndarray, int]:
    """The row of each document (int64, as long as `lengths`), and the number of rows.

    Every length must be from 1 to `context_length`; no document is cut.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= context_length:
        raise ValueError(f"lengths from {lengths.min()} to {lengths.max()}; expected 1 to {context_length}.")
    return _assign(lengths, context_length)


@numba.njit(cache=True, nogil=True)
def _assign(lengths, context_length):  # pragma: no cover - compiled
    count = len(lengths)
    # A counting sort. cursor[n]: where the class of length n begins in the order from the longest class down.
    cursor = np.zeros(context_length + 1, dtype=np.int64)
    for length in lengths:
        cursor[length] += 1
    place = 0
    for length in range(context_length, 0, -1):
        size = cursor[length]
        cursor[length] = place
        place += size

    # Rows for the documents of each class, in that order: which document gets which follows in one linear pass,
    # so that nothing is ever looked up at random among all documents.
    row_of_place = np.empty(count, dtype=np.int32)
    # head[s]: the last row that came to have s tokens of free space; below[row]: the one under it.
    head = np.full(context_length + 1, -1, dtype=np.int32)
    below = np.empty(count, dtype=np.int32)
    # A bit for every stack that is not empty.
    words = np.zeros(context_length // 64 + 1, dtype=np.uint64)
    rows = 0
    place = 0
    for length in range(context_length, 0, -1):
        # All documents of a class are alike, so a row takes as many of them as fit before another is looked for.
        end = cursor[length - 1] if length > 1 else count
        while place < end:
            space = _next_space(words, length)
            if space < 0:
                row = rows
                rows += 1
                space = context_length
            else:
                row = head[space]
                head[space] = below[row]
                if head[space] < 0:
                    words[space >> 6] ^= np.uint64(1) << np.uint64(space & 63)
            taken = min(end - place, space // length)
            for _ in range(taken):
                row_of_place[place] = row
                place += 1
            space -= taken * length
            if space > 0:
                if head[space] < 0:
                    words[space >> 6] |= np.uint64(1) << np.uint64(space & 63)
                below[row] = head[space]
                head[space] = row

    row_of = np.empty(count, dtype=np.int64)
    for index in range(count):
        length = lengths[index]
        row_of[index] = row_of_place[cursor[length]]
        cursor[length] += 1
    return row_of, rows


@numba.njit(cache=True, nogil=True, inline="always")
def _next_space(words, least):  # pragma: no cover - compiled
    """The smallest free space of at least `least` that some row has; -1 without one."""
    # The bits below `least` are cleared in its word; then the lowest set bit is found by halving.
    number = least >> 6
    bits = (words[number] >> np.uint64(least & 63)) << np.uint64(least & 63)
    while bits == 0:
        number += 1
        if number == len(words):
            return -1
        bits = words[number]
    place = number << 6
    for step in (32, 16, 8, 4, 2, 1):
        if bits & ((np.uint64(1) << np.uint64(step)) - np.uint64(1)) == 0:
            bits >>= np.uint64(step)
            place += step
    return place
