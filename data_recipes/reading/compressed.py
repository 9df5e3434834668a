"""Plain, gzip and zstandard files as one stream of bytes, and what their decompressors say of damage."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast


class Damaged(Exception):
    """A compressed file that is damaged or cut short; `kind` is gzip or zstd."""

    def __init__(self, kind: str, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.kind = kind


def open_decompressed(path: Path, stream: BinaryIO | None = None) -> BinaryIO:
    """The file's content, decompressed as it is read; `stream` gives its bytes where they are not just the file's."""
    suffix = path.suffix.lower()
    if stream is None:
        stream = path.open("rb", buffering=2**20)
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(stream))
    if suffix == ".zst":
        import pyarrow as pa  # unlike zstandard's reader it says when a stream is cut short

        source = pa.PythonFile(stream, "r")
        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(source, "zstd"), 2**20))
    return stream


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Raise `Damaged` for what a decompressor finds wrong while `path` is read; other errors pass."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Damaged("gzip", error) from error
    except OSError as error:
        if path.suffix.lower() != ".zst" or error.errno is not None:  # pyarrow's own findings have no number
            raise
        raise Damaged("zstd", error) from error
