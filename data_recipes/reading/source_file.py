"""One input file: its bytes, the very ones that were hashed when it was listed; and what every format can be asked.

Pieces of the content are hashed by xxh3 (128 bits), at the speed of reading; the hash of theirs names the whole.
"""

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import pyarrow as pa
import xxhash

from data_recipes.errors import DataError, first_line
from data_recipes.reading.documents import LongText, Row, texts_of_rows
from data_recipes.reading.text_columns import TextRun
from data_recipes.recipes.source import Source

Value = TypeVar("Value")

PIECE_BYTES = 4 * 2**20
COMPRESSED = (".gz", ".zst")
# As many rows are looked at for the names of the columns.
FIRST_ROWS = 64


def format_suffix(path: Path) -> str:
    """The suffix that tells the format, in lower case, without that of the compression: `.jsonl` for `a.jsonl.zst`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def decompress(stream: BinaryIO, suffix: str) -> BinaryIO:
    """The content of a plain, gzip or zstandard file, by its last suffix."""
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(stream))
    if suffix == ".zst":  # through pyarrow: unlike zstandard's reader it notices when a stream is cut short
        source = pa.PythonFile(stream, "r")
        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(source, "zstd"), 2**20))
    return stream


def hash_piece(piece: Any) -> str:
    """The hash of a piece of `PIECE_BYTES`, or of the rest at the end."""
    return xxhash.xxh3_128_hexdigest(piece)


class UnchangedFile(io.RawIOBase):
    """A file as it was when its pieces were hashed; `DataError` on reading one that has changed since."""

    def __init__(self, path: Path, size: int, pieces: Sequence[str]) -> None:
        self._path, self._size, self._pieces = path, size, pieces
        self._file = path.open("rb")
        self._position = 0
        self._held = -1
        self._piece = bytearray(min(PIECE_BYTES, size))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """At most to the end of the piece; what was appended to the file since is not there."""
        if self._position >= self._size:
            return 0
        number, inside = divmod(self._position, PIECE_BYTES)
        size = min(PIECE_BYTES, self._size - number * PIECE_BYTES)
        if inside == 0 and len(buffer) >= size:  # without a copy
            self._read_piece(number, memoryview(buffer)[:size])
            self._position += size
            return size
        if number != self._held:
            self._held = -1
            self._read_piece(number, memoryview(self._piece)[:size])
            self._held = number
        part = memoryview(self._piece)[inside : min(size, inside + len(buffer))]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _read_piece(self, number: int, into: memoryview) -> None:
        start = number * PIECE_BYTES
        self._file.seek(start)
        read = self._file.readinto(into)
        if hash_piece(into[:read]) != self._pieces[number]:
            raise DataError(
                f"{self._path}: changed since this command began (the bytes from {start:,}). Run it again, "
                "when nobody writes to the file."
            )

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class Part:
    """A stretch of one file: bytes of JSON lines, row groups of Parquet, or the whole (`stop` -1)."""

    file: int
    start: int = 0
    stop: int = -1
    first_row: int = 0


@dataclass(frozen=True)
class SourceFile:
    """One input file. `pieces`: hashes of the stretches that it is read in; without them it is read as it is now.
    `newlines[k]` counts the line ends before byte `k * UNIT_BYTES` (only of plain files of a format with lines)."""

    name: str
    path: Path
    size: int
    format: "Format"
    newlines: tuple[int, ...] = ()
    pieces: tuple[str, ...] = ()

    @cached_property
    def content(self) -> str:
        """Names what is in it: the hash of the hashes of its pieces."""
        return hash_piece("".join(self.pieces).encode())

    def open(self) -> BinaryIO:
        """The bytes that were hashed; `DataError` on reading others."""
        if not self.pieces:
            return self.path.open("rb", buffering=2**20)
        raw = UnchangedFile(self.path, self.size, self.pieces)
        return cast(BinaryIO, io.BufferedReader(raw, 2**20))

    @property
    def compressed(self) -> bool:
        return self.path.suffix.lower() in COMPRESSED

    @contextmanager
    def decompressed(self) -> Iterator[BinaryIO]:
        """The content, decompressed as it is read; what a decompressor finds wrong with it is a `DamagedFile`."""
        suffix = self.path.suffix.lower()
        if self.compressed and self.size == 0:
            raise DamagedFile(self, suffix[1:], EOFError("not even a header."))
        try:
            with decompress(self.open(), suffix) as stream:
                yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DamagedFile(self, "gzip", error) from error
        except OSError as error:
            if suffix != ".zst" or error.errno is not None:  # pyarrow's own findings have no number
                raise
            raise DamagedFile(self, "zstd", error) from error


class DamagedFile(DataError):
    """A file that is damaged or cut short. `kind`: how it was read; `reason`: what the reader found."""

    def __init__(self, file: SourceFile, kind: str, error: BaseException) -> None:
        self.kind, self.reason = kind, first_line(error)
        super().__init__(
            f"{file.path}: damaged or cut short ({file.size} bytes, read as {kind}): {self.reason:.200} "
            "Fetch it again or leave it out with glob."
        )


class Format:
    """A way to read files: rows with columns, unless `documents` is overridden.

    `name` for messages; `loader`: the reader of `datasets` for such files; `descriptions`: names of files that lie
    beside the data and are not data; `has_lines`: large plain files can be cut after any line.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    loader: str = ""
    descriptions: tuple[str, ...] = ()
    has_columns = True
    has_lines = False

    def of(self, path: Path) -> "Format":
        """The format of a file with one of the suffixes, where these do not determine it."""
        return self

    def parts(self, number: int, file: SourceFile, unit_bytes: int) -> Iterator[tuple[Part, int]]:
        """The file (of this number) in parts of about `unit_bytes`, each with its size."""
        yield Part(number), file.size

    def rows(
        self, file: SourceFile, part: Part, columns: Collection[str] | None, wanted: Collection[int] | None = None
    ) -> Iterator[tuple[int, Row]]:
        """Numbered rows of a part, with these `columns` at least (None: all of them); with `wanted`, only rows of these
        numbers, without reading further than the last."""
        raise NotImplementedError

    def documents(
        self, source: Source, file: SourceFile, part: Part, drops: Counter[str], wanted: Collection[int] | None = None
    ) -> Iterator[tuple[int, str | LongText]]:
        """Numbered texts of a part; what gives none is counted."""
        return texts_of_rows(source, self.rows(file, part, source.needed_columns, wanted), drops)

    def batchable(
        self, source: Source, file: SourceFile, part: Part, drops: Counter[str]
    ) -> Iterator[tuple[int, int, str | LongText] | TextRun]:
        """The documents of a part for `documents.batches`, in runs where a format has a fast way to such."""
        return ((part.file, row, text) for row, text in self.documents(source, file, part, drops))

    def columns(self, file: SourceFile) -> list[str]:
        """The names of the columns, as the first row of a file has them."""
        first = (row for _, row in self.rows(file, Part(0), None, range(FIRST_ROWS)) if not isinstance(row, str))
        return list(next(first, ()))


def only(numbered: Iterator[tuple[int, Value]], wanted: Collection[int] | None) -> Iterator[tuple[int, Value]]:
    """Those of the wanted numbers (None: all), without looking further than the last of them."""
    return numbered if wanted is None else _find(numbered, set(wanted))


def _find(numbered: Iterator[tuple[int, Value]], wanted: set[int]) -> Iterator[tuple[int, Value]]:
    for number, value in numbered:
        if number in wanted:
            yield number, value
            wanted.remove(number)
            if not wanted:
                return
