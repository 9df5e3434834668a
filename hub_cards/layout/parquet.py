"""Built phases as a Hub dataset: Parquet shards, one config per phase, and a card written from the manifests.

    publish(Path("data"), Path("hub/yulanmini-data"))        # then: load_dataset("hub/yulanmini-data", "phase-07")

Shards are of 200 to 500 MB, with page index and content-defined chunking, so that a later upload sends only what
changed and a reader fetches only the pages it needs.
"""

import shutil
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes.errors import DataError
from data_recipes.manifest import check_new_folder, whole_folder, write_manifest
from data_recipes.rows.layout import read_file_tables, schema_of
from data_recipes.rows.reader import PackedRows
from data_recipes.rows.verify import phases_in
from data_recipes.tokens.tokenizer import load_tokenizer, tokenizer_files
from hub_cards.cards.card import write_card
from hub_cards.cards.settings import CardSettings
from hub_cards.repos.run_files import RunFiles

SHARD_BYTES = 350 * 10**6
# As `datasets` writes them: chunks of 256 KiB to 1 MiB.
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
WRITING: dict[str, Any] = {
    "compression": "zstd",
    "write_page_index": True,
    "use_content_defined_chunking": CHUNKING,
    "use_dictionary": ["subset", "documents.list.element.source", "documents.list.element.file"],
}
TOKENIZER = "tokenizer"
GROUP_TOKENS = 4 * 2**20


def publish(
    folder: Path, out: Path, *, title: str = "yulanmini-data", tokenizer: str | None = None, progress: bool = True
) -> dict[str, Any]:
    """Write every built phase of `folder` below `out` with card, tokenizer and manifest; returns the manifest.

    `tokenizer`: where it is now, if not where the phases were built with it.
    """
    from tqdm import tqdm

    check_new_folder(out)
    phases = [PackedRows(one) for one in phases_in(folder)]
    files = tokenizer_of(phases, tokenizer)
    with whole_folder(out) as partial:
        total = sum(phase.num_rows * phase.context_length for phase in phases)
        with tqdm(desc="publish", total=total, unit="tok", unit_scale=True, disable=None if progress else True) as bar:
            for phase in phases:
                write_phase(phase, partial / phase.folder.name, progress=bar)
        (partial / TOKENIZER).mkdir()
        for name, path in files.items():
            shutil.copyfile(path, partial / TOKENIZER / name)
        configs = {phase.folder.name: f"{phase.folder.name}/*.parquet" for phase in phases}
        settings = CardSettings("phases", f"your-name/{out.name}", title=title, configs=configs)
        write_card(partial, settings, RunFiles(phases[0].folder.parent, data="."))
        return write_manifest(
            partial,
            kind="published-rows",
            inputs={phase.folder.name: phase.fingerprint for phase in phases},
            config={"shard_bytes": SHARD_BYTES, "chunking": CHUNKING},
            counts={"phases": len(phases), "rows": sum(phase.num_rows for phase in phases), "tokens": total},
        )


def tokenizer_of(phases: Sequence[PackedRows], location: str | None) -> dict[str, Path]:
    """The files of the tokenizer that made all of the phases; `DataError` where they differ or it is not there."""
    entries = {phase.manifest["tokenizer"]["fingerprint"]: phase.manifest["tokenizer"] for phase in phases}
    if len(entries) > 1:
        raise DataError("the phases were built with different tokenizers; publish them one by one.")
    ((fingerprint, entry),) = entries.items()
    place = location or entry["location"]
    try:
        found = load_tokenizer(place).fingerprint
    except DataError as error:
        raise DataError(f"{error} It is published with the rows: say where it is with --tokenizer.") from error
    if found != fingerprint:
        raise DataError(f"{place}: not the tokenizer that made the phases. Name the right one with --tokenizer.")
    return tokenizer_files(place)


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
