"""A user's files as records with a text: rows by a guessed column, plain text and source code in a guessed encoding."""

import codecs
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data_recipes.reading.formats import named_format, unhashed
from data_recipes.reading.source_file import FIRST_ROWS, DamagedFile, Part, SourceFile, format_suffix

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
PATH_COLUMNS = ("path", "file_path", "filename", "max_stars_repo_path")
MAX_TEXT_BYTES = 64 << 20


class UnreadableFile(Exception):
    """Why a file gives no text; the reader of a folder notes it and continues."""


def is_code(path: Path) -> bool:
    """Whether a file is source code by its name; a `.json` without texts is a configuration, which counts as code."""
    return format_suffix(path) in (*CODE_SUFFIXES, ".json") or path.name in ("Makefile", "Dockerfile")


def read_records(path: Path, *, text_column: str | None, limit: int) -> Iterator[dict[str, Any]]:
    """Records of a file, each with "text" (and "row" where there are several).

    Raises `UnreadableFile` with the reason when there is nothing to read, also after some records when the
    file is damaged further on.
    """
    file = unhashed(path)
    columns = (text_column,) if text_column else TEXT_COLUMNS
    if file.format.has_columns and (file.format is named_format(path) or has_text(file, columns)):
        yield from read_rows(file, columns)
        return
    if format_suffix(path) in TABLE_SUFFIXES:
        raise UnreadableFile("a table without a text column; give .jsonl or .parquet instead")
    try:
        with file.decompressed() as stream:
            content = stream.read(min(limit, MAX_TEXT_BYTES))
    except DamagedFile as error:
        raise UnreadableFile(f"damaged {error.kind} file ({error.reason})") from error
    text = decode(content)
    if text.strip():
        yield {"text": text}


def has_text(file: SourceFile, columns: Sequence[str]) -> bool:
    """Whether one of the first rows of a `.json` has one of the columns; else it is a configuration, or no JSON."""
    try:
        rows = islice(file.format.rows(file, Part(0), columns), FIRST_ROWS)
        return any(name in row for _, row in rows if not isinstance(row, str) for name in columns)
    except DamagedFile as error:
        return error.kind != file.format.name  # a damaged container is reported when it is read


def read_rows(file: SourceFile, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One record for each row with a text in one of the columns; the other rows are counted, not fatal."""
    bad, good, first_bad = 0, 0, ""
    what = "line" if file.format.has_lines else "row"
    column = columns[0]
    try:
        for number, row in file.format.rows(file, Part(0), {*columns, *PATH_COLUMNS}):
            if isinstance(row, str):
                reason = row
            else:
                if column not in row:
                    column = next((name for name in columns if name in row), column)
                text = row.get(column, 0)
                if text is None:
                    continue
                if isinstance(text, str):
                    good += 1
                    yield {**row, "text": text, "row": number}
                    continue
                reason = "" if first_bad else no_text(file, row, columns)
            bad += 1
            first_bad = first_bad or f"{what} {number + 1}: {reason}"
    except DamagedFile as error:
        raise UnreadableFile(f"damaged {error.kind} file ({error.reason}); {good} records were read before") from error
    if bad:
        raise UnreadableFile(f"{bad} of {bad + good} {what}s skipped ({first_bad})")


def no_text(file: SourceFile, row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Why a row has no text."""
    for name in columns:
        if name in row:
            return f"column '{name}' holds {type(row[name]).__name__}, expected text"
    found = ", ".join(file.format.columns(file)[:12]) or "no columns"
    expected = f"'{columns[0]}'" if len(columns) == 1 else f"one of {', '.join(columns)}"
    return f"no text column: has {found}, expected {expected}"


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
    """Whether nearly all characters are Latin or Chinese letters, signs and spaces; text decoded wrongly is not."""
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
