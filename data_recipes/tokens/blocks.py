"""Encoded documents gathered into blocks, and each block's documents put into another order, closed by EOS."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numba
import numpy as np

# Documents are shuffled among about this many tokens, which is what a thread holds in memory.
SHUFFLE_TOKENS = 4 * 2**20


@dataclass(frozen=True)
class EncodedBatch:
    """A batch of documents: all their ids in one array, and of each document its length, file and row."""

    ids: np.ndarray
    lengths: np.ndarray
    files: np.ndarray
    rows: np.ndarray
    characters: int


@dataclass(frozen=True)
class LongDocument:
    """A document too long to keep in memory: its ids come one stretch after the other, once."""

    ids: Iterator[np.ndarray]
    file: int
    row: int
    characters: int


def blocks(encoded: Iterable[EncodedBatch | LongDocument]) -> Iterator[list[EncodedBatch] | LongDocument]:
    """Batches gathered into blocks to shuffle, ended by the batch that takes them past `SHUFFLE_TOKENS`, or by a long
    document, which is a block of its own."""
    held: list[EncodedBatch] = []
    size = 0
    for batch in encoded:
        if isinstance(batch, LongDocument):
            if held:
                yield held
            yield batch
            held, size = [], 0
            continue
        held.append(batch)
        size += len(batch.ids)
        if size >= SHUFFLE_TOKENS:
            yield held
            held, size = [], 0
    if held:
        yield held


def arrange(
    block: Sequence[EncodedBatch], order: np.ndarray, *, bos_id: int | None, eos_id: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """The documents of the batches in another order, EOS after each (and BOS before, unless None), and their ends."""
    lengths = np.concatenate([batch.lengths for batch in block])[order]
    ends = np.cumsum(lengths + (1 if bos_id is None else 2))
    places = np.empty(len(order), dtype=np.int64)
    places[order] = ends - 1 - lengths
    arranged = np.empty(int(ends[-1]) if len(ends) else 0, dtype=dtype)
    first = 0
    for batch in block:
        _place(batch.ids, batch.lengths, places[first : first + len(batch.lengths)], arranged)
        first += len(batch.lengths)
    arranged[ends - 1] = eos_id
    if bos_id is not None:
        arranged[places - 1] = bos_id
    return arranged, ends


@numba.njit(cache=True, nogil=True)
def _place(ids, lengths, places, out):  # pragma: no cover - compiled
    begin = 0
    for document in range(len(lengths)):
        length, place = lengths[document], places[document]
        # Between two slices a loop works on 16 ids at a time, and otherwise on one: a fifth of the time.
        source, target = ids[begin : begin + length], out[place : place + length]
        for offset in range(len(target)):
            target[offset] = source[offset]
        begin += length
