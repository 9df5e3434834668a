"""A source as one endless stream of tokens: its units in the order of epoch 0, then of epoch 1, and so on.

A position counts tokens in that stream. The ledger keeps one for each source, so that what one subset has
taken, no other takes again within the epoch; it is the only state that goes from phase to phase.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np

from data_recipes.tokens.stored import StoredTokens

# A phase that prefers long documents looks for them in this many times the tokens it needs.
LONG_HORIZON = 8


@dataclass(frozen=True)
class Position:
    """Everything before `tokens` is used; from there on, of the documents of at least `long` tokens, also those
    before `long_tokens`."""

    tokens: int = 0
    long_tokens: int = 0
    long: int = 0

    def as_json(self) -> dict[str, int]:
        """For manifests; the long part only where it differs."""
        if self.long_tokens <= self.tokens:
            return {"tokens": self.tokens}
        return {"tokens": self.tokens, "long_tokens": self.long_tokens, "long": self.long}


@dataclass(frozen=True)
class Spans:
    """Stretches `[start, stop)` of a stream, in the order in which they are drawn (int64)."""

    start: np.ndarray
    stop: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return self.stop - self.start

    def first(self, tokens: int) -> "Spans":
        """The spans up to `tokens` tokens, the last one cut there."""
        ends = np.cumsum(self.lengths)
        if not len(ends) or ends[-1] <= tokens:
            return self
        count = int(np.searchsorted(ends, tokens))
        stop = self.stop[: count + 1].copy()
        stop[-1] -= ends[count] - tokens
        keep = stop > self.start[: count + 1]
        return Spans(self.start[: count + 1][keep], stop[keep])


@dataclass(frozen=True)
class LongFirst:
    """Take documents of at least `tokens` tokens first, as far as there are any before `horizon`."""

    tokens: int
    horizon: int


def long_first(store: StoredTokens, position: Position, tokens: int, long: int | None) -> LongFirst | None:
    """How far a draw of `tokens` tokens looks for long documents: never beyond the epoch."""
    if long is None or tokens == 0:
        return None
    if position.long_tokens > position.tokens:
        long = position.long  # one threshold at a time: a position records only one
    horizon = position.tokens + LONG_HORIZON * tokens
    if store.complete:
        total = total_tokens(store)
        horizon = min(horizon, (position.tokens // total + 1) * total)
    return LongFirst(long, horizon)


def draw_spans(store: StoredTokens, position: Position, tokens: int, first: LongFirst | None) -> tuple[Spans, Position]:
    """The next `tokens` tokens of a source, and the position after them: long documents first if `first`, then the
    stream in its own order."""
    drawn: list[Spans] = []
    left = tokens
    if first is not None and tokens > 0:
        start = max(position.tokens, position.long_tokens)
        found = long_documents(store, start, first.horizon, first.tokens).first(left)
        left -= int(found.lengths.sum())
        drawn.append(found)
        # Enough found: used up to the last of them. Else every long document before the horizon is used.
        reached = int(found.stop[-1]) if left == 0 else max(start, first.horizon)
        position = Position(position.tokens, reached, first.tokens)
    if left > 0:
        plain, position = _plain_spans(store, position, left)
        drawn.append(plain)
    if not drawn:
        return Spans(np.empty(0, np.int64), np.empty(0, np.int64)), position
    return Spans(*(np.concatenate([getattr(one, name) for one in drawn]) for name in ("start", "stop"))), position


def _plain_spans(store: StoredTokens, position: Position, tokens: int) -> tuple[Spans, Position]:
    """The stream from a position on, without the long documents that are used already."""
    start = position.tokens
    if position.long_tokens <= start:
        return _one(start, start + tokens), Position(start + tokens)
    # The gaps between the long documents that are used, and then the stream without gaps.
    used = long_documents(store, start, position.long_tokens, position.long)
    starts = np.concatenate([[start], used.stop])
    stops = np.concatenate([used.start, [max(position.long_tokens, start) + tokens]])
    keep = stops > starts
    spans = Spans(starts[keep], stops[keep]).first(tokens)
    return spans, Position(int(spans.stop[-1]), position.long_tokens, position.long)


def _one(start: int, stop: int) -> Spans:
    return Spans(np.array([start], dtype=np.int64), np.array([stop], dtype=np.int64))


def long_documents(store: StoredTokens, start: int, stop: int, long: int) -> Spans:
    """The documents of at least `long` tokens in a stretch of the stream, clipped to it."""
    starts, stops = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first, ends in _document_ends(store, start, stop):
        begins = np.concatenate([[first], ends[:-1]])
        keep = (ends - begins >= long) & (ends > start) & (begins < stop)
        starts.append(np.maximum(begins[keep], start))
        stops.append(np.minimum(ends[keep], stop))
    return Spans(np.concatenate(starts), np.concatenate(stops))


def _document_ends(store: StoredTokens, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Unit by unit, where the unit begins in the stream and where each of its documents ends."""
    if start >= stop:
        return
    units = split_by_unit(store, _one(start, stop))
    for unit, begin in zip(units.unit.tolist(), units.unit_begin.tolist(), strict=True):
        yield begin, np.asarray(store.documents_of(unit)[0]) + begin


@dataclass(frozen=True)
class UnitSpans:
    """Spans cut at the ends of units. `span` is the number of the span; `start` and `stop` count in the unit."""

    span: np.ndarray
    unit: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    unit_begin: np.ndarray


def split_by_unit(store: StoredTokens, spans: Spans) -> UnitSpans:
    """The spans unit by unit, in order."""
    first, last = _places(store, spans.start), _places(store, spans.stop - 1)
    counts = last - first + 1
    span = np.repeat(np.arange(len(counts)), counts)
    place = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(len(span))
    unit, begin, end = _units_at(store, place)
    start, stop = np.maximum(spans.start[span], begin) - begin, np.minimum(spans.stop[span], end) - begin
    columns = [span, unit, start, stop, begin]
    if (begin == end).any():  # a unit without any token, in the middle of a span
        columns = [column[begin < end] for column in columns]
    return UnitSpans(*columns)


def count_documents(store: StoredTokens, spans: Spans) -> int:
    """Documents that the spans have a token of, each span on its own."""
    return int(_per_unit(store, split_by_unit(store, spans))[1].sum())


def document_pieces(store: StoredTokens, spans: Spans) -> Spans:
    """The spans cut where one document ends and the next begins."""
    cut = split_by_unit(store, spans)
    # Counted first, so that the pieces of every unit can be written straight to their places.
    first, counts = _per_unit(store, cut)
    total = int(counts.sum())
    starts, stops = np.empty(total, np.int64), np.empty(total, np.int64)
    target = np.cumsum(counts) - counts
    for group in groups_of(cut.unit):
        ends = plain(store.documents_of(int(cut.unit[group[0]])))[0]
        _cut_at(
            ends, cut.start[group], cut.stop[group], cut.unit_begin[group], first[group], target[group], starts, stops
        )
    return Spans(starts, stops)


def _per_unit(store: StoredTokens, cut: UnitSpans) -> tuple[np.ndarray, np.ndarray]:
    """For each unit span the number of its first document in the unit, and how many it has."""
    first = np.empty(len(cut.unit), np.int64)
    counts = np.empty(len(cut.unit), np.int64)
    for group in groups_of(cut.unit):
        ends = plain(store.documents_of(int(cut.unit[group[0]])))[0]
        first[group] = np.searchsorted(ends, cut.start[group], side="right")
        counts[group] = np.searchsorted(ends, cut.stop[group] - 1, side="right") - first[group] + 1
    return first, counts


def groups_of(keys: np.ndarray) -> list[np.ndarray]:
    """The indices of each value of `keys`, in order within each."""
    if not len(keys):
        return []
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)


def plain(mapped: np.ndarray) -> np.ndarray:
    """The same memory as a plain array, as numba has no variant for memmap."""
    return mapped.view(np.ndarray)


@numba.njit(cache=True, nogil=True)
def _cut_at(ends, start, stop, begin, first, target, starts, stops):  # pragma: no cover - compiled
    for index in range(len(start)):
        place = target[index]
        document = first[index]
        at = start[index]
        while at < stop[index]:
            end = min(ends[document], stop[index])
            starts[place] = at + begin[index]
            stops[place] = end + begin[index]
            at = end
            document += 1
            place += 1


def total_tokens(store: StoredTokens) -> int:
    """Tokens of the finished units: those of an epoch once the store is complete."""
    return sum(record.tokens for record in store.records.values())


def unit_ends(store: StoredTokens, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The finished units in an epoch's order, and where each ends in that epoch (int64)."""
    # Looked up for every unit of a draw: computed each time, a phase of 5,000 units would take hours.
    key = (epoch, len(store.records))
    if key not in store.ends:
        order = store.unit_order(epoch)
        if not store.complete:
            # Behind a unit that is not tokenised yet no position is known.
            known = np.array([int(number) in store.records for number in order])
            order = order[: len(order) if known.all() else int(np.argmin(known))]
        ends = np.cumsum([store.records[int(number)].tokens for number in order], dtype=np.int64)
        store.ends[key] = order, ends
    return store.ends[key]


def locate(store: StoredTokens, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each position of the stream: the unit, the token in it, and how many tokens follow in that unit."""
    unit, begin, end = _units_at(store, _places(store, positions))
    return unit, positions - begin, end - positions


def _places(store: StoredTokens, positions: np.ndarray) -> np.ndarray:
    """Which of the stream's units each position is in, counted from its beginning through all epochs (int64)."""
    # Every epoch has the same length, though its units come in another order; an unfinished source has no second one.
    if not store.complete:
        return np.searchsorted(unit_ends(store, 0)[1], positions, side="right")
    order, ends = unit_ends(store, 0)
    epochs, offsets = np.divmod(positions, int(ends[-1]))
    places = np.empty_like(positions)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        places[here] = epoch * len(order) + np.searchsorted(unit_ends(store, int(epoch))[1], offsets[here], "right")
    return places


def _units_at(store: StoredTokens, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The units at these places of the stream, and where each begins and ends in it (int64)."""
    order, ends = unit_ends(store, 0)
    epochs, inside = np.divmod(places, len(order)) if store.complete else (np.zeros_like(places), places)
    unit, begin, end = (np.empty_like(places) for _ in range(3))
    for epoch in np.unique(epochs):
        order, ends = unit_ends(store, int(epoch))
        here = epochs == epoch
        place = inside[here]
        unit[here] = order[place]
        end[here] = ends[place] + epoch * ends[-1]
        begin[here] = np.where(place > 0, ends[place - 1], 0) + epoch * ends[-1]
    return unit, begin, end
