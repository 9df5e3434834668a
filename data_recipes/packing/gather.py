"""Rows out of token stores: ids copied and document boundaries found by compiled loops, one call a unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from data_recipes.packing.draw import Stretches
from data_recipes.packing.stream import groups_of, plain
from data_recipes.tokens.stored import StoredTokens
from data_recipes.tokens.units import drop_pages


@dataclass(frozen=True)
class Rows:
    """Packed rows. Segment k of the batch is one document's piece in one row.

    `input_ids` int32 `[rows, context_length]`; `padding` int64 `[rows]`, tokens at a row's end that belong to no
    document; `segment_ends` int64 `[rows]`, the number of segments up to and with each row. Then per segment,
    all int64: `source`, `file`, `row`, and the span `[start, stop)` in the document's tokens (its closing EOS is
    its last token).
    """

    input_ids: np.ndarray
    padding: np.ndarray
    segment_ends: np.ndarray
    source: np.ndarray
    file: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def gather(
    stores: Sequence[StoredTokens],
    store_of: np.ndarray,
    stretches: Stretches,
    rows: int,
    context_length: int,
    pad_id: int,
) -> Rows:
    """Fill `rows` rows from stretches (ordered by slot); `store_of` names each stretch's store by number."""
    lengths = stretches.stop - stretches.start
    filled = np.bincount(stretches.slot, weights=lengths, minlength=rows).astype(np.int64)
    # Where a stretch goes in its row: behind the stretches of the same row that come before it.
    within = np.cumsum(lengths) - lengths - (np.cumsum(filled) - filled)[stretches.slot]
    target = stretches.slot * context_length + within
    if filled.min(initial=context_length) < context_length:
        input_ids = np.full((rows, context_length), pad_id, dtype=np.int32)
    else:
        input_ids = np.empty((rows, context_length), dtype=np.int32)
    flat = input_ids.reshape(-1)
    first_document = np.empty(len(lengths), dtype=np.int64)
    documents = np.empty(len(lengths), dtype=np.int64)

    # Stretches grouped by (store, unit), so that each compiled call has one array to read from.
    keys = store_of * (int(stretches.unit.max(initial=0)) + 1) + stretches.unit
    groups = groups_of(keys)
    units = [(stores[int(store_of[group[0]])], int(stretches.unit[group[0]])) for group in groups]
    for group, (store, unit) in zip(groups, units, strict=True):
        start, stop = stretches.start[group], stretches.stop[group]
        tokens = store.tokens_of(unit)
        _copy(plain(tokens), start, stop, target[group], flat)
        # At once, not at the end of the batch: a page of a large folio brings the whole folio into memory.
        drop_pages(tokens)
        ends = plain(store.documents_of(unit))[0]
        _count_documents(ends, start, stop, group, first_document, documents)

    # A second pass over the units: only now, with all documents counted, is the place of each segment known.
    segment_stop = np.cumsum(documents)
    segments = int(segment_stop[-1]) if len(segment_stop) else 0
    columns = np.empty((4, segments), dtype=np.int64)
    for group, (store, unit) in zip(groups, units, strict=True):
        _list_documents(
            plain(store.documents_of(unit)),
            stretches.start[group],
            stretches.stop[group],
            first_document[group],
            documents[group],
            (segment_stop - documents)[group],
            columns,
        )
    segment_ends = np.zeros(rows, dtype=np.int64)
    np.add.at(segment_ends, stretches.slot, documents)
    segments_of = np.repeat(store_of, documents)
    return Rows(input_ids, context_length - filled, np.cumsum(segment_ends), segments_of, *columns)


@numba.njit(cache=True, nogil=True)
def _copy(tokens, start, stop, target, out):  # pragma: no cover - compiled
    for index in range(len(start)):
        # As in `tokens.blocks._place`.
        source = tokens[start[index] : stop[index]]
        place = out[target[index] : target[index] + len(source)]
        for offset in range(len(place)):
            place[offset] = source[offset]


@numba.njit(cache=True, nogil=True)
def _count_documents(ends, start, stop, where, first_document, documents):  # pragma: no cover - compiled
    for index in range(len(start)):
        first = np.searchsorted(ends, start[index], side="right")
        last = np.searchsorted(ends, stop[index] - 1, side="right")
        first_document[where[index]] = first
        documents[where[index]] = last - first + 1


@numba.njit(cache=True, nogil=True)
def _list_documents(table, start, stop, first, documents, target, columns):  # pragma: no cover - compiled
    for index in range(len(start)):
        for number in range(documents[index]):
            document = first[index] + number
            begin = table[0, document - 1] if document > 0 else 0
            place = target[index] + number
            columns[0, place] = table[1, document]
            columns[1, place] = table[2, document]
            columns[2, place] = max(start[index], begin) - begin
            columns[3, place] = min(stop[index], table[0, document]) - begin
