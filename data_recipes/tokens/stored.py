"""The tokens of a source as they lie in a store: its units in their order, and the ids and documents of each.

This is all that packing needs of a store; `store.TokenStore` is one that can also make units.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_recipes.ordering import permutation, seed_of
from data_recipes.tokens.units import UnitFolder, UnitRecord


class StoredTokens:
    """What a store holds of one source.

    `key`: the folder's name, which changes with all that changes an id. `unit_count` is None while only reading
    further tells how many units there are; `sequential`: units come in their own order the first time. `fingerprint`:
    of the source's documents. `records`: the finished units. `ends`: see `packing.stream.unit_ends`.
    """

    root: Path
    seed: int
    records: dict[int, UnitRecord]
    ends: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]

    @property
    def key(self) -> str:
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        raise NotImplementedError

    @property
    def unit_count(self) -> int | None:
        raise NotImplementedError

    @property
    def sequential(self) -> bool:
        raise NotImplementedError

    @property
    def units(self) -> UnitFolder:
        raise NotImplementedError

    @property
    def complete(self) -> bool:
        """Whether every unit is tokenised, so that the source's size is known and a second epoch can begin."""
        return len(self.records) == self.unit_count

    def unit_order(self, epoch: int) -> np.ndarray:
        """The order in which the units come in an epoch (int64): by seed, but the first time through a stream."""
        count = self.unit_count
        if count is None or (epoch == 0 and self.sequential):
            return np.arange(len(self.records) if count is None else count, dtype=np.int64)
        return permutation(count, seed_of("units", self.seed, self.fingerprint, epoch))

    def tokens_of(self, number: int) -> np.ndarray:
        """A unit's ids, memory-mapped. `DataError` if what an earlier run has left of it is damaged."""
        return self.units.tokens(number, self.records[number])

    def documents_of(self, number: int) -> np.ndarray:
        """A unit's document table, memory-mapped: int64 `[3, documents]` (end, file, row)."""
        return self.units.documents(number, self.records[number])

    def first_units(self, tokens: int) -> Sequence[int]:
        """The units that hold the first `tokens` tokens, in the order of epoch 0; all there are where these are fewer.

        What is said of a source (rows left out, its size) is said of these, so that it does not matter how many more
        an earlier build, or a cautious estimate, has tokenised.
        """
        found: list[int] = []
        for number in map(int, self.unit_order(0)):
            if tokens <= 0 or number not in self.records:
                break
            found.append(number)
            tokens -= self.records[number].tokens
        return found
