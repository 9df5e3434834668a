"""What the steps that look for duplicates share: which of two documents is kept, and the verdicts on the others.

A document is a number, its unit and its row. Its rank is the higher the later its source in the order of priority, then
the shorter its text. The one of the lowest rank is kept, of equal ones the one of the lowest number.
"""

import numpy as np
import pyarrow as pa

from data_recipes.cleaning.duplicates.sorted_runs import Bound
from data_recipes.cleaning.steps.base import Corpus

_ROW_BITS = np.uint64(32)
_LONGEST = np.uint64((1 << 40) - 1)


def numbers_of(unit: int, rows: np.ndarray) -> np.ndarray:
    """The documents (uint64) of some rows of a unit."""
    return (np.uint64(unit) << _ROW_BITS) | rows.astype(np.uint64)


def rows_of(documents: np.ndarray) -> np.ndarray:
    """The row (int64) of each document in its unit."""
    return (documents & np.uint64((1 << 32) - 1)).astype(np.int64)


def units_of(documents: np.ndarray) -> np.ndarray:
    """The unit (int64) of each document."""
    return (documents >> _ROW_BITS).astype(np.int64)


def unit_bounds(unit: int) -> tuple[Bound, Bound]:
    """Where the documents of a unit begin and end among records sorted by document."""
    return (unit << 32, 0), ((unit + 1) << 32, 0)


def ranks_of(origin: pa.Table) -> np.ndarray:
    """The rank (uint64) of each document of a unit, from `Corpus.origin`."""
    sources = origin["source"].to_numpy().astype(np.uint64)
    characters = origin["characters"].to_numpy().astype(np.uint64)
    return (sources << np.uint64(40)) | (_LONGEST - np.minimum(characters, _LONGEST))


def first_of_group(is_first: np.ndarray) -> np.ndarray:
    """The place (int64) of the first of its group for each record of groups that follow one another."""
    return np.maximum.accumulate(np.where(is_first, np.arange(len(is_first)), 0))


def write_verdicts(corpus: Corpus, unit: int, copies: np.ndarray, kept: np.ndarray, reason: str) -> None:
    """Drop `copies`, documents of a unit in ascending order, each as a copy of the document in `kept`."""
    places = list(zip(units_of(kept).tolist(), rows_of(kept).tolist(), strict=True))
    corpus.write_verdicts(unit, rows_of(copies).tolist(), [reason] * len(copies), places)
