"""What a subset of a phase takes from its source, and which stretch of which unit each of its rows holds."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from data_recipes.ordering import permutation, seed_of
from data_recipes.packing.best_fit import best_fit
from data_recipes.packing.stream import (
    LongFirst,
    Position,
    Spans,
    count_documents,
    document_pieces,
    draw_spans,
    locate,
    long_first,
    split_by_unit,
)
from data_recipes.tokens.stored import StoredTokens

# Rows of a subset are shuffled, and with best-fit packed, within windows of this many tokens: what a window spans
# is read at random. At least so many rows, so that the last ones of a window, half empty, do not lower the fill.
WINDOW_TOKENS = 16 * 2**20
WINDOW_ROWS = 2048


@dataclass(frozen=True)
class Stretches:
    """Stretches of tokens, in the order in which they fill rows: all int64, one entry a stretch.

    `slot` is the number of the row among those asked for; the tokens are `[start, stop)` of the store's unit `unit`.
    """

    slot: np.ndarray
    unit: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def in_slot_order(parts: Sequence[Stretches]) -> Stretches:
    """The stretches of several parts together, ordered by slot; within a slot as they come."""
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in ("slot", "unit", "start", "stop")]
    order = np.argsort(columns[0], kind="stable")
    return Stretches(*(column[order] for column in columns))


@dataclass(frozen=True)
class Draw(ABC):
    """The rows of one subset. `position` and `after`: the source's ledger before and after it; `tokens` drawn."""

    store: StoredTokens
    position: Position
    after: Position
    rows: int
    context_length: int
    seed: int
    tokens: int

    @abstractmethod
    def stretches(self, places: np.ndarray) -> Stretches:
        """What fills the rows at these places in the subset's order; `slot` counts in the order of `places`."""

    @abstractmethod
    def documents(self) -> int:
        """Documents drawn from, a piece left over from an earlier draw included."""


def concat(
    store: StoredTokens, position: Position, rows: int, context_length: int, *, seed: int, long: int | None
) -> "ConcatDraw":
    """Documents one after the other, cut at the context length: the original's packing."""
    tokens = rows * context_length
    spans, after = draw_spans(store, position, tokens, long_first(store, position, tokens, long))
    return ConcatDraw(store, position, after, rows, context_length, seed, tokens, spans)


@dataclass(frozen=True)
class ConcatDraw(Draw):
    """Row k is tokens k*L .. (k+1)*L of the spans."""

    spans: Spans

    def stretches(self, places: np.ndarray) -> Stretches:
        rows = shuffled(places, self.rows, self.context_length, self.seed)
        spans, slot = _between(self.spans, rows * self.context_length, self.context_length)
        cut = split_by_unit(self.store, spans)
        return Stretches(slot[cut.span], cut.unit, cut.start, cut.stop)

    def documents(self) -> int:
        return count_documents(self.store, self.spans)


def _between(spans: Spans, offsets: np.ndarray, tokens: int) -> tuple[Spans, np.ndarray]:
    """The spans of tokens `offset .. offset + tokens` of a draw for each offset, and whose they are."""
    ends = np.cumsum(spans.lengths)
    # A row takes `counts` spans from its `first` on; `repeat` and the running count list them for all rows at once.
    first = np.searchsorted(ends, offsets, side="right")
    counts = np.searchsorted(ends, offsets + tokens, side="left") - first + 1
    slot = np.repeat(np.arange(len(offsets)), counts)
    number = np.repeat(first, counts) + np.arange(len(slot)) - np.repeat(np.cumsum(counts) - counts, counts)
    begins = (ends - spans.lengths)[number]
    start = spans.start[number] + np.maximum(offsets[slot] - begins, 0)
    stop = spans.stop[number] - np.maximum(ends[number] - (offsets[slot] + tokens), 0)
    return Spans(start, stop), slot


def best_fit_draw(
    store: StoredTokens, position: Position, rows: int, context_length: int, *, seed: int, long: int | None
) -> "BestFitDraw":
    """Whole documents, each row filled by the best fit; only what is longer than a row is cut, into full rows.

    The windows are planned here, one after the other, since each begins where the one before has stopped. Only where
    each begins and how much it takes is kept: the pieces of all windows of a large subset would not fit in memory, so
    `BestFitDraw.stretches` solves a window once more when its rows are written.
    """
    window_rows = rows_per_window(context_length)
    windows = []
    place = position
    tokens = documents = 0
    for done in range(0, rows, window_rows):
        wanted = min(window_rows, rows - done)
        first = long_first(store, place, wanted * context_length, long)
        pieces = _fitting_pieces(store, place, wanted, context_length, first)
        used = int(pieces.lengths.sum())
        windows.append((place, used, first))
        _, place = draw_spans(store, place, used, first)
        documents += len(pieces.start)
        tokens += used
    return BestFitDraw(store, position, place, rows, context_length, seed, tokens, tuple(windows), documents)


def _fitting_pieces(
    store: StoredTokens, position: Position, rows: int, context_length: int, first: LongFirst | None
) -> Spans:
    """As many pieces, from the position on, as best-fit packs into exactly `rows` rows."""
    spans, _ = draw_spans(store, position, rows * context_length, first)
    pieces = cut_long(document_pieces(store, spans), context_length)
    ends = np.cumsum(pieces.lengths)
    # A last document that the end of the draw cuts, though it would fit a row, is left for later.
    whole = len(ends) - _ends_inside(store, int(pieces.stop[-1]), int(pieces.lengths[-1]), context_length)
    count = whole
    # Too many rows: leave out half of the surplus at a time, as leaving out all of it would leave the last rows empty.
    while count > 0 and (surplus := best_fit(pieces.lengths[:count], context_length)[1] - rows) > 0:
        count = min(count - 1, int(np.searchsorted(ends, ends[count - 1] - surplus * context_length // 2)))
    # Too few: one piece more at a time, as long as it needs no row beyond the last.
    while best_fit(pieces.lengths[:count], context_length)[1] < rows and count < len(ends):
        if best_fit(pieces.lengths[: count + 1], context_length)[1] > rows:
            break
        count += 1
    return Spans(pieces.start[:count], pieces.stop[:count])


def _ends_inside(store: StoredTokens, stop: int, length: int, context_length: int) -> bool:
    """Whether a piece shorter than a row ends before its document does."""
    if length == context_length:
        return False
    unit, last, _ = (int(column[0]) for column in locate(store, np.array([stop - 1], dtype=np.int64)))
    ends = store.documents_of(unit)[0]
    return int(ends[np.searchsorted(ends, last, side="right")]) != last + 1


def cut_long(pieces: Spans, context_length: int) -> Spans:
    """Pieces longer than a row, cut into full rows and a rest."""
    counts = -(-pieces.lengths // context_length)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.repeat(pieces.start, counts) + within * context_length
    return Spans(start, np.minimum(start + context_length, np.repeat(pieces.stop, counts)))


@dataclass(frozen=True)
class BestFitDraw(Draw):
    """`windows[w]`: where the window begins in the ledger, how many tokens it takes, and of which documents first."""

    windows: tuple[tuple[Position, int, LongFirst | None], ...]
    pieces: int
    _plans: dict[int, tuple[Spans, np.ndarray]] = field(default_factory=dict, compare=False)
    _lock: Lock = field(default_factory=Lock, compare=False)

    def stretches(self, places: np.ndarray) -> Stretches:
        rows = shuffled(places, self.rows, self.context_length, self.seed)
        window_rows = rows_per_window(self.context_length)
        found = []
        for window in np.unique(rows // window_rows):
            pieces, row_starts = self._plan(int(window))
            slots = np.flatnonzero(rows // window_rows == window)
            inside = rows[slots] - int(window) * window_rows
            counts = row_starts[inside + 1] - row_starts[inside]
            within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            number = np.repeat(row_starts[inside], counts) + within
            unit, start, _ = locate(self.store, pieces.start[number])
            found.append(Stretches(np.repeat(slots, counts), unit, start, start + pieces.lengths[number]))
        return in_slot_order(found)

    def _plan(self, window: int) -> tuple[Spans, np.ndarray]:
        """The window's pieces ordered by row, and where each row's begin (int64, one more than its rows)."""
        with self._lock:
            if window not in self._plans:
                position, tokens, first = self.windows[window]
                spans, _ = draw_spans(self.store, position, tokens, first)
                pieces = cut_long(document_pieces(self.store, spans), self.context_length)
                row_of, _ = best_fit(pieces.lengths, self.context_length)
                order = np.argsort(row_of, kind="stable")
                window_rows = rows_per_window(self.context_length)
                size = min(window_rows, self.rows - window * window_rows)
                starts = np.searchsorted(row_of[order], np.arange(size + 1))
                # Shards are written in order: two windows are enough, the one being left and the one being entered.
                if len(self._plans) > 1:
                    self._plans.pop(next(iter(self._plans)))
                self._plans[window] = (Spans(pieces.start[order], pieces.stop[order]), starts)
            return self._plans[window]

    def documents(self) -> int:
        return self.pieces


def rows_per_window(context_length: int) -> int:
    return max(WINDOW_ROWS, WINDOW_TOKENS // context_length)


def shuffled(places: np.ndarray, rows: int, context_length: int, seed: int) -> np.ndarray:
    """Which row of a draw stands at each place: a seeded order within each window (int64)."""
    window_rows = rows_per_window(context_length)
    result = np.empty_like(places)
    for window in np.unique(places // window_rows):
        first = int(window) * window_rows
        order = permutation(min(window_rows, rows - first), seed_of("rows", seed, int(window)))
        inside = places // window_rows == window
        result[inside] = first + order[places[inside] - first]
    return result
