"""Documents that two subsets of a mix have both drawn, because their sources read the same files.

The ledger keeps a document from being used twice within one source. Two sources (two globs, two filters) have a
position each: where their files are the same, the documents drawn from them are compared.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from data_recipes.packing.draw import Draw
from data_recipes.recipes.recipe import Subset
from data_recipes.tokens.store import TokenStore

ROWS_AT_ONCE = 65_536
# Larger than any row's number in a file.
ROW_BITS = 40


def overlaps(subsets: Sequence[Subset], stores: Sequence[TokenStore], draws: Sequence[Draw]) -> list[dict[str, Any]]:
    """`{"subsets": [a, b], "files", "documents"}` for each two subsets that have drawn the same documents.

    `stores` and `draws` are those of each subset.
    """
    found = []
    drawn: dict[int, np.ndarray] = {}
    numbers = _file_numbers(stores)
    for one, other in combinations(range(len(draws)), 2):
        first, second = stores[one], stores[other]
        if first.key == second.key:
            continue
        shared = np.intersect1d(numbers[first.key], numbers[second.key])
        if not len(shared):
            continue
        for index in (one, other):
            if index not in drawn:
                drawn[index] = documents_drawn(draws[index], numbers[stores[index].key])
        twice = np.intersect1d(drawn[one], drawn[other], assume_unique=True)
        if len(twice):
            files = len(np.unique(twice >> ROW_BITS))
            names = [subsets[one].name, subsets[other].name]
            found.append({"subsets": names, "files": files, "documents": len(twice)})
    return found


def _file_numbers(stores: Sequence[TokenStore]) -> dict[str, np.ndarray]:
    """For each store a number for each of its files, the same wherever the contents are the same (int64)."""
    known: dict[str, int] = {}
    return {
        store.key: np.array([known.setdefault(one, len(known)) for one in store.supply.file_ids], dtype=np.int64)
        for store in stores
    }


def documents_drawn(draw: Draw, file_numbers: np.ndarray) -> np.ndarray:
    """The documents that a draw has a token of, as sorted numbers made of their file's and their row's (int64)."""
    drawn = [np.empty(0, np.int64)]
    for start in range(0, draw.rows, ROWS_AT_ONCE):
        stretches = draw.stretches(np.arange(start, min(draw.rows, start + ROWS_AT_ONCE), dtype=np.int64))
        for unit in np.unique(stretches.unit):
            ends, files, rows = draw.store.documents_of(int(unit))
            here = stretches.unit == unit
            # +1 where a stretch enters a document, -1 after the last it touches: above 0 in between.
            edges = np.zeros(len(ends) + 1, dtype=np.int64)
            np.add.at(edges, np.searchsorted(ends, stretches.start[here], side="right"), 1)
            np.add.at(edges, np.searchsorted(ends, stretches.stop[here] - 1, side="right") + 1, -1)
            touched = np.cumsum(edges[:-1]) > 0
            drawn.append((file_numbers[files[touched]] << ROW_BITS) + rows[touched])
    return np.unique(np.concatenate(drawn))
