"""The stages that find near duplicates: candidates by keys, their shingles, comparison, and which document is kept.

Between stages lie sorted files, read by ranges, so that memory does not grow with the corpus. Every file depends on the
corpus and the settings alone, not on the number of tasks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from data_recipes.cleaning.duplicates.copies import (
    first_of_group,
    numbers_of,
    ranks_of,
    rows_of,
    unit_bounds,
    units_of,
    write_verdicts,
)
from data_recipes.cleaning.duplicates.minhash import pairs_with_firsts, shingle_sets, similar_pairs
from data_recipes.cleaning.duplicates.shingle_files import Located, is_written, load, locate, write_shingles
from data_recipes.cleaning.duplicates.sorted_runs import (
    END,
    START,
    Run,
    ranges_of_hashes,
    ranges_of_records,
    read_range,
    write_run,
)
from data_recipes.cleaning.steps.base import Corpus
from data_recipes.executors.stage import Stage

PAIRWISE = 16
"""Of more texts with the same key not all are compared with each other."""
LOADED_BYTES = 64 << 20
TEXT_CHARACTERS = 8 << 20


@dataclass(frozen=True)
class NearDuplicates:
    """A search in a corpus whose signals are, in the column `column`, a key of the document's shingles and then its
    bands' keys."""

    corpus: Corpus
    column: str
    shingle_words: int
    similarity: float
    reason: str

    def stages(self) -> list[Stage]:
        return [
            Stage("sort documents by the keys of bands", self._sort_unit),
            Stage("find candidates", self._find_candidates),
            Stage("shingle candidates", self._shingle_unit),
            Stage("compare candidates", self._compare),
            Stage("choose what is kept", self._resolve, alone=True),
            Stage("judge", self._judge),
        ]

    def _sort_unit(self, rank: int, tasks: int) -> None:
        for unit, path in list(enumerate(self._of_units("keys")))[rank::tasks]:
            if path.is_file():
                continue
            signals = self.corpus.signals(unit)[self.column]
            rows = np.flatnonzero(self.corpus.taking_part(unit) & signals.is_valid().to_numpy())
            keys = np.frombuffer(b"".join(signals.take(rows).to_pylist()), dtype=np.uint64)
            keys = keys.reshape(len(rows), signals.type.byte_width // keys.itemsize)
            own, bands = keys[:, 0], keys[:, 1:]
            columns = (ranks_of(self.corpus.origin(unit))[rows], numbers_of(unit, rows), own)
            write_run(path, [bands.ravel(), *(np.repeat(column, bands.shape[1]) for column in columns)])

    def _find_candidates(self, rank: int, tasks: int) -> None:
        for records, path in self._ranges("candidates", rank, tasks):
            groups = Groups(records)
            documents, places = np.unique(records[2, groups.members], return_index=True)
            write_run(path, [documents, records[1, groups.members[places]]])

    def _shingle_unit(self, rank: int, tasks: int) -> None:
        for unit in range(rank, self.corpus.units(), tasks):
            if is_written(self._shingles, unit):
                continue
            candidates = read_range([Run(path) for path in self._of_ranges("candidates")], *unit_bounds(unit))
            documents = np.unique(candidates[0])
            characters = self.corpus.origin(unit)["characters"].to_numpy()[rows_of(documents)]
            sets: list[np.ndarray] = []
            for first, last in portions(characters, TEXT_CHARACTERS):
                texts = self.corpus.texts(unit, rows_of(documents[first:last]).tolist())
                sets += shingle_sets(texts, self.shingle_words)
            write_shingles(self._shingles, unit, documents, sets)

    def _compare(self, rank: int, tasks: int) -> None:
        for records, path in self._ranges("pairs", rank, tasks):
            groups = Groups(records)
            documents, places = np.unique(records[2, groups.members], return_inverse=True)
            located = locate(self._shingles, documents)
            similar = [groups.members[pairs] for pairs in self._similar_pairs(located, places, groups.bounds)]
            later, earlier = groups.with_twins(np.concatenate([np.empty((0, 2), dtype=np.int64), *similar])).T
            write_run(path, [*records[1:3, later], *records[1:3, earlier]])

    def _similar_pairs(self, located: Located, places: np.ndarray, bounds: np.ndarray) -> Iterator[np.ndarray]:
        """The similar pairs of each group: [pairs, 2], numbers of members, the later one first."""
        lengths = (located.ends - located.starts)[places]
        sizes = np.diff(bounds)
        small = np.flatnonzero(sizes <= PAIRWISE)
        bytes_of = 8 * np.add.reduceat(lengths, bounds[:-1]) if len(sizes) else np.empty(0, dtype=np.int64)
        for first, last in portions(bytes_of[small], LOADED_BYTES):
            chosen = small[first:last]
            members = spans(bounds[chosen], sizes[chosen])
            used, own = np.unique(places[members], return_inverse=True)
            values, offsets = load(self._shingles, located.take(used))
            starts = np.concatenate([[0], np.cumsum(sizes[chosen])])
            yield members[similar_pairs(values, offsets, own, starts, self.similarity)]
        for group in np.flatnonzero(sizes > PAIRWISE):
            members = np.arange(bounds[group], bounds[group + 1])
            known = members[:0]
            for first, last in portions(8 * lengths[members], LOADED_BYTES):
                part = np.concatenate([known, members[first:last]])
                used, own = np.unique(places[part], return_inverse=True)
                values, offsets = load(self._shingles, located.take(used))
                pairs, firsts = pairs_with_firsts(values, offsets, own, len(known), PAIRWISE, self.similarity)
                yield part[pairs]
                known = part[firsts]

    def _resolve(self, rank: int, tasks: int) -> None:
        """Go through all pairs from the best document down: what is dropped before is no reason to drop another."""
        if self._count.is_file() and all(path.is_file() for path in self._kept()):
            return
        sizes = [len(self.corpus.origin(unit)) for unit in range(self.corpus.units())]
        first_numbers = np.concatenate([[0], np.cumsum(sizes)])
        dropped = np.zeros(first_numbers[-1] // 8 + 1, dtype=np.uint8)
        runs = [Run(path) for path in self._of_ranges("pairs")]
        count = 0
        for low, high in ranges_of_records(runs):
            _, later, _, earlier = read_range(runs, low, high)
            places = [first_numbers[units_of(one)] + rows_of(one) for one in (later, earlier)]
            is_copy = _choose(*places, dropped)
            write_run(self._count.with_name(f"{count:05d}"), [later[is_copy], earlier[is_copy]])
            count += 1
        write_run(self._count, [np.array([count]), np.array([0])])

    def _judge(self, rank: int, tasks: int) -> None:
        runs = [Run(path) for path in self._kept()]
        for unit in range(rank, self.corpus.units(), tasks):
            copies, kept = read_range(runs, *unit_bounds(unit))
            write_verdicts(self.corpus, unit, copies, kept, self.reason)

    @property
    def _shingles(self) -> Path:
        return self.corpus.folder / "shingles"

    @property
    def _count(self) -> Path:
        """Says how many files of what is kept there are; the last of them to be written."""
        return self.corpus.folder / "kept" / "count"

    def _kept(self) -> list[Path]:
        count = int(Run(self._count).between(START, END)[0, 0])
        return [self._count.with_name(f"{number:05d}") for number in range(count)]

    def _of_units(self, name: str) -> list[Path]:
        return [self.corpus.folder / name / f"{unit:05d}" for unit in range(self.corpus.units())]

    def _of_ranges(self, name: str) -> list[Path]:
        count = len(ranges_of_hashes(self._of_units("keys")))
        return [self.corpus.folder / name / f"{number:05d}" for number in range(count)]

    def _ranges(self, name: str, rank: int, tasks: int) -> Iterator[tuple[np.ndarray, Path]]:
        """The records of each range of keys of a task that has no file yet, and the path of that."""
        paths = self._of_units("keys")
        for bounds, path in list(zip(ranges_of_hashes(paths), self._of_ranges(name), strict=True))[rank::tasks]:
            if not path.is_file():
                yield read_range([Run(one) for one in paths], *bounds), path


class Groups:
    """Records with the same key: [key, rank, document, key of shingles] in this order, uint64 [4, records].

    Of those with the same shingles only the first is a member of a group; the others are its twins.
    """

    def __init__(self, records: np.ndarray) -> None:
        keys, own = records[0], records[3]
        count = len(keys)
        order = np.lexsort((own, keys))
        firsts = first_of_group(_begin(keys[order]) | _begin(own[order]))
        self._first = np.empty(count, dtype=np.int64)
        self._first[order] = order[firsts]
        members = np.flatnonzero(self._first == np.arange(count))
        bounds = np.append(np.flatnonzero(_begin(keys[members])), len(members))
        sizes = np.diff(bounds)
        self.members = members[np.repeat(sizes > 1, sizes)]
        """Places in `records`, of groups of at least two, one group after the other."""
        self.bounds = np.concatenate([[0], np.cumsum(sizes[sizes > 1])])
        """Where each group begins among `members`, and where the last ends."""

    def with_twins(self, pairs: np.ndarray) -> np.ndarray:
        """Pairs (later, earlier) of places in `records`, those of twins added: with their first, and with what that is
        similar to."""
        twins = np.flatnonzero(self._first != np.arange(len(self._first)))
        firsts = self._first[twins]
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        begin = np.searchsorted(pairs[:, 0], firsts, "left")
        counts = np.searchsorted(pairs[:, 0], firsts, "right") - begin
        copied = pairs[spans(begin, counts), 1]
        return np.concatenate(
            [pairs, np.stack([twins, firsts], axis=1), np.stack([np.repeat(twins, counts), copied], axis=1)]
        )


def _begin(values: np.ndarray) -> np.ndarray:
    """Which values differ from the one before."""
    return np.concatenate([[True], values[1:] != values[:-1]])[: len(values)]


def spans(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`counts[0]` numbers from `starts[0]` on, then those from `starts[1]` on, and so forth."""
    return np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts)


def portions(sizes: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of things whose sizes add up to at most `most`, or of a single larger one."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        before = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, before + most, "right")), first + 1)
        yield first, last
        first = last


@numba.njit(cache=True, nogil=True)
def _choose(later, earlier, dropped):  # pragma: no cover - compiled
    """Which pairs drop their later document: the first of its pairs whose earlier one is kept. `dropped` has a bit for
    each document and is brought up to date."""
    is_copy = np.zeros(len(later), dtype=np.bool_)
    for pair in range(len(later)):
        own, other = later[pair], earlier[pair]
        if dropped[own >> 3] >> (own & 7) & 1 or dropped[other >> 3] >> (other & 7) & 1:
            continue
        is_copy[pair] = True
        dropped[own >> 3] |= np.uint8(1 << (own & 7))
    return is_copy
