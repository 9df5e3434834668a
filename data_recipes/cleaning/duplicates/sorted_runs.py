"""An external sort: records of 64-bit numbers, sorted in one file by each task that makes some, and read back from all
files together by ranges, a range at a time in memory.

A file holds blocks of records, then the first record and a checksum of each block, so that a range is found and read
without the rest of the file, and damage is noticed.
"""

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_recipes.errors import DataError
from data_recipes.files import write_whole

BLOCK_RECORDS = 4096
RANGE_BYTES = 16 << 20
"""About how much a range holds: sorting takes some times as much memory."""
_TAIL = 3  # numbers at a file's end: records, columns, checksum of the index

Bound = tuple[int, int]
"""Where a range begins: values of the first two columns."""
START: Bound = (0, 0)
END: Bound = ((1 << 64) - 1, (1 << 64) - 1)
"""Beyond all records: none begins with these two."""


def write_run(path: Path, columns: Sequence[np.ndarray]) -> None:
    """Sort records by their columns (uint64, at least two), from the first on, and write them whole."""
    unsorted = [np.asarray(column, dtype=np.uint64) for column in columns]
    order = np.lexsort(unsorted[::-1])
    records = np.stack([column[order] for column in unsorted], axis=1)
    blocks = [records[first : first + BLOCK_RECORDS] for first in range(0, len(records), BLOCK_RECORDS)]
    index = np.array([[*block[0, :2], zlib.crc32(block.data)] for block in blocks], dtype=np.uint64).reshape(-1, 3)
    tail = np.array([*records.shape, zlib.crc32(index.data)], dtype=np.uint64)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, b"".join([records.tobytes(), index.tobytes(), tail.tobytes()]))


class Run:
    """A file of sorted records; `DataError` where it is missing or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(size - 8 * _TAIL, 0))
                self.records, self.columns, checksum = map(int, np.frombuffer(file.read(), dtype=np.uint64))
                numbers = self.records * self.columns + 3 * -(-self.records // BLOCK_RECORDS) + _TAIL
                if size != 8 * numbers:
                    raise self._damaged()
                file.seek(8 * self.records * self.columns)
                index = file.read()[: -8 * _TAIL]
        except (OSError, ValueError) as error:
            raise self._damaged() from error
        if zlib.crc32(index) != checksum:
            raise self._damaged()
        self.index = np.frombuffer(index, dtype=np.uint64).reshape(-1, 3)

    def between(self, low: Bound, high: Bound) -> np.ndarray:
        """The records from `low` to before `high`: uint64 [records, columns]."""
        # A block before the one that begins at or after `low` may hold some too.
        first = max(_place(self.index, low) - 1, 0)
        last = _place(self.index, high)
        if last <= first:
            return np.empty((0, self.columns), dtype=np.uint64)
        with self.path.open("rb") as file:
            file.seek(8 * self.columns * first * BLOCK_RECORDS)
            read = file.read(8 * self.columns * (min(last * BLOCK_RECORDS, self.records) - first * BLOCK_RECORDS))
        size = 8 * self.columns * BLOCK_RECORDS
        checksums = [zlib.crc32(read[start : start + size]) for start in range(0, len(read), size)]
        if checksums != self.index[first:last, 2].tolist():
            raise self._damaged()
        records = np.frombuffer(read, dtype=np.uint64).reshape(-1, self.columns)
        return records[_place(records, low) : _place(records, high)]

    def _damaged(self) -> DataError:
        self.path.unlink(missing_ok=True)
        return DataError(f"{self.path}: damaged, or deleted. Give the same command again: it is made again.")


def _place(records: np.ndarray, bound: Bound) -> int:
    """How many of some sorted records come before a bound."""
    first, second = (np.uint64(number) for number in bound)
    low, high = np.searchsorted(records[:, 0], [first], "left")[0], np.searchsorted(records[:, 0], [first], "right")[0]
    return int(low + np.searchsorted(records[low:high, 1], second, "left"))


def read_range(runs: Sequence[Run], low: Bound, high: Bound) -> np.ndarray:
    """The records of several files from `low` to before `high`, sorted together: uint64 [columns, records]."""
    found = np.concatenate([run.between(low, high) for run in runs])
    return found[np.lexsort(found.T[::-1])].T


def ranges_of_hashes(paths: Sequence[Path]) -> list[tuple[Bound, Bound]]:
    """Ranges of about `RANGE_BYTES` for files whose first column is a hash; looks at their sizes only."""
    count = _ranges(sum(path.stat().st_size for path in paths))
    bounds = [START, *(((number << 64) // count, 0) for number in range(1, count)), END]
    return list(pairwise(bounds))


def ranges_of_records(runs: Sequence[Run]) -> Iterator[tuple[Bound, Bound]]:
    """Ranges of about `RANGE_BYTES` for any files, cut between their blocks."""
    firsts = np.concatenate([run.index[:, :2] for run in runs])
    firsts = firsts[np.lexsort(firsts.T[::-1])]
    count = _ranges(sum(8 * run.records * run.columns for run in runs))
    cuts = [tuple(map(int, firsts[len(firsts) * number // count])) for number in range(1, count)]
    bounds: list[Bound] = [START, *dict.fromkeys(cuts), END]  # type: ignore[list-item]
    return pairwise(bounds)


def _ranges(size: int) -> int:
    return max(1, -(-size // RANGE_BYTES))
