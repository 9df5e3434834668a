"""Built phases back from a published data set: the very files that were built, which `train` reads.

    data/phase-07/*.parquet, manifest.json, sources.json  ->  OUT/phase-07/rows-*.arrow, ...

A published row names its source and file; a built one numbers them. Everything that is written is compared with the
SHA-256 that the phase's manifest has of it, so a checkpoint of a run on the original rows goes on with these.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_recipes.errors import DataError, listed, nearest
from data_recipes.files import HashedFile
from data_recipes.manifest import MANIFEST_NAME, check_new_folder, fingerprint_of, verify_files, whole_folder
from data_recipes.packing.writer import BATCH_TOKENS, arrow_array
from data_recipes.rows.layout import KIND, SOURCES_NAME, read_file_tables, schema_of, shard_name, write_for_datasets

DATA, TOKENIZER = "data", "tokenizer"  # of a published data set


def published_phases(repo: Path) -> dict[str, Path]:
    """The phases of a published data set by name; `DataError` where it has none."""
    found = {path.parent.name: path.parent for path in sorted(Path(repo).glob(f"{DATA}/*/{MANIFEST_NAME}"))}
    if not found:
        raise DataError(
            f"{repo}: no phase in it; expected {DATA}/PHASE/{MANIFEST_NAME} and *.parquet, as a published data set has "
            "(`hf download REPO --repo-type dataset --local-dir DIR` fetches one)."
        )
    return found


def restore_phases(
    repo: Path, out: Path, names: Sequence[str] = (), *, progress: bool = False, dry_run: bool = False
) -> list[Path]:
    """Write `out`/PHASE for the named phases (default: all) of a published data set; those that are there already are
    kept. `DataError` for a name that is none of them, and where the rows are not those that the manifest records."""
    phases = published_phases(repo)
    for name in names:
        if name not in phases:
            raise DataError(f"{repo}: no phase '{name}'.{nearest(name, list(phases))} It has {', '.join(phases)}.")
    wanted = {name: phases[name] for name in names or phases}
    todo = [name for name in wanted if not _is_there(out / name, wanted[name])]
    for name in todo:
        check_new_folder(out / name)
    for name in () if dry_run else todo:
        _restore(wanted[name], out / name, tokenizer=_tokenizer_for(repo, out), progress=progress)
    return [out / name for name in wanted]


def _is_there(folder: Path, published: Path) -> bool:
    """Whether an earlier call has restored this very phase."""
    try:
        return _manifest(folder)["fingerprint"] == _manifest(published)["fingerprint"]
    except DataError:
        return False


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        identity = {key: manifest[key] for key in ("kind", "inputs", "config", "seed", "files")}
        if manifest["kind"] != KIND or manifest["fingerprint"] != fingerprint_of(identity):
            raise DataError(f"{path}: not the manifest of a built phase, or edited since. Download it again.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as the manifest of a built phase ({error}).") from error
    return manifest


def _tokenizer_for(repo: Path, out: Path) -> Path:
    """The tokenizer of the data set, copied beside the phases."""
    place = out / TOKENIZER
    if not place.exists() and (repo / TOKENIZER).is_dir():
        with whole_folder(place) as partial:
            for path in sorted((repo / TOKENIZER).iterdir()):
                if path.is_file():
                    shutil.copyfile(path, partial / path.name)
    return place


def _restore(published: Path, folder: Path, *, tokenizer: Path, progress: bool) -> None:
    from tqdm import tqdm

    manifest = _manifest(published)
    context, rows = manifest["context_length"], manifest["counts"]["rows"]
    per_shard = manifest["config"]["rows_per_shard"]
    step = max(1, BATCH_TOKENS // context)
    shards = [(start, min(start + per_shard, rows)) for start in range(0, rows, per_shard)]
    sizes = [min(step, last - start) for first, last in shards for start in range(first, last, step)]
    with whole_folder(folder) as partial:
        (partial / SOURCES_NAME).write_bytes((published / SOURCES_NAME).read_bytes())
        numbers = Numbers(read_file_tables(partial), [subset["name"] for subset in manifest["subsets"]])
        tables = _slices(sorted(published.glob("*.parquet")), sizes)
        schema, hashes = schema_of(context), {}
        with tqdm(desc=folder.name, total=rows * context, unit="tok", unit_scale=True, disable=not progress) as bar:
            for number, (first, last) in enumerate(shards):
                path = partial / shard_name(number)
                with (
                    HashedFile(path) as sink,
                    pa.PythonFile(sink, "w") as stream,
                    pa.ipc.new_stream(stream, schema) as writer,
                ):
                    for _ in range(first, last, step):
                        batch = numbers.batch(next(tables), schema)
                        writer.write_batch(batch)
                        bar.update(batch.num_rows * context)
                hashes[path.name] = sink.record
        identity = {key: manifest[key] for key in ("inputs", "config", "seed")}
        write_for_datasets(partial, title=folder.name, shards=sorted(hashes), fingerprint=fingerprint_of(identity))
        if problems := verify_files(partial, manifest=manifest):
            wrote = manifest.get("packages", {}).get("pyarrow", "?")
            raise DataError(
                f"{published}: its rows do not give the files that were built:\n{listed(problems)}\n"
                f"Download them again. They were built with pyarrow {wrote}; this is {pa.__version__}."
            )
        if tokenizer.is_dir():
            manifest["tokenizer"]["location"] = str(tokenizer.resolve())
        (partial / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def _slices(files: Sequence[Path], sizes: Sequence[int]) -> Iterator[pa.Table]:
    """The rows of Parquet files in order, so many at a time; `DataError` where there are fewer."""
    try:
        batches = (batch for file in files for batch in pq.ParquetFile(file).iter_batches())
        held: list[pa.RecordBatch] = []
        for size in sizes:
            while sum(batch.num_rows for batch in held) < size:
                held.append(next(batches))
            table = pa.Table.from_batches(held)
            yield table.slice(0, size).combine_chunks()
            held = table.slice(size).to_batches()
    except (StopIteration, pa.ArrowException, OSError) as error:
        reason = "too few rows" if isinstance(error, StopIteration) else error
        raise DataError(f"{files[0].parent if files else '*.parquet'}: cannot be read ({reason}).") from error


class Numbers:
    """The numbers of sources, files and subsets by their names."""

    def __init__(self, tables: list[dict[str, Any]], subsets: list[str]) -> None:
        self._sources = pa.array([table["name"] for table in tables], pa.string())
        self._subsets = pa.array(subsets, pa.string())
        self._files = pa.array(
            [f"{number}/{file}" for number, table in enumerate(tables) for file in table["files"]], pa.string()
        )
        self._first_file = np.cumsum([0, *(len(table["files"]) for table in tables)])

    def batch(self, table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
        """Published rows as they are built: the columns without anything that says what is null."""
        ids, lengths, subset, documents = (table.column(name).combine_chunks() for name in schema.names)
        pieces = documents.flatten()
        source = _number(pieces.field("source"), self._sources, "source")
        key = pc.binary_join_element_wise(pc.cast(source, pa.string()), pieces.field("file"), "/")
        file = _number(key, self._files, "file").to_numpy() - self._first_file[source.to_numpy()]
        kinds = schema.field("documents").type.value_type
        columns = [source.to_numpy(), file, *(pieces.field(name).to_numpy() for name in ("row", "start", "end"))]
        struct = pa.StructArray.from_arrays(
            [arrow_array(column, kinds.field(index).type) for index, column in enumerate(columns)], fields=list(kinds)
        )
        context = schema.field("input_ids").type.list_size
        tokens = arrow_array(ids.flatten().to_numpy(), pa.int32())
        return pa.RecordBatch.from_arrays(
            [
                pa.FixedSizeListArray.from_arrays(tokens, context),
                pa.ListArray.from_arrays(_offsets(lengths), arrow_array(lengths.flatten().to_numpy(), pa.int32())),
                arrow_array(_number(subset, self._subsets, "subset").to_numpy(), pa.int32()),
                pa.ListArray.from_arrays(_offsets(documents), struct),
            ],
            schema=schema,
        )


def _number(names: pa.Array, known: pa.Array, what: str) -> pa.Array:
    found = pc.index_in(names, value_set=known)
    if found.null_count:
        name = names[pc.index(pc.is_null(found), True).as_py()]
        raise DataError(f"{what} '{name}' of a published row is not in {SOURCES_NAME} or {MANIFEST_NAME}.")
    return found


def _offsets(lists: pa.ListArray) -> pa.Array:
    offsets = lists.offsets.to_numpy()
    return arrow_array(offsets - offsets[0], pa.int32())
