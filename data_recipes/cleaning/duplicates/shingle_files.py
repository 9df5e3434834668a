"""The shingles of documents that are to be compared, on disk: a file for each unit, read by document.

Beside each file lies a sorted one of where each document's shingles are, with a checksum of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numba
import numpy as np

from data_recipes.cleaning.duplicates.copies import unit_bounds, units_of
from data_recipes.cleaning.duplicates.sorted_runs import Run, read_range, write_run
from data_recipes.errors import DataError
from data_recipes.files import write_whole


@dataclass(frozen=True)
class Located:
    """Documents in ascending order, and where the shingles of each are in its unit's file."""

    documents: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    checksums: np.ndarray

    def take(self, places: np.ndarray) -> "Located":
        return Located(self.documents[places], self.starts[places], self.ends[places], self.checksums[places])


def is_written(folder: Path, unit: int) -> bool:
    """Whether the shingles of a unit are there."""
    return _index(folder, unit).is_file()


def write_shingles(folder: Path, unit: int, documents: np.ndarray, sets: Sequence[np.ndarray]) -> None:
    """Write the sets of shingles of some documents of a unit, which are in ascending order."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.concatenate([np.empty(0, dtype=np.uint64), *sets])
    ends = np.cumsum([len(one) for one in sets], dtype=np.int64)
    starts = ends - [len(one) for one in sets]
    write_whole(_values(folder, unit), values.tobytes())
    # The index makes them count, so it comes last.
    write_run(_index(folder, unit), [documents, starts, ends, _checksums(values, starts, ends)])


def locate(folder: Path, documents: np.ndarray) -> Located:
    """Where the shingles of some documents are; these are in ascending order and none comes twice."""
    found = [np.empty((3, 0), dtype=np.uint64)]
    units = units_of(documents)
    for unit in np.unique(units).tolist():
        wanted = documents[units == unit]
        index = read_range([Run(_index(folder, unit))], *unit_bounds(unit))
        found.append(index[1:, np.searchsorted(index[0], wanted)])
    starts, ends, checksums = np.concatenate(found, axis=1)
    return Located(documents, starts.astype(np.int64), ends.astype(np.int64), checksums)


def load(folder: Path, located: Located) -> tuple[np.ndarray, np.ndarray]:
    """The shingles of documents, one after the other (uint64), and offsets (int64 [documents + 1])."""
    offsets = np.zeros(len(located.documents) + 1, dtype=np.int64)
    np.cumsum(located.ends - located.starts, out=offsets[1:])
    values = np.empty(offsets[-1], dtype=np.uint64)
    units = units_of(located.documents)
    bounds = np.searchsorted(units, [*np.unique(units), np.iinfo(np.int64).max])
    for first, last in pairwise(bounds):
        path = _values(folder, int(units[first]))
        try:
            stored = np.memmap(path, dtype=np.uint64, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint64)
            part = located.take(np.arange(first, last))
            whole = part.ends.max() <= len(stored)
        except (OSError, ValueError):
            whole = False
        if not whole or not _copy(stored, part.starts, part.ends, part.checksums, values, offsets[first]):
            _index(folder, int(units[first])).unlink(missing_ok=True)
            raise DataError(f"{path}: damaged, or deleted. Give the same command again: it is made again.")
    return values, offsets


def _index(folder: Path, unit: int) -> Path:
    return folder / f"{unit:05d}.index"


def _values(folder: Path, unit: int) -> Path:
    return folder / f"{unit:05d}.shingles"


@numba.njit(cache=True, nogil=True)
def _checksums(values, starts, ends):  # pragma: no cover - compiled
    sums = np.zeros(len(starts), dtype=np.uint64)
    for text in range(len(starts)):
        for place in range(starts[text], ends[text]):
            sums[text] = sums[text] * np.uint64(0x9E3779B97F4A7C15) + values[place]
    return sums


@numba.njit(cache=True, nogil=True)
def _copy(stored, starts, ends, checksums, values, target):  # pragma: no cover - compiled
    """Copy parts of a file to one place in memory; whether all of them are what was written."""
    for text in range(len(starts)):
        total = np.uint64(0)
        for place in range(starts[text], ends[text]):
            total = total * np.uint64(0x9E3779B97F4A7C15) + stored[place]
            values[target] = stored[place]
            target += 1
        if total != checksums[text]:
            return False
    return True
