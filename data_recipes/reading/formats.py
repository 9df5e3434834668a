"""The file formats, one class each: how files with its suffixes are cut into parts, and read into rows and documents.

A new format is a class here and its place in `FORMATS`: recipes, users' folders, traces and messages all ask
`format_of`. Rows are numbered as in the file (lines from 0, blank and malformed ones counted too). A row that gives no
document is counted under its reason; a damaged file is a `DamagedFile`.
"""

import codecs
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes.reading.documents import (
    CHUNK_CHARACTERS,
    LONG_CHARACTERS,
    Documents,
    LongText,
    Row,
    batches,
    is_usable,
    texts_of_rows,
)
from data_recipes.reading.json_column import column_of_lines, newlines_in
from data_recipes.reading.json_files import JsonForm, MalformedJson, json_form, json_values, whole_lines
from data_recipes.reading.source_file import DamagedFile, Format, Part, SourceFile, format_suffix, only
from data_recipes.reading.text_columns import TextRun, usable_run
from data_recipes.recipes.source import Source

ROWS_AT_ONCE = 1024


class JsonLines(Format):
    """One object on each line."""

    name = "JSON lines"
    suffixes = (".jsonl", ".ndjson")
    loader = "json"
    has_lines = True

    def parts(self, number: int, file: SourceFile, unit_bytes: int) -> Iterator[tuple[Part, int]]:
        if not file.newlines or file.size <= unit_bytes:
            yield Part(number), file.size
            return
        for line, start in zip(file.newlines, range(0, file.size, unit_bytes), strict=False):
            stop = min(start + unit_bytes, file.size)
            yield Part(number, start, stop, line), stop - start

    def rows(
        self, file: SourceFile, part: Part, columns: Collection[str] | None, wanted: Collection[int] | None = None
    ) -> Iterator[tuple[int, Row]]:
        blocks = self._blocks(file, part)
        lines = (one for first, _, block in blocks for one in enumerate(io.BytesIO(block), first))
        return _rows_of(only(lines, wanted), columns)

    def batchable(
        self, source: Source, file: SourceFile, part: Part, drops: Counter[str]
    ) -> Iterator[tuple[int, int, str | LongText] | TextRun]:
        for first, newlines, block in self._blocks(file, part):
            texts = None
            if source.is_one_column and not source.filters:
                texts = column_of_lines(block, source.text_column, newlines)
            if texts is not None:
                yield usable_run(part.file, texts, np.arange(first, first + len(texts)), drops)
                continue
            rows = _rows_of(enumerate(io.BytesIO(block), first), source.needed_columns)
            yield from ((part.file, *one) for one in texts_of_rows(source, rows, drops))

    def _blocks(self, file: SourceFile, part: Part) -> Iterator[tuple[int, int, memoryview]]:
        """The lines that begin within the part's bytes, many at a time: the number of the first, how many of them end
        with a newline, and their bytes, which the next ones overwrite."""
        with file.decompressed() as stream:
            number = part.first_row
            position = part.start
            if part.start:
                # The line that is cut here began in the part before, and is read there.
                stream.seek(part.start - 1)
                if stream.read(1) != b"\n":
                    position += len(stream.readline())
                    number += 1
            for lines in whole_lines(stream, position, part.stop):
                if number == 0 and lines[: len(codecs.BOM_UTF8)] == codecs.BOM_UTF8:
                    lines = lines[len(codecs.BOM_UTF8) :]
                newlines = newlines_in(lines)
                yield number, newlines, lines
                number += newlines


def _rows_of(lines: Iterable[tuple[int, bytes]], columns: Collection[str] | None) -> Iterator[tuple[int, Row]]:
    """The rows of numbered lines; blank ones give none."""
    parse = _parse_exactly if columns is None else _parse_fast
    for number, line in lines:
        if line.isspace():
            continue
        try:
            row = parse(line)
        except UnicodeDecodeError:
            row = "not UTF-8"
        except (ValueError, RecursionError):
            row = "malformed JSON"
        else:
            row = _object(row)
        yield number, row


def _object(value: Any) -> Row:
    return value if isinstance(value, dict) else "not a JSON object"


def _parse_exactly(line: bytes) -> Any:
    """The value of a line of UTF-8; `json.loads` alone would guess UTF-16 and UTF-32 too, line by line."""
    return json.loads(line.decode())


def _parse_fast(line: bytes) -> Any:
    """As `_parse_exactly`, which decides on what orjson refuses; integers beyond 64 bits become floats, so this is not
    for templates, which may print them."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return _parse_exactly(line)


class JsonValues(Format):
    """An array, or objects over several lines: values that can be parsed only one after the other."""

    def __init__(self, name: str, form: JsonForm) -> None:
        self.name = name
        self.form = form

    def rows(
        self, file: SourceFile, part: Part, columns: Collection[str] | None, wanted: Collection[int] | None = None
    ) -> Iterator[tuple[int, Row]]:
        try:
            with file.decompressed() as stream:
                for number, value in only(json_values(stream, self.form), wanted):
                    yield number, _object(value)
        except MalformedJson as error:
            raise DamagedFile(file, self.name, error) from error


class Json(Format):
    """Any form of JSON, known by the content: Dolma and peS2o, for example, are JSON lines called `.json.gz`."""

    name = "JSON"
    suffixes = (".json",)
    loader = "json"
    FORMS: ClassVar[dict[JsonForm, Format]] = {
        "lines": JsonLines(),
        "array": JsonValues("a JSON array", "array"),
        "objects": JsonValues("JSON objects over several lines", "objects"),
    }

    def of(self, path: Path) -> Format:
        try:
            with SourceFile(path.name, path, path.stat().st_size, self).decompressed() as stream:
                return self.FORMS[json_form(stream)]
        except DamagedFile:  # reported when it is read
            return self.FORMS["lines"]


class Columnar(Format):
    """Files whose schema names the columns."""

    @contextmanager
    def damage_reported(self, file: SourceFile) -> Iterator[None]:
        """What Arrow finds wrong with a file as a `DamagedFile`."""
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DamagedFile(file, self.name, error) from error


class Parquet(Columnar):
    """Rows in groups, of which each can be read alone."""

    name = "Parquet"
    suffixes = (".parquet",)
    loader = "parquet"

    def parts(self, number: int, file: SourceFile, unit_bytes: int) -> Iterator[tuple[Part, int]]:
        with self.damage_reported(file), file.open() as stream, pq.ParquetFile(stream) as parquet:
            metadata = parquet.metadata
        start = size = first_row = rows = 0
        for group in range(metadata.num_row_groups):
            group_size = metadata.row_group(group).total_byte_size
            if group > start and size + group_size > unit_bytes:
                yield Part(number, start, group, first_row), size
                first_row += rows
                start, size, rows = group, 0, 0
            size += group_size
            rows += metadata.row_group(group).num_rows
        if metadata.num_row_groups > start:
            yield Part(number, start, metadata.num_row_groups, first_row), size

    def rows(
        self, file: SourceFile, part: Part, columns: Collection[str] | None, wanted: Collection[int] | None = None
    ) -> Iterator[tuple[int, Row]]:
        return only(self._rows(file, part, columns, wanted), wanted)

    def _rows(
        self, file: SourceFile, part: Part, columns: Collection[str] | None, wanted: Collection[int] | None
    ) -> Iterator[tuple[int, Row]]:
        number = part.first_row
        with self.damage_reported(file), file.open() as stream, pq.ParquetFile(stream) as parquet:
            names = parquet.schema_arrow.names
            tops = {name if name in names else name.split(".")[0] for name in columns or ()}
            needed = None if columns is None else [name for name in names if name in tops]
            for group in range(part.start, parquet.num_row_groups if part.stop < 0 else part.stop):
                count = parquet.metadata.row_group(group).num_rows
                if wanted is not None and not any(number <= row < number + count for row in wanted):
                    number += count
                    continue
                for batch in parquet.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=needed):
                    for row in batch.to_pylist():
                        yield number, row
                        number += 1

    def batchable(
        self, source: Source, file: SourceFile, part: Part, drops: Counter[str]
    ) -> Iterator[tuple[int, int, str | LongText] | TextRun]:
        column, scores = source.text_column, sorted({condition.field for condition in source.filters})
        with self.damage_reported(file), file.open() as stream, pq.ParquetFile(stream) as parquet:
            schema = parquet.schema_arrow
            one_column = source.is_one_column and {column, *scores} <= set(schema.names)
            if not one_column or schema.field(column).type not in (pa.string(), pa.large_string()):
                yield from super().batchable(source, file, part, drops)
                return
            groups = range(part.start, parquet.num_row_groups if part.stop < 0 else part.stop)
            first = part.first_row
            for batch in parquet.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=[column, *scores]):
                rows, texts = np.arange(first, first + batch.num_rows), batch[column]
                first += batch.num_rows
                texts.validate(full=True)
                if scores:
                    kept = np.array([source.keeps(row) for row in batch.select(scores).to_pylist()], dtype=bool)
                    if not kept.all():
                        drops["filtered"] += int((~kept).sum())
                        texts, rows = texts.filter(pa.array(kept)), rows[kept]
                yield usable_run(part.file, texts.fill_null(""), rows, drops)

    def columns(self, file: SourceFile) -> list[str]:
        with self.damage_reported(file), file.open() as stream:
            return pq.read_schema(stream).names


class Arrow(Columnar):
    """Arrow's own files, of either kind: stream or random access; `Dataset.save_to_disk` writes such."""

    name = "Arrow"
    suffixes = (".arrow", ".feather", ".ipc")
    loader = "arrow"
    descriptions = ("dataset_info.json", "state.json", "dataset_dict.json")

    def rows(
        self, file: SourceFile, part: Part, columns: Collection[str] | None, wanted: Collection[int] | None = None
    ) -> Iterator[tuple[int, Row]]:
        return only(self._rows(file), wanted)

    def _rows(self, file: SourceFile) -> Iterator[tuple[int, Row]]:
        number = 0
        with self.damage_reported(file), file.open() as content, pa.PythonFile(content, "r") as stream:
            for batch in self._open(stream)[1]:
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    for row in batch.slice(start, ROWS_AT_ONCE).to_pylist():
                        yield number, row
                        number += 1

    def columns(self, file: SourceFile) -> list[str]:
        with self.damage_reported(file), file.open() as content, pa.PythonFile(content, "r") as stream:
            return self._open(stream)[0].names

    def _open(self, stream: Any) -> tuple[Any, Iterable[Any]]:
        """Schema and record batches."""
        try:
            reader = pa.ipc.open_stream(stream)
        except pa.ArrowInvalid:
            stream.seek(0)
            reader = pa.ipc.open_file(stream)
            return reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches))
        return reader.schema, reader


class PlainText(Format):
    """A file that is one document: UTF-8 with any suffix that is no other format's."""

    name = "plain text"
    has_columns = False

    def columns(self, file: SourceFile) -> list[str]:
        return []

    def documents(
        self, source: Source, file: SourceFile, part: Part, drops: Counter[str], wanted: Collection[int] | None = None
    ) -> Iterator[tuple[int, str | LongText]]:
        with file.decompressed() as stream:
            content = stream.read(LONG_CHARACTERS + 1)
        if len(content) > LONG_CHARACTERS:
            yield from self._long_text(file, drops)
            return
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            drops["not UTF-8"] += 1
            return
        if "\0" in text:
            drops["binary"] += 1
        elif is_usable(text, drops):
            yield 0, text

    def _long_text(self, file: SourceFile, drops: Counter[str]) -> Iterator[tuple[int, LongText]]:
        """The same for a file that is checked once from beginning to end, and then read again."""
        length = 0
        empty = True
        try:
            for chunk in self._chunks(file):
                length += len(chunk)
                empty = empty and (not chunk or chunk.isspace())
                if "\0" in chunk:
                    drops["binary"] += 1
                    return
        except UnicodeDecodeError:
            drops["not UTF-8"] += 1
            return
        if empty:
            drops["empty"] += 1
        else:
            yield 0, LongText(partial(self._chunks, file), length)

    def _chunks(self, file: SourceFile) -> Iterator[str]:
        decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        with file.decompressed() as stream:
            while content := stream.read(CHUNK_CHARACTERS):
                yield decode(content)
            yield decode(b"", final=True)


PLAIN_TEXT = PlainText()
FORMATS: dict[str, Format] = {
    suffix: format for format in (Json.FORMS["lines"], Json(), Parquet(), Arrow()) for suffix in format.suffixes
}

FORMAT_NAMES: dict[str, Format] = {
    format.name: format for format in (*FORMATS.values(), *Json.FORMS.values(), PLAIN_TEXT)
}


def named_format(path: Path) -> Format:
    """The format by a file's name alone."""
    return FORMATS.get(format_suffix(path), PLAIN_TEXT)


def format_of(path: Path) -> Format:
    """The format of a file; a `.json` is looked into."""
    return named_format(path).of(path)


def unhashed(path: Path) -> SourceFile:
    """A file to be read as it is now."""
    return SourceFile(path.name, path, path.stat().st_size, format_of(path))


def read_parts(
    source: Source, files: list[SourceFile], parts: Iterable[Part], drops: Counter[str]
) -> Iterator[Documents]:
    """The documents of the parts, in order, in batches of a few MiB; what is dropped is counted by reason."""
    yield from batches(
        one for part in parts for one in files[part.file].format.batchable(source, files[part.file], part, drops)
    )
