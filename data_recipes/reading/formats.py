"""Files to documents: JSON, Parquet, Arrow and plain text, compressed or not, in batches.

Every row that gives no document is counted under its reason; a damaged container is an error that names the
file. Rows are numbered as in the file (JSON lines: from 0, blank and malformed lines counted too).
"""

import codecs
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, TypeVar

import numpy as np
import orjson

from data_recipes.errors import DataError, first_line
from data_recipes.reading.compressed import Damaged, damage_told, open_decompressed
from data_recipes.reading.files import ARROW, Part, SourceFile
from data_recipes.reading.json_files import FORM_NAMES, MalformedJson, json_values
from data_recipes.reading.long_text import CHUNK_CHARACTERS, LONG_CHARACTERS, LongText, is_long
from data_recipes.recipes.source import Source
from data_recipes.recipes.templates import MissingColumn, NoDecoder

# What numbers a row: its place in a file, or the file's number and that.
Number = TypeVar("Number")

BATCH_CHARACTERS = 4 * 2**20
BATCH_DOCUMENTS = 16_384


@dataclass(frozen=True)
class Documents:
    """A batch of texts with the numbers of their files and rows (int64)."""

    files: np.ndarray
    rows: np.ndarray
    texts: list[str | LongText]


def read_parts(
    source: Source, files: list[SourceFile], parts: Iterable[Part], drops: Counter[str]
) -> Iterator[Documents]:
    """The documents of the parts, in order, in batches of a few MiB; what is dropped is counted by reason."""
    texts = ((part.file, row, text) for part in parts for row, text in _texts_of_part(source, files, part, drops))
    yield from batches(texts)


def _texts_of_part(
    source: Source, files: list[SourceFile], part: Part, drops: Counter[str]
) -> Iterator[tuple[int, str]] | Iterator[tuple[int, str | LongText]]:
    file = files[part.file]
    if file.json_form:
        return texts_of_rows(source, _json_rows(source, file, part, drops), drops)
    if file.suffix == ".parquet":
        return texts_of_rows(source, _parquet_rows(source, file, part), drops)
    if file.suffix in ARROW:
        return texts_of_rows(source, _arrow_rows(file), drops)
    return _plain_text(file, drops)


def batches(texts: Iterable[tuple[int, int, str | LongText]]) -> Iterator[Documents]:
    """Gather (file, row, text) into batches; a long document is one of its own."""
    files: list[int] = []
    rows: list[int] = []
    held: list[str | LongText] = []
    size = 0
    for file, row, text in texts:
        if rows and is_long(text):
            yield Documents(np.array(files, dtype=np.int64), np.array(rows, dtype=np.int64), held)
            files, rows, held, size = [], [], [], 0
        files.append(file)
        rows.append(row)
        held.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS or len(rows) >= BATCH_DOCUMENTS or is_long(text):
            yield Documents(np.array(files, dtype=np.int64), np.array(rows, dtype=np.int64), held)
            files, rows, held, size = [], [], [], 0
    if rows:
        yield Documents(np.array(files, dtype=np.int64), np.array(rows, dtype=np.int64), held)


def texts_of_rows(
    source: Source, rows: Iterable[tuple[Number, Mapping[str, Any]]], drops: Counter[str]
) -> Iterator[tuple[Number, str]]:
    """Numbered rows to numbered texts by the source's filters and column or template."""
    render: Callable[[Mapping[str, Any]], str] = source.renderer()
    for number, row in rows:
        if source.filters and not source.keeps(row):
            drops["filtered"] += 1
            continue
        try:
            text = render(row)
        except MissingColumn as error:
            drops[f"no column '{error.column}'"] += 1
            continue
        except NoDecoder:
            raise
        except (ValueError, TypeError, KeyError):
            drops["template does not fit"] += 1
            continue
        if usable(text, drops):
            yield number, text


def usable(text: str, drops: Counter[str]) -> bool:
    """Whether a text can be a document; if not, the reason is counted."""
    if not text or text.isspace():
        drops["empty"] += 1
        return False
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate, from "\ud800" in JSON
            drops["not UTF-8"] += 1
            return False
    return True


def open_binary(file: SourceFile) -> BinaryIO:
    """The file's content, decompressed as it is read."""
    suffix = file.path.suffix.lower()
    if file.compressed and file.size == 0:
        raise _damaged(file, suffix[1:], EOFError("not even a header."))
    return open_decompressed(file.path, file.open())


@contextmanager
def _damage_named(file: SourceFile) -> Iterator[None]:
    """What a decompressor says of a damaged file as an error that names the file."""
    try:
        with damage_told(file.path):
            yield
    except Damaged as error:
        raise _damaged(file, error.kind, error) from error


def _json_rows(
    source: Source, file: SourceFile, part: Part, drops: Counter[str]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if file.json_form != "lines":
        for number, value in json_values_of(file):
            if isinstance(value, dict):
                yield number, value
            else:
                drops["not a JSON object"] += 1
        return
    parse = parse_json if source.template is not None else _parse_for_text
    for number, line in _lines(file, part):
        if line.isspace():
            continue
        try:
            row = parse(line)
        except UnicodeDecodeError:
            drops["not UTF-8"] += 1
            continue
        except (ValueError, RecursionError):
            drops["malformed JSON"] += 1
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            drops["not a JSON object"] += 1


def json_values_of(file: SourceFile) -> Iterator[tuple[int, Any]]:
    """The numbered values of an array, or of objects over several lines; a file that stops being JSON is an error."""
    assert file.json_form
    try:
        with _damage_named(file), open_binary(file) as stream:
            yield from json_values(stream, file.json_form)
    except MalformedJson as error:
        raise _damaged(file, FORM_NAMES[file.json_form], error) from error


def parse_json(line: bytes) -> Any:
    """The value of a line of UTF-8; `json.loads` alone would guess UTF-16 and UTF-32 too, line by line."""
    return json.loads(line.decode())


def _parse_for_text(line: bytes) -> Any:
    """As `parse_json`, which has the last word on what orjson refuses; integers beyond 64 bits become floats, so this
    is not for templates, which may print them."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return parse_json(line)


def _lines(file: SourceFile, part: Part) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that begin within the part's bytes."""
    with _damage_named(file), open_binary(file) as stream:
        number = part.first_row
        position = part.start
        if part.start:
            stream.seek(part.start - 1)
            if stream.read(1) != b"\n":
                position += len(stream.readline())
                number += 1
        while part.stop < 0 or position < part.stop:
            line = stream.readline()
            if not line:
                return
            if number == 0 and line.startswith(b"\xef\xbb\xbf"):
                position += 3
                line = line[3:]
            position += len(line)
            yield number, line
            number += 1


def _columns(source: Source, names: list[str]) -> list[str] | None:
    """The columns that the text and the filters need; None (all) for templates, which may name any."""
    if source.template is not None:
        return None
    wanted = {source.text_column, *(condition.field for condition in source.filters)}
    tops = {name if name in names else name.split(".")[0] for name in wanted}
    return [name for name in names if name in tops]


def _parquet_rows(source: Source, file: SourceFile, part: Part) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = part.first_row
    try:
        with file.open() as stream, pq.ParquetFile(stream) as parquet:
            columns = _columns(source, parquet.schema_arrow.names)
            groups = list(range(part.start, part.stop))
            for batch in parquet.iter_batches(batch_size=1024, row_groups=groups, columns=columns):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(file, "Parquet", error) from error


def _arrow_rows(file: SourceFile) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa

    number = 0
    try:
        with file.open() as content, pa.PythonFile(content, "r") as stream:
            for batch in arrow_batches(stream)[1]:
                for start in range(0, batch.num_rows, 1024):
                    for row in batch.slice(start, 1024).to_pylist():
                        yield number, row
                        number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(file, "Arrow", error) from error


def arrow_batches(stream: Any) -> tuple[Any, Iterable[Any]]:
    """Schema and record batches of an open Arrow file of either kind: stream or random access."""
    import pyarrow as pa

    try:
        reader = pa.ipc.open_stream(stream)
    except pa.ArrowInvalid:
        stream.seek(0)
        reader = pa.ipc.open_file(stream)
        return reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches))
    return reader.schema, reader


def _plain_text(file: SourceFile, drops: Counter[str]) -> Iterator[tuple[int, str | LongText]]:
    with _damage_named(file), open_binary(file) as stream:
        content = stream.read(LONG_CHARACTERS + 1)
    if len(content) > LONG_CHARACTERS:
        yield from _long_text(file, drops)
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        drops["not UTF-8"] += 1
        return
    if "\0" in text:
        drops["binary"] += 1
    elif usable(text, drops):
        yield 0, text


def _long_text(file: SourceFile, drops: Counter[str]) -> Iterator[tuple[int, LongText]]:
    """As `_plain_text`, for a file that is looked through once and then read again."""
    length = 0
    empty = True
    try:
        for chunk in _chunks(file):
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
        yield 0, LongText(partial(_chunks, file), length)


def _chunks(file: SourceFile) -> Iterator[str]:
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    with _damage_named(file), open_binary(file) as stream:
        while content := stream.read(CHUNK_CHARACTERS):
            yield decode(content)
        yield decode(b"", final=True)


def _damaged(file: SourceFile, kind: str, error: BaseException) -> DataError:
    return DataError(
        f"{file.path}: damaged or cut short ({file.size} bytes, read as {kind}): {first_line(error):.200} "
        "Fetch it again or leave it out with glob."
    )
