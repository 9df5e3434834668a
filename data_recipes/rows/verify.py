"""Re-check a built phase: every checksum, every count, and that the rows are what rows must be."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_recipes.errors import DataError
from data_recipes.manifest import MANIFEST_NAME, read_manifest, verify_files
from data_recipes.rows.layout import KIND, read_file_tables
from data_recipes.rows.reader import PackedRows, piece_lengths
from data_recipes.tokens.units import read_record

UNIT_RECORDS = "unit-*.json"


def finished_folders(folder: Path) -> list[Path]:
    """The folder itself when it is finished, those directly below it, and the sources of a token store in it."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder.")
    below = [folder, *sorted(path for path in folder.glob("[!.]*") if path.is_dir())]
    below += sorted(path for path in folder.glob("store/[!.]*") if path.is_dir())
    found = [path for path in below if (path / MANIFEST_NAME).is_file() or any(path.glob(UNIT_RECORDS))]
    if not found:
        raise DataError(f"{folder}: nothing that was finished is here; expected a {MANIFEST_NAME} in it or below it.")
    return found


def phases_in(folder: Path) -> list[Path]:
    """The built phases of a folder (or the folder itself), in order."""
    manifests = (one for one in finished_folders(folder) if (one / MANIFEST_NAME).is_file())
    found = [one for one in manifests if read_manifest(one)["kind"] == KIND]
    if not found:
        raise DataError(f"{folder}: no built phase in it; expected folders with a manifest of kind '{KIND}'.")
    return found


def verify(folder: Path) -> list[str]:
    """What is wrong with a finished folder, one line each; empty when nothing is."""
    if not (folder / MANIFEST_NAME).is_file() and any(folder.glob(UNIT_RECORDS)):
        return check_units(folder)
    manifest = read_manifest(folder)
    problems = verify_files(folder)
    stray = {path.name for path in folder.glob("rows-*.arrow")} - set(manifest["files"])
    problems += [f"{folder / name}: not in the manifest" for name in sorted(stray)]
    if problems or manifest["kind"] != KIND:
        return problems
    return [f"{folder}: {problem}" for problem in check_rows(PackedRows(folder))]


def check_units(folder: Path) -> list[str]:
    """What differs between the units of a source's tokens and their records."""
    problems = []
    for place in sorted(folder.glob(UNIT_RECORDS)):
        record = read_record(place)
        if record is None:
            problems.append(f"{place}: not the record that was written; the next build makes the unit again")
            continue
        problems += verify_files(folder, manifest={"files": record.files})
    return problems


def check_rows(rows: PackedRows) -> list[str]:
    """What does not fit together in the rows of a phase whose files are sound."""
    problems: list[str] = []
    manifest = rows.manifest
    vocab_size = manifest["tokenizer"]["vocab_size"]
    files = np.array([len(table["files"]) for table in read_file_tables(rows.folder)])
    found = Counter[str]()
    per_subset = np.zeros(len(rows.subset_names), dtype=np.int64)
    for batch in rows.scan():
        problems += [f"rows from {found['rows']}: {one}" for one in _check_batch(batch, rows, vocab_size, files)]
        per_subset += np.bincount(batch.column("subset").to_numpy(), minlength=len(per_subset))
        found["rows"] += batch.num_rows
        found["padding"] += batch.num_rows * rows.context_length - int(piece_lengths(batch).sum())
    for name in ("rows", "padding"):
        if found[name] != manifest["counts"][name]:
            problems.append(f"{found[name]:,} {name}, the manifest says {manifest['counts'][name]:,}")
    for subset, count in zip(manifest["subsets"], per_subset.tolist(), strict=True):
        if subset["rows"] != count:
            problems.append(f"subset {subset['name']}: {count:,} rows, the manifest says {subset['rows']:,}")
        if subset["quota_tokens"] is not None and abs(count * rows.context_length - subset["quota_tokens"]) >= (
            rows.context_length
        ):
            problems.append(f"subset {subset['name']}: {count:,} rows are more than a row from its quota")
    return problems


def _check_batch(batch: pa.RecordBatch, rows: PackedRows, vocab_size: int, files: np.ndarray) -> list[str]:
    problems = []
    ids = batch.column("input_ids").flatten().to_numpy()
    if len(ids) and not 0 <= ids.min() <= ids.max() < vocab_size:
        problems.append(f"ids from {ids.min()} to {ids.max()}, the vocabulary has {vocab_size:,}")
    lengths = batch.column("doc_lengths")
    sums = np.add.reduceat(lengths.flatten().to_numpy(), _starts(lengths))
    if (sums != rows.context_length).any():
        problems.append(f"document lengths add up to {sums.min()}..{sums.max()}, not {rows.context_length}")
    documents = batch.column("documents").flatten()
    source, file = (documents.field(name).to_numpy() for name in ("source", "file"))
    if len(source) and (source.max() >= len(files) or (file >= files[np.minimum(source, len(files) - 1)]).any()):
        problems.append("a document names a source or file that sources.json does not list")
    if (piece_lengths(batch) <= 0).any():
        problems.append("a document's span is empty")
    return problems


def _starts(lists: Any) -> np.ndarray:
    offsets = lists.offsets.to_numpy()
    return offsets[:-1] - offsets[0]
