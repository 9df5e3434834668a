"""Reading the very bytes that were hashed: each piece of a file is compared with what it was when it was listed.

SHA-256 names the content; a second look at every byte must not cost as much again, so pieces have xxh3's 128 bits.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xxhash

from data_recipes.errors import DataError

PIECE_BYTES = 4 * 2**20


def hash_piece(piece: Any) -> str:
    """What is kept of a piece of `PIECE_BYTES`, or of the rest at the end."""
    return xxhash.xxh3_128_hexdigest(piece)


class UnchangedFile(io.RawIOBase):
    """A file as it was when its pieces were hashed; `DataError` on reading one that has changed since."""

    def __init__(self, path: Path, size: int, pieces: Sequence[str]) -> None:
        self._path, self._size, self._pieces = path, size, pieces
        self._file = path.open("rb")
        self._position = 0
        self._held = -1
        self._piece = memoryview(b"")

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
        if number != self._held:
            self._read_piece(number)
        part = self._piece[inside : inside + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _read_piece(self, number: int) -> None:
        start = number * PIECE_BYTES
        self._file.seek(start)
        piece = self._file.read(min(PIECE_BYTES, self._size - start))
        if hash_piece(piece) != self._pieces[number]:
            raise DataError(
                f"{self._path}: changed since this command began (the bytes from {start:,}). Run it again, "
                "when nobody writes to the file."
            )
        self._held, self._piece = number, memoryview(piece)

    def close(self) -> None:
        self._file.close()
        super().close()
