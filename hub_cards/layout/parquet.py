"""The rows of a built phase as Parquet, with sources, files and subsets by name (data_recipes/rows/restore.py: back).

Shards are of 200 to 500 MB, with page index and content-defined chunking, so that a later upload sends only what
changed and a reader fetches only the pages it needs.
"""

from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes.rows.layout import read_file_tables, schema_of
from data_recipes.rows.reader import PackedRows

SHARD_BYTES = 350 * 10**6
# As `datasets` writes them: chunks of 256 KiB to 1 MiB.
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
WRITING: dict[str, Any] = {
    "compression": "zstd",
    "write_page_index": True,
    "use_content_defined_chunking": CHUNKING,
    "use_dictionary": ["subset", "documents.list.element.source", "documents.list.element.file"],
}
GROUP_TOKENS = 4 * 2**20


def write_phase(phase: PackedRows, out: Path, *, progress: Any) -> None:
    """One phase as `train-K-of-N.parquet`, sources and files by name instead of by number."""
    out.mkdir(parents=True)
    schema = schema_of(phase.context_length, pa.string())
    tables = read_file_tables(phase.folder)
    step = max(1, GROUP_TOKENS // phase.context_length)

    def rows(start: int, stop: int) -> pa.Table:
        batches = [_with_names(batch, phase, tables, schema) for batch in phase.batches(start, stop)]
        return pa.Table.from_batches(batches).combine_chunks()

    # The compressed size of a row is measured on the first rows: it depends on text and vocabulary.
    probe = pa.BufferOutputStream()
    first = rows(0, min(step, phase.num_rows))
    with pq.ParquetWriter(probe, schema, **WRITING) as writer:
        writer.write_table(first)
    rows_per_shard = max(1, SHARD_BYTES * first.num_rows // probe.getvalue().size)
    shards = -(-phase.num_rows // rows_per_shard)
    for shard in range(shards):
        last = min(phase.num_rows, (shard + 1) * rows_per_shard)
        path = out / f"train-{shard:05d}-of-{shards:05d}.parquet"
        with pq.ParquetWriter(path, schema, **WRITING) as writer:
            for start in range(shard * rows_per_shard, last, step):
                stop = min(last, start + step)
                table = rows(start, stop)
                writer.write_table(table, row_group_size=stop - start)
                progress.update((stop - start) * phase.context_length)


def _with_names(
    batch: pa.RecordBatch, phase: PackedRows, tables: list[dict[str, Any]], schema: pa.Schema
) -> pa.RecordBatch:
    names = pa.array([table["name"] for table in tables])
    first_file = pa.array([0, *accumulate(len(table["files"]) for table in tables)][:-1], pa.int32())
    files = pa.array([file for table in tables for file in table["files"]])
    lists = batch.column("documents")
    pieces = lists.flatten()
    source = pieces.field("source")
    place = pa.compute.add(first_file.take(source), pieces.field("file"))
    named = pa.StructArray.from_arrays(
        [names.take(source), files.take(place), *(pieces.field(name) for name in ("row", "start", "end"))],
        fields=list(schema.field("documents").type.value_type),
    )
    offsets = pa.compute.subtract(lists.offsets, lists.offsets[0])
    subsets = pa.array(phase.subset_names).take(batch.column("subset"))
    documents = pa.ListArray.from_arrays(offsets, named)
    columns = [batch.column("input_ids"), batch.column("doc_lengths"), subsets, documents]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
