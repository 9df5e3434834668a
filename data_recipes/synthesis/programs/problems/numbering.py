"""Numbering what problems are made of: subsets, arrangements, and a shuffle of any range that takes no memory."""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import sha256
from math import comb, isqrt, perm
from typing import Any

ROUNDS = 4
MASK = (1 << 64) - 1
ODD = 0x9E3779B97F4A7C15


class Subsets(Sequence[tuple[int, ...]]):
    """All sets of `k` numbers below `n`, in the combinatorial number system, each in increasing order."""

    def __init__(self, n: int, k: int) -> None:
        self.n, self.k = n, k
        self._counts = [[comb(top, size) for top in range(n)] for size in range(1, k + 1)]

    def __len__(self) -> int:
        return comb(self.n, self.k)

    def __getitem__(self, number: Any) -> Any:
        chosen = []
        for counts in reversed(self._counts):
            top = bisect_right(counts, number) - 1
            chosen.append(top)
            number -= counts[top]
        return tuple(chosen[::-1])


class Arrangements(Sequence[tuple[int, ...]]):
    """All ways to put `k` different numbers below `n` in a row."""

    def __init__(self, n: int, k: int) -> None:
        self.n, self.k = n, k

    def __len__(self) -> int:
        return perm(self.n, self.k)

    def __getitem__(self, number: Any) -> Any:
        left, row = list(range(self.n)), []
        for size in range(self.n, self.n - self.k, -1):
            number, place = divmod(number, size)
            row.append(left.pop(place))
        return tuple(row)


class Shuffle:
    """A seeded order of the numbers below `size`, each once: the number at any place without those before it.

    A Feistel network on a square of at least `size` places; what falls outside goes through it again
    (Black and Rogaway, 2002).
    """

    def __init__(self, size: int, seed: str) -> None:
        self.size = size
        self._side = isqrt(max(size - 1, 0)) + 1
        digest = sha256(seed.encode()).digest()
        self._keys = [int.from_bytes(digest[8 * turn : 8 * turn + 8], "big") for turn in range(ROUNDS)]

    def __getitem__(self, place: int) -> int:
        side, size = self._side, self.size
        while True:
            left, right = divmod(place, side)
            for key in self._keys:
                mixed = ((right ^ key) * ODD) & MASK
                left, right = right, (left + (mixed ^ (mixed >> 32))) % side
            place = left * side + right
            if place < size:
                return place
