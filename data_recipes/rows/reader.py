"""Reading built phases: the rows of any step by number, memory-mapped, with nothing to shuffle or to save.

rows = PackedRows("data/phase-07").rows(step * batch, (step + 1) * batch)
dataset = load_phase("data/phase-07")        # the same rows as a datasets.Dataset
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from data_recipes.errors import DataError
from data_recipes.files import has_recorded_size
from data_recipes.manifest import read_manifest
from data_recipes.rows.layout import KIND, shard_name

if TYPE_CHECKING:
    from datasets import Dataset

OPEN_SHARDS = 8
SCAN_TOKENS = 4 * 2**20


@dataclass(frozen=True)
class RowBatch:
    """Rows in training order.

    `input_ids` int32 `[n, context_length]`; `doc_lengths` n int32 arrays, each adding up to the context length;
    `subset_ids` int32 `[n]`, an index into `PackedRows.subset_names`; `padding` int32 `[n]`, how many tokens at
    the end of a row are padding (0 unless packed with `best_fit`; the last of its `doc_lengths`).
    """

    input_ids: np.ndarray
    doc_lengths: list[np.ndarray]
    subset_ids: np.ndarray
    padding: np.ndarray


class PackedRows:
    """One built phase. Opening reads the manifest only; shards are mapped when a row of theirs is asked for."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest: dict[str, Any] = read_manifest(self.folder, kind=KIND)
        self.fingerprint: str = self.manifest["fingerprint"]
        self.num_rows: int = self.manifest["counts"]["rows"]
        self.context_length: int = self.manifest["context_length"]
        self.subset_names: list[str] = [subset["name"] for subset in self.manifest["subsets"]]
        self.subset_domains: list[str | None] = [subset["domain"] for subset in self.manifest["subsets"]]
        self._rows_per_shard: int = self.manifest["config"]["rows_per_shard"]
        self._shards: OrderedDict[int, tuple[list[pa.RecordBatch], list[int]]] = OrderedDict()

    def __len__(self) -> int:
        return self.num_rows

    def rows(self, start: int, stop: int) -> RowBatch:
        """Rows `start` to `stop` (exclusive). `DataError` outside the phase."""
        parts = self.batches(start, stop)
        input_ids = np.concatenate([_token_matrix(part, self.context_length) for part in parts])
        lengths = [array for part in parts for array in _lists(part.column("doc_lengths"))]
        documents = np.concatenate([np.diff(part.column("documents").offsets.to_numpy()) for part in parts])
        padding = np.array(
            [int(length[-1]) if len(length) > count else 0 for length, count in zip(lengths, documents, strict=True)],
            dtype=np.int32,
        )
        subset_ids = np.concatenate([part.column("subset").to_numpy() for part in parts])
        return RowBatch(input_ids, lengths, subset_ids, padding)

    def documents(self, row: int) -> list[dict[str, int]]:
        """The pieces of one row: numbers of source, file and row, and the span in the document's tokens."""
        (part,) = self.batches(row, row + 1)
        return part.column("documents")[0].as_py()

    def batches(self, start: int, stop: int) -> list[pa.RecordBatch]:
        """The same rows as slices of the Arrow batches on disk, without a copy."""
        if not 0 <= start < stop <= self.num_rows:
            raise DataError(
                f"{self.folder}: rows {start} to {stop} asked for; the phase has rows 0 to {self.num_rows}."
            )
        slices = []
        while start < stop:
            shard, inside = divmod(start, self._rows_per_shard)
            batches, starts = self._shard(shard)
            number = bisect_right(starts, inside) - 1
            first = inside - starts[number]
            count = min(stop - start, batches[number].num_rows - first)
            slices.append(batches[number].slice(first, count))
            start += count
        return slices

    def scan(self) -> Iterator[pa.RecordBatch]:
        """All rows in order, a few million tokens at a time, without a copy."""
        step = max(1, SCAN_TOKENS // self.context_length)
        for start in range(0, self.num_rows, step):
            yield from self.batches(start, min(start + step, self.num_rows))

    def _shard(self, number: int) -> tuple[list[pa.RecordBatch], list[int]]:
        if number in self._shards:
            self._shards.move_to_end(number)
            return self._shards[number]
        path = self.folder / shard_name(number)
        record = self.manifest["files"].get(path.name)
        if record is None or not has_recorded_size(path, record):
            raise DataError(f"{path}: missing or cut short. Check with 'yulanmini data verify {self.folder}'.")
        try:
            batches = list(pa.ipc.open_stream(pa.memory_map(str(path))))
        except pa.ArrowException as error:
            raise DataError(f"{path}: damaged ({error}). Check with 'yulanmini data verify {self.folder}'.") from error
        starts = [0]
        for batch in batches[:-1]:
            starts.append(starts[-1] + batch.num_rows)
        self._shards[number] = (batches, starts)
        if len(self._shards) > OPEN_SHARDS:
            self._shards.popitem(last=False)
        return self._shards[number]


def piece_lengths(batch: pa.RecordBatch) -> np.ndarray:
    """Tokens of each piece of a document in a batch of rows (int64), in order; padding is no piece."""
    pieces = batch.column("documents").flatten()
    return pieces.field("end").to_numpy() - pieces.field("start").to_numpy()


def _token_matrix(part: pa.RecordBatch, context_length: int) -> np.ndarray:
    return part.column("input_ids").flatten().to_numpy().reshape(-1, context_length)


def _lists(column: pa.ListArray) -> list[np.ndarray]:
    offsets = column.offsets.to_numpy()
    values = column.values.to_numpy()
    return [values[first:last] for first, last in pairwise(offsets)]


def load_phase(folder: str | Path) -> "Dataset":
    """A built phase as a memory-mapped `datasets.Dataset`, rows in training order."""
    from datasets import Dataset, concatenate_datasets

    folder = Path(folder)
    manifest = read_manifest(folder, kind=KIND)
    shards = [str(folder / name) for name in sorted(manifest["files"]) if name.endswith(".arrow")]
    if not shards:
        raise DataError(f"{folder}: the manifest lists no rows. Build it again.")
    return concatenate_datasets([Dataset.from_file(shard) for shard in shards])
