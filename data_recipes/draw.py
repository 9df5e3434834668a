"""What a subset of a phase takes from its source's tokens, and which stretch of which unit each row holds.

A source is one endless stream: its units in the order of epoch 0, then of epoch 1, and so on. A position is a
count of tokens in that stream; the ledger keeps one for each source, so that what one subset has taken, no
other takes again in that epoch.
"""

from dataclasses import dataclass

import numpy as np

from data_recipes.permutation import permutation, seed_of
from data_recipes.token_store import TokenStore

# Rows of a subset are shuffled within windows of this many.
WINDOW_ROWS = 16_384


@dataclass(frozen=True)
class Stretches:
    """Stretches of tokens, in the order in which they fill rows: all int64, one entry a stretch.

    `slot` says which of the asked rows, `unit` which unit of the store, `[start, stop)` which of its tokens.
    """

    slot: np.ndarray
    unit: np.ndarray
    start: np.ndarray
    stop: np.ndarray


@dataclass(frozen=True)
class ConcatDraw:
    """Documents one after the other, cut at the context length: row k is tokens k*L .. (k+1)*L of the draw."""

    store: TokenStore
    position: int
    rows: int
    context_length: int
    seed: int

    @property
    def stop(self) -> int:
        """The source's position after this draw."""
        return self.position + self.rows * self.context_length

    def shuffled(self, rows: np.ndarray) -> np.ndarray:
        """Which row of the draw stands at each of the given places (int64)."""
        result = np.empty_like(rows)
        for window in np.unique(rows // WINDOW_ROWS):
            first = int(window) * WINDOW_ROWS
            size = min(WINDOW_ROWS, self.rows - first)
            order = permutation(size, seed_of("rows", self.seed, int(window)))
            inside = rows // WINDOW_ROWS == window
            result[inside] = first + order[rows[inside] - first]
        return result

    def stretches(self, rows: np.ndarray) -> Stretches:
        """Where the tokens of the given places come from; `slot` counts in the order of `rows`."""
        start = self.position + self.shuffled(rows) * self.context_length
        slot = np.arange(len(rows), dtype=np.int64)
        left = np.full(len(rows), self.context_length, dtype=np.int64)
        found = []
        while len(slot):
            unit, offset, room = locate(self.store, start)
            taken = np.minimum(left, room)
            found.append((slot, unit, offset, offset + taken))
            more = left > taken
            slot, start, left = slot[more], (start + taken)[more], (left - taken)[more]
        columns = [np.concatenate(column) for column in zip(*found, strict=True)]
        order = np.argsort(columns[0], kind="stable")
        return Stretches(*(column[order] for column in columns))

    def documents(self) -> int:
        """Documents of which at least one token is drawn (a document met again in a later epoch counts again)."""
        if self.rows == 0:
            return 0
        edges = np.array([self.position, self.stop - 1], dtype=np.int64)
        first, last = (self._document_number(int(edge)) for edge in edges)
        return last - first + 1

    def _document_number(self, position: int) -> int:
        """How many documents of the stream end at or before a position."""
        epoch, offset = divmod(position, total_tokens(self.store)) if self.store.complete else (0, position)
        order, ends = unit_ends(self.store, epoch)
        place = int(np.searchsorted(ends, offset, side="right"))
        before = sum(self.store.records[int(unit)].documents for unit in order[:place])
        inside = offset - (int(ends[place - 1]) if place else 0)
        here = int(np.searchsorted(self.store.documents_of(int(order[place]))[0], inside, side="right"))
        return epoch * sum(record.documents for record in self.store.records.values()) + before + here


def total_tokens(store: TokenStore) -> int:
    """Tokens of one epoch of a complete store."""
    return sum(record.tokens for record in store.records.values())


def unit_ends(store: TokenStore, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The finished units in an epoch's order, and where each ends in that epoch (int64)."""
    order = store.unit_order(epoch)
    if not store.complete:
        known = np.array([int(number) in store.records for number in order])
        order = order[: len(order) if known.all() else int(np.argmin(known))]
    return order, np.cumsum([store.records[int(number)].tokens for number in order], dtype=np.int64)


def locate(store: TokenStore, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each position of the stream: the unit, the token in it, and how many tokens follow in that unit."""
    if store.complete:
        epochs, offsets = np.divmod(positions, total_tokens(store))
    else:
        epochs, offsets = np.zeros_like(positions), positions
    unit = np.empty_like(positions)
    inside = np.empty_like(positions)
    room = np.empty_like(positions)
    for epoch in np.unique(epochs):
        order, ends = unit_ends(store, int(epoch))
        here = epochs == epoch
        place = np.searchsorted(ends, offsets[here], side="right")
        sizes = np.diff(ends, prepend=0)
        unit[here] = order[place]
        inside[here] = offsets[here] - (ends - sizes)[place]
        room[here] = ends[place] - offsets[here]
    return unit, inside, room
