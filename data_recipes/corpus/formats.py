"""Files of many formats as records with a text: plain text in several encodings, source code, JSON lines, Parquet."""

import codecs
import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from data_recipes.errors import first_line
from data_recipes.reading.compressed import Damaged, damage_told, open_decompressed
from data_recipes.reading.json_files import JsonForm, MalformedJson, json_form, json_values

PROSE_SUFFIXES = frozenset((".txt", ".md", ".markdown", ".rst", ".adoc", ".org", ".text", ".tex"))
CODE_SUFFIXES = frozenset(
    f".{name}"
    for line in (
        "py pyi ipynb c h cc cpp cxx hpp cu cs java kt scala go rs swift m js jsx ts tsx vue rb php pl pm lua r jl",
        "hs ml ex exs erl clj lisp el scm f90 pas asm s v sv vhd lean sh bash zsh ps1 bat sql html css scss xml",
        "yaml yml toml ini cfg cmake proto dart groovy gradle nim zig sol tcl vim awk sed",
    )
    for name in line.split()
)
TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".xls", ".xlsx"))
TEXT_COLUMNS = (
    "text",
    "content",
    "body",
    "document",
    "raw_content",
    "markdown",
    "article",
    "story",
    "passage",
    "code",
)
MAX_TEXT_BYTES = 64 << 20
FIRST_RECORDS = 64


class UnreadableFile(Exception):
    """Why a file gives no text; the reader of a folder notes it and goes on."""


def format_of(path: Path) -> str:
    """jsonl, json, parquet, code, prose or table, by the name without a compression suffix; "unknown" else."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if suffix == ".parquet":
        return "parquet"
    if suffix == ".json":
        return "json"
    if suffix in CODE_SUFFIXES or path.name in ("Makefile", "Dockerfile"):
        return "code"
    if suffix in TABLE_SUFFIXES:
        return "table"
    return "prose" if suffix in PROSE_SUFFIXES else "unknown"


def read_records(path: Path, *, text_column: str | None, digest: Any, limit: int) -> Iterator[dict[str, Any]]:
    """Records of a file, each with "text" (and "row" where there are several); feeds its bytes to `digest`.

    Raises `UnreadableFile` with the reason when there is nothing to read, also after some records when the
    file is damaged further on.
    """
    kind = format_of(path)
    if kind == "parquet":
        yield from read_parquet(path, text_column=text_column, digest=digest)
    elif kind in ("json", "jsonl") and (form := form_with_text(path, text_column=text_column)):
        yield from read_json(path, form, text_column=text_column, digest=digest)
    elif kind == "table":
        raise UnreadableFile("a table without a text column; give .jsonl or .parquet instead")
    else:
        try:
            with damage_told(path), open_decompressed(path) as stream:
                content = stream.read(min(limit, MAX_TEXT_BYTES))
        except Damaged as error:
            raise UnreadableFile(f"damaged compressed file ({error})") from error
        digest.update(content)
        text = decode(content)
        if text.strip():
            yield {"text": text}


def decode(content: bytes) -> str:
    """Text of unknown encoding: byte-order marks first, then UTF-8, UTF-16 without mark, GB 18030."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if content.startswith(mark):
            return decode_as(content, encoding)
    if b"\x00" in content[:8192]:
        for encoding in ("utf-16-le", "utf-16-be"):
            if looks_written(content[:8192].decode(encoding, "ignore")):
                return decode_as(content, encoding)
        raise UnreadableFile("binary")
    try:
        return without_controls(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        if error.end >= len(content) - 3 and error.start > 0 and len(content) == MAX_TEXT_BYTES:
            return without_controls(content[: error.start].decode("utf-8"))
    return decode_as(content, "gb18030")


def decode_as(content: bytes, encoding: str) -> str:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise UnreadableFile("neither UTF-8, UTF-16 nor GB 18030 text") from None
    if encoding == "gb18030":
        # Almost any bytes are valid GB 18030: believe it only where the result is mostly common Chinese.
        foreign = [character for character in text if character > "\x7f"]
        common = sum("\u4e00" <= character <= "\u9fff" or "\u3000" <= character <= "\u303f" for character in foreign)
        if common < 0.7 * len(foreign):
            raise UnreadableFile("neither UTF-8, UTF-16 nor GB 18030 text")
    return without_controls(text)


def looks_written(text: str) -> bool:
    """Whether nearly all characters are Latin or Chinese letters, signs and spaces, as in no wrong reading."""
    usual = sum(
        " " <= character <= "\u024f"
        or character in "\t\r\n"
        or "\u2010" <= character <= "\u2026"
        or "\u3000" <= character <= "\u9fff"
        or character > "\uff00"
        for character in text
    )
    return usual > 0.97 * len(text)


def without_controls(text: str) -> str:
    """The text, or `UnreadableFile` when more than 1 % of its beginning is control characters."""
    head = text[:8192]
    if sum(character < " " and character not in "\t\n\r\f\x1b" for character in head) > 0.01 * len(head):
        raise UnreadableFile("binary")
    return text


def pick_column(names: list[str], wanted: str | None) -> str:
    """The text column: the wanted one, else the first known name."""
    for candidate in (wanted,) if wanted else TEXT_COLUMNS:
        if candidate in names:
            return candidate
    expected = f"'{wanted}'" if wanted else f"one of {', '.join(TEXT_COLUMNS)}"
    raise UnreadableFile(f"no text column: has {', '.join(names[:12]) or 'no columns'}, expected {expected}")


def form_with_text(path: Path, *, text_column: str | None) -> JsonForm | None:
    """How the records of a JSON file follow each other; None for a `.json` that holds none, such as a configuration."""
    if format_of(path) == "jsonl":
        return "lines"
    try:
        with damage_told(path):
            form = json_form(path)
        for _, record in islice(_json_records(path, form, sha256()), FIRST_RECORDS):
            if isinstance(record, dict) and (set(record) & set((text_column,) if text_column else TEXT_COLUMNS)):
                return form
    except MalformedJson:
        return None
    except Damaged:
        return "lines"
    return None


def _json_records(path: Path, form: JsonForm, digest: Any) -> Iterator[tuple[int, Any]]:
    """The numbered values of a file; a line that is no JSON comes as the error that it gave."""
    with damage_told(path), open_decompressed(path) as stream:
        if form != "lines":
            yield from json_values(stream, form, digest.update)
            return
        for row, line in enumerate(stream):
            digest.update(line)
            if line.strip():
                try:
                    yield row, json.loads(line)
                except ValueError as error:
                    yield row, error


def read_json(path: Path, form: JsonForm, *, text_column: str | None, digest: Any) -> Iterator[dict[str, Any]]:
    """One record a value; values that are not JSON objects with a text are counted, not fatal."""
    column, bad, good, first_bad, reason = text_column, 0, 0, 0, ""
    try:
        for row, record in _json_records(path, form, digest):
            try:
                if isinstance(record, ValueError):
                    raise UnreadableFile("not JSON")
                if not isinstance(record, dict):
                    raise UnreadableFile("not a JSON object")
                if column is None or column not in record:
                    column = pick_column(list(record), text_column)
                text = record[column]
                if not isinstance(text, str):
                    raise UnreadableFile(f"column '{column}' holds {type(text).__name__}, expected text")
            except UnreadableFile as error:
                bad, first_bad, reason = bad + 1, first_bad or row + 1, reason or str(error)
                continue
            good += 1
            yield {**record, "text": text, "row": row}
    except MalformedJson as error:
        raise UnreadableFile(f"damaged JSON ({error}); {good} records were read before") from error
    except Damaged as error:
        raise UnreadableFile(f"damaged compressed file ({error}); {good} records were read before") from error
    if bad:
        what = "line" if form == "lines" else "value"
        raise UnreadableFile(f"{bad} of {bad + good} {what}s skipped ({what} {first_bad}: {reason})")


def read_parquet(path: Path, *, text_column: str | None, digest: Any) -> Iterator[dict[str, Any]]:
    """One record a row; only the text column and columns with a path are read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        column = pick_column(file.schema_arrow.names, text_column)
        kind = file.schema_arrow.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UnreadableFile(f"column '{column}' is {kind}, expected string")
        columns = [column, *(name for name in ("path", "file_path") if name in file.schema_arrow.names)]
        row = 0
        for batch in file.iter_batches(batch_size=256, columns=columns):
            for record in batch.to_pylist():
                text = record.pop(column)
                if text and text.strip():
                    digest.update(text.encode("utf-8", "replace"))
                    yield {**record, "text": text, "row": row}
                row += 1
    except pa.ArrowException as error:
        raise UnreadableFile(f"damaged Parquet file ({first_line(error)})") from error
