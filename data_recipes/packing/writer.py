"""Packed rows on disk: Arrow stream files in training order, written shard by shard and kept when interrupted.

A shard's content follows from the plan alone, so it does not matter who writes it, or when. `rows-N.arrow` has
`input_ids` (fixed-size list of int32), `doc_lengths` (they add up to the context length; padding, if any, is
the last), `subset` (int32) and `documents` (source, file and row numbers of `sources.json`, and token span).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from data_recipes.files import HashedFile, matches_record, read_checked, write_checked
from data_recipes.packing.draw import Draw, Stretches, in_slot_order
from data_recipes.packing.gather import Rows, gather
from data_recipes.packing.mixing import interleave, occurrences
from data_recipes.rows.layout import schema_of, shard_name
from data_recipes.tokens.stored import StoredTokens
from data_recipes.tokens.units import maps

SHARD_TOKENS = 16 * 2**20
BATCH_TOKENS = 4 * 2**20


def rows_per_shard(context_length: int) -> int:
    return max(1, SHARD_TOKENS // context_length)


@dataclass(frozen=True)
class PhasePlan:
    """Which draw each row comes from. `draws[i]` is subset i's; `stores` holds each store once. `shard_rows`: rows of a
    shard."""

    draws: Sequence[Draw]
    context_length: int
    stores: Sequence[StoredTokens]
    pad_id: int
    shard_rows: int

    @cached_property
    def order(self) -> np.ndarray:
        """The subset of each row, so that every stretch of rows holds the mixture."""
        return interleave([draw.rows for draw in self.draws])

    @cached_property
    def place(self) -> np.ndarray:
        """Which of its subset's rows each row is."""
        return occurrences(self.order, len(self.draws))

    @property
    def rows(self) -> int:
        return sum(draw.rows for draw in self.draws)

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_rows)

    def rows_of(self, shard: int) -> range:
        """The rows of a shard."""
        return range(shard * self.shard_rows, min(self.rows, (shard + 1) * self.shard_rows))

    def assemble(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop` of the phase."""
        order, place = self.order[start:stop], self.place[start:stop]
        numbers = {store.key: number for number, store in enumerate(self.stores)}
        found: list[Stretches] = []
        for subset in np.unique(order):
            slots = np.flatnonzero(order == subset)
            stretches = self.draws[int(subset)].stretches(place[slots])
            found.append(replace(stretches, slot=slots[stretches.slot]))
        stretches = in_slot_order(found)
        store_of_subset = np.array([numbers[draw.store.key] for draw in self.draws], dtype=np.int64)
        return gather(
            self.stores,
            store_of_subset[order[stretches.slot]],
            stretches,
            rows=stop - start,
            context_length=self.context_length,
            pad_id=self.pad_id,
        )


Count = Callable[[int], object]


def write_rows(plan: PhasePlan, folder: Path, *, workers: int, progress: Any) -> dict[str, dict[str, Any]]:
    """Write every shard that is not there yet; returns the hash and size of each by name."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        futures = [pool.submit(write_shard, plan, folder, number, progress.update) for number in range(plan.shards)]
        try:
            return {shard_name(number): future.result() for number, future in enumerate(futures)}
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def write_shard(plan: PhasePlan, folder: Path, number: int, count: Count = lambda tokens: None) -> dict[str, Any]:
    """Write a shard unless it is there; returns its hash and size. `count` is told of tokens as they are written."""
    name = shard_name(number)
    path = folder / name
    rows = plan.rows_of(number)
    record = read_checked(note_of(folder, name))
    if record is not None and matches_record(path, record):
        count(len(rows) * plan.context_length)
        return record
    partial = folder / f".{name}.{uuid4().hex}.partial"  # nobody else's, even if a task runs twice
    schema = schema_of(plan.context_length)
    step = max(1, BATCH_TOKENS // plan.context_length)
    with HashedFile(partial) as sink, pa.PythonFile(sink, "w") as stream, pa.ipc.new_stream(stream, schema) as writer:
        for start in rows[::step]:
            stop = min(rows.stop, start + step)
            writer.write_batch(record_batch(plan.assemble(start, stop), plan.order[start:stop], schema))
            maps.release()
            count((stop - start) * plan.context_length)
    partial.replace(path)
    write_checked(note_of(folder, name), sink.record)
    return sink.record


def note_of(folder: Path, name: str) -> Path:
    """Where the record of a shard is kept until the phase is finished."""
    return folder / f".{name}.json"


def record_batch(rows: Rows, subsets: np.ndarray, schema: pa.Schema) -> pa.RecordBatch:
    """Gathered rows as Arrow columns, without copying the ids."""
    context_length = rows.input_ids.shape[1]
    lengths, length_ends = _with_padding(rows)
    types = schema.field("documents").type.value_type
    columns = [rows.source, rows.file, rows.row, rows.start, rows.stop]
    documents = pa.StructArray.from_arrays(
        [arrow_array(column, types.field(index).type) for index, column in enumerate(columns)],
        fields=list(types),
    )
    return pa.RecordBatch.from_arrays(
        [
            pa.FixedSizeListArray.from_arrays(arrow_array(rows.input_ids.reshape(-1), pa.int32()), context_length),
            pa.ListArray.from_arrays(_offsets(length_ends), arrow_array(lengths, pa.int32())),
            arrow_array(subsets, pa.int32()),
            pa.ListArray.from_arrays(_offsets(rows.segment_ends), documents),
        ],
        schema=schema,
    )


def _with_padding(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of all segments, a row's padding after its last, and how many there are up to each row's end."""
    lengths = rows.stop - rows.start
    padded = rows.padding > 0
    if not padded.any():
        return lengths, rows.segment_ends
    return np.insert(lengths, rows.segment_ends[padded], rows.padding[padded]), rows.segment_ends + np.cumsum(padded)


def _offsets(ends: np.ndarray) -> pa.Array:
    return arrow_array(np.concatenate([[0], ends]), pa.int32())


def arrow_array(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Numbers as an Arrow array, without a copy where the type fits. (`pa.array` would import pandas: 0.3 s.)"""
    values = np.ascontiguousarray(values, dtype=kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
