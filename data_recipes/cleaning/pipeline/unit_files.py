"""Parquet files of a run that appear whole, each with a record beside it; read only as they were written.

A file is written under a hidden name and appears by rename; its record (JSON) follows and makes it count. The record
holds what the file was made from, size and SHA-256, and counts. A file that is not what was written is found when it
is read; it is made again when the same command is given again.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes.errors import DataError, naming_full_disk
from data_recipes.files import HashedFile, has_recorded_size, matches_record
from data_recipes.manifest import fingerprint_of

PARTIAL = ".partial"


def unit_name(unit: int) -> str:
    """The name of a unit's files, without the ending."""
    return f"{unit:05d}"


@contextmanager
def writing(path: Path) -> Iterator[HashedFile]:
    """A file that takes its name when it is finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with naming_full_disk(path):
            with HashedFile(partial) as file:
                yield file
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class ParquetFile:
    """A Parquet file in the making: tables that become one row group each."""

    def __init__(self, file: HashedFile, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows = 0
        self._sink = pa.PythonFile(file, "w")
        # Texts hardly repeat, and a dictionary of giant ones takes their memory again.
        with_dictionary = [name for name in schema.names if name != "text"]
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd", use_dictionary=with_dictionary)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self.rows += len(table)

    def close(self) -> None:
        self._writer.close()
        self._sink.close()

    def abandon(self) -> None:
        """End without caring what becomes of the file."""
        with suppress(Exception):
            self.close()


@contextmanager
def writing_parquet(path: Path, schema: pa.Schema) -> Iterator[tuple[ParquetFile, HashedFile]]:
    """A Parquet file that takes its name when it is finished; the second value then has its `record`."""
    with writing(path) as file:
        parquet = ParquetFile(file, schema)
        try:
            yield parquet, file
        except BaseException:
            parquet.abandon()
            raise
        parquet.close()


def write_record(path: Path, *, made_from: str, files: dict[str, dict[str, Any]], **counts: Any) -> None:
    """The record of files that were just written, named relative to the record's folder."""
    content = {"made_from": made_from, "files": files, **counts}
    line = json.dumps({"fingerprint": fingerprint_of(content), **content}, ensure_ascii=False)
    with writing(path) as file:
        file.write(line.encode() + b"\n")


def read_record(path: Path, *, made_from: str) -> dict[str, Any] | None:
    """A record whose files are there with their sizes; None where they are yet to be made, or made again."""
    try:
        content = json.loads(path.read_text())
        fingerprint = content.pop("fingerprint")
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    if fingerprint != fingerprint_of(content) or content.get("made_from") != made_from:
        return None
    whole = all(has_recorded_size(path.parent / name, record) for name, record in content["files"].items())
    return content if whole else None


def read_checked_record(path: Path, *, made_from: str) -> dict[str, Any] | None:
    """As `read_record`, and the files hold what was written: each is read."""
    record = read_record(path, made_from=made_from)
    if record is None:
        return None
    same = all(matches_record(path.parent / name, file) for name, file in record["files"].items())
    return record if same else None


def open_parquet(path: Path, record_path: Path) -> pq.ParquetFile:
    """A file of the run as it was written; `DataError` where it is not, and it will be made again."""
    try:
        record = json.loads(record_path.read_text())["files"][os.path.relpath(path, record_path.parent)]
        stat = path.stat()
        _check_content(str(path), (stat.st_ino, stat.st_size, stat.st_mtime_ns), record["sha256"], record["bytes"])
        return pq.ParquetFile(path, memory_map=True)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        record_path.unlink(missing_ok=True)
        raise DataError(
            f"{path}: not what was written there: damaged, or deleted. Give the same command again: it is made again."
        ) from error


@lru_cache(maxsize=4096)
def _check_content(path: str, state: tuple[int, ...], sha256: str, size: int) -> None:
    """Hash a file once in each process, as long as it stays the same. `ValueError` where it is another."""
    if not matches_record(Path(path), {"sha256": sha256, "bytes": size}):
        raise ValueError("another SHA-256")


def read_columns(path: Path, record_path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Some columns of a whole file."""
    with open_parquet(path, record_path) as parquet:
        return parquet.read(columns=None if columns is None else list(columns), use_threads=False)
