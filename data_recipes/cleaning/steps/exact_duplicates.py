"""Documents whose text another document has too, but for spaces and line ends.

Each unit finds its own copies and sorts the rest by hash; each range of hashes is then looked at across all units. A
million copies of one text cost a unit no more than a million different ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar
from unicodedata import normalize

import numpy as np
import pyarrow as pa

from data_recipes.cleaning.duplicates.copies import first_of_group, numbers_of, ranks_of, unit_bounds, write_verdicts
from data_recipes.cleaning.duplicates.sorted_runs import Run, ranges_of_hashes, read_range, write_run
from data_recipes.cleaning.steps.base import Batch, Corpus, CorpusStep, StepSettings
from data_recipes.executors.stage import Stage

REASON = "same text as another document"
COLUMN = "text_hash"


class ExactDuplicates(CorpusStep[StepSettings]):
    """Keeps each text once."""

    name: ClassVar[str] = "exact-duplicates"
    Settings: ClassVar[type[StepSettings]] = StepSettings

    def schema(self) -> pa.Schema:
        """A hash of the text in Unicode's form NFC, each run of white space as one space."""
        return pa.schema([(COLUMN, pa.binary(16))])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        return {COLUMN: [hash_of(text) for text in batch.texts]}

    def stages(self, corpus: Corpus) -> list[Stage]:
        return [
            Stage("sort texts by hash", partial(_sort_unit, corpus)),
            Stage("find the same hashes", partial(_find_copies, corpus)),
            Stage("judge", partial(_judge, corpus)),
        ]


def hash_of(text: str) -> bytes:
    """128 bits: equal where texts are, with certainty for all that is practical."""
    return blake2b(normalize("NFC", " ".join(text.split())).encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True)
class _Unit:
    """The documents of a unit that take part, as columns: sorted by hash, then by rank, then by number."""

    hashes: np.ndarray
    """uint64 [documents, 2]"""
    ranks: np.ndarray
    documents: np.ndarray
    firsts: np.ndarray
    """The place of the first document with the same hash."""

    @property
    def is_first(self) -> np.ndarray:
        return self.firsts == np.arange(len(self.firsts))


def _read_unit(corpus: Corpus, unit: int) -> _Unit:
    rows = np.flatnonzero(corpus.taking_part(unit))
    column = corpus.signals(unit)[COLUMN].take(rows).combine_chunks()
    hashes = np.frombuffer(b"".join(column.to_pylist()), dtype=np.uint64).reshape(-1, 2)
    ranks = ranks_of(corpus.origin(unit))[rows]
    documents = numbers_of(unit, rows)
    order = np.lexsort([documents, ranks, hashes[:, 1], hashes[:, 0]])
    hashes = hashes[order]
    return _Unit(hashes, ranks[order], documents[order], first_of_group(_begin(hashes)))


def _begin(hashes: np.ndarray) -> np.ndarray:
    """Which of sorted hashes are not the same as the one before."""
    return np.concatenate([[True], (hashes[1:] != hashes[:-1]).any(axis=1)])[: len(hashes)]


def _hashes(corpus: Corpus) -> list[Path]:
    return [corpus.folder / "hashes" / f"{unit:05d}" for unit in range(corpus.units())]


def _copies(corpus: Corpus) -> list[Path]:
    return [corpus.folder / "copies" / f"{number:05d}" for number in range(len(ranges_of_hashes(_hashes(corpus))))]


def _sort_unit(corpus: Corpus, rank: int, tasks: int) -> None:
    for unit, path in list(enumerate(_hashes(corpus)))[rank::tasks]:
        if not path.is_file():
            found = _read_unit(corpus, unit)
            columns = (found.hashes[:, 0], found.hashes[:, 1], found.ranks, found.documents)
            write_run(path, [column[found.is_first] for column in columns])


def _find_copies(corpus: Corpus, rank: int, tasks: int) -> None:
    """For each first document of a unit with the hash of a better one elsewhere: itself, and the best."""
    paths = _hashes(corpus)
    for (low, high), path in list(zip(ranges_of_hashes(paths), _copies(corpus), strict=True))[rank::tasks]:
        if not path.is_file():
            *hashes, _, documents = read_range([Run(path) for path in paths], low, high)
            firsts = first_of_group(_begin(np.stack(hashes, axis=1)))
            is_copy = firsts != np.arange(len(firsts))
            write_run(path, [documents[is_copy], documents[firsts][is_copy]])


def _judge(corpus: Corpus, rank: int, tasks: int) -> None:
    for unit in range(rank, corpus.units(), tasks):
        copies, best = read_range([Run(path) for path in _copies(corpus)], *unit_bounds(unit))
        found = _read_unit(corpus, unit)
        kept = found.documents[found.firsts]
        if len(copies):
            places = np.searchsorted(copies, kept).clip(max=len(copies) - 1)
            kept = np.where(copies[places] == kept, best[places], kept)
        order = np.argsort(found.documents)
        documents, kept = found.documents[order], kept[order]
        is_copy = documents != kept
        write_verdicts(corpus, unit, documents[is_copy], kept[is_copy], REASON)
