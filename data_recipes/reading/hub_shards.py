"""A Hub split as shards (its files) and lanes: some shards one after the other, read from any place on.

A lane reads ahead of its consumer. After a failure of the network, and when a build is started again, it
continues by the `state_dict` of the shard's dataset: nothing before that shard is read again.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any, Protocol

from data_recipes.reading.hub_answers import patiently

# A lane holds two chunks at most: the one that is taken from and the one that is read meanwhile.
CHUNK_ROWS = 512
CHUNK_CHARACTERS = 8 * 2**20


# Rows of one shard, and a function that gives what continues behind the row given last: values that JSON can hold.
Rows = tuple[Iterator[Any], Callable[[], Any]]


class Shards(Protocol):
    """The shards of a split by name, in the dataset's order."""

    names: Sequence[str]

    def rows(self, shard: int, first: int, state: Any) -> Rows:
        """The rows of a shard from `first` on; `state` is what was given there before."""
        ...


class StreamedShards:
    """Shards of a `datasets.IterableDataset`."""

    def __init__(self, dataset: Any, names: Sequence[str]) -> None:
        self.names = names
        self._dataset = dataset

    def rows(self, shard: int, first: int, state: Any) -> Rows:
        dataset = self._dataset.shard(len(self.names), shard)
        if state is not None:
            dataset.load_state_dict(state)
        elif first:
            dataset = dataset.skip(first)
        return iter(dataset), lambda: _without_read_ahead(dataset.state_dict())


def _without_read_ahead(state: Any) -> Any:
    """The state without how far datasets had read ahead, which `previous_state` overrules: it would differ between a
    run that was stopped and one that was not."""
    if not isinstance(state, dict):
        return state
    if state.get("previous_state") is not None:
        state = {**state, "examples_iterable": state["previous_state"]}
    return {key: _without_read_ahead(value) for key, value in state.items()}


class TableShards:
    """Shards of a `datasets.Dataset` that was made of files with these numbers of rows."""

    def __init__(self, dataset: Any, names: Sequence[str], lengths: Sequence[int]) -> None:
        self.names = names
        self.lengths = lengths
        self._dataset = dataset
        self._starts = [0, *accumulate(lengths)]

    def rows(self, shard: int, first: int, state: Any) -> Rows:
        starts = range(self._starts[shard] + first, self._starts[shard + 1], CHUNK_ROWS)
        chunks = (range(start, min(start + CHUNK_ROWS, starts.stop)) for start in starts)
        return (row for chunk in chunks for row in self._dataset.select(chunk)), lambda: None


@dataclass(frozen=True)
class Place:
    """Behind `row` rows of the lane's shard number `shard`; `state` continues there. `ended`: nothing follows."""

    shard: int = 0
    row: int = 0
    state: Any = None
    ended: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Chunk:
    """Rows with the numbers of their shard and row, and the place behind them."""

    rows: list[tuple[tuple[int, int], Any]]
    place: Place


class Lane:
    """The rows of some shards, one shard after the other."""

    def __init__(self, shards: Shards, order: Sequence[int], *, label: str, pool: ThreadPoolExecutor, place: Place):
        self.place = place
        self._shards = shards
        self._order = order
        self._label = label
        self._pool = pool
        self._rows: Rows | None = None
        self._next: Future[Chunk] | None = None

    def take(self, count: int) -> Iterator[tuple[tuple[int, int], Any]]:
        """The next `count` rows, as far as there are, each with its shard's and its own number; then `place` is behind
        them."""
        while count > 0 and not self.place.ended:
            chunk = self._next.result() if self._next is not None else self._read(self.place, count)
            count -= len(chunk.rows)
            # Never beyond what is to be taken, so that its end is a place.
            ahead = count > 0 and not chunk.place.ended
            self._next = self._pool.submit(self._read, chunk.place, count) if ahead else None
            yield from chunk.rows
            self.place = chunk.place

    def _read(self, place: Place, count: int) -> Chunk:
        return patiently(self._label, lambda: self._read_once(place, count))

    def _read_once(self, place: Place, count: int) -> Chunk:
        found: list[tuple[tuple[int, int], Any]] = []
        characters = 0
        shard, row = place.shard, place.row
        try:
            while shard < len(self._order):
                if self._rows is None:
                    self._rows = self._shards.rows(
                        self._order[shard], row, place.state if shard == place.shard else None
                    )
                examples, state = self._rows
                for example in examples:
                    found.append(((self._order[shard], row), example))
                    row += 1
                    characters += sum(len(value) for value in example.values() if isinstance(value, str))
                    if len(found) == min(count, CHUNK_ROWS) or characters > CHUNK_CHARACTERS:
                        return Chunk(found, Place(shard, row, state()))
                self._rows = None
                shard, row = shard + 1, 0
            return Chunk(found, Place(shard, 0, None, ended=True))
        except BaseException:
            self._rows = None  # opened again where this chunk begins
            raise
