"""Files that appear whole, and files that a later run resumes from.

`write_whole` is for small files: new content or old, never half. `HashedFile` is for the large ones that a build
leaves: hashed as they are written, and again before a later run uses them. Those are not flushed to the disk one by
one, which would take longer than making them; what a crash of the machine has damaged is found when it is hashed
again.
"""

import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_recipes.errors import naming_full_disk
from data_recipes.manifest import HASHES, HashName, fingerprint_of, matches_hash, sha256_file

# Little enough that what was hashed is still in the processor's cache when it is written.
WRITTEN_AT_ONCE = 2**19


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file by new content (text as UTF-8) in one step, flushed to the disk.

    The temporary name is this process's own, so that two processes that write the same file cannot mix their bytes.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with naming_full_disk(path), partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_checked(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file by what JSON makes of `content`, with a fingerprint of it."""
    write_whole(path, json.dumps({"fingerprint": fingerprint_of(content), **content}, ensure_ascii=False) + "\n")


def read_checked(path: Path) -> dict[str, Any] | None:
    """What `write_checked` has written; None where there is no such file, or it is damaged."""
    try:
        content = json.loads(path.read_text())
        fingerprint = content.pop("fingerprint")
        return content if fingerprint == fingerprint_of(content) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@contextmanager
def only_process(lock: Path, busy: Exception, *, among_others: bool = False) -> Iterator[None]:
    """Hold a lock on a file, made if it is not there, which ends with the process; raises `busy` where another process
    holds it. `among_others`: with others that say so too."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if among_others else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError:  # a file system without locks
            pass
        yield


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Wait for a lock on a file, made if it is not there, and hold it."""
    with lock.open("a") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class HashedFile(io.RawIOBase):
    """A new file that is hashed as it is written, so that its record needs no second reading."""

    def __init__(self, path: Path, hashed_by: HashName = "sha256") -> None:
        # Held, not inherited from: to a real file NumPy would write beside `write`.
        self._file = path.open("wb", buffering=0)
        self._hashed_by = hashed_by
        self._digest = HASHES[hashed_by]()
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write the whole buffer; returns its size in bytes."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), WRITTEN_AT_ONCE):
            part = view[start : start + WRITTEN_AT_ONCE]
            self._digest.update(part)
            written = 0
            while written < len(part):
                written += self._file.write(part[written:])
        self._bytes += len(view)
        return len(view)

    def close(self) -> None:
        self._file.close()
        super().close()

    @property
    def record(self) -> dict[str, Any]:
        """Hash and size, for a later run."""
        return {self._hashed_by: self._digest.hexdigest(), "bytes": self._bytes}


def matches_record(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a file that an earlier run has left is still the one recorded, byte for byte."""
    return has_recorded_size(path, record) and matches_hash(path, record)


def sha256_once(path: Path) -> str:
    """Hex SHA-256 of a file, read once in this process as long as its size, times and inode stay the same."""
    stat = path.stat()
    return _sha256_of(path, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@lru_cache(maxsize=1024)
def _sha256_of(path: Path, state: tuple[int, ...]) -> str:
    return sha256_file(path)


def has_recorded_size(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a file is there with the recorded size; reads nothing."""
    return path.is_file() and path.stat().st_size == record["bytes"]
