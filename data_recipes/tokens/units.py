"""The files of a store's units, shared by all processes that build from the store at the same time.

Every file is written under a name of its own and appears by rename, the record last: no process ever reads or continues
a file that another has half written, not even after a crash. The lock of a unit only saves doing the same work twice;
where a file system has no locks, the files are as safe.
"""

import fcntl
import json
import mmap
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import numpy as np

from data_recipes.errors import DataError
from data_recipes.files import HashedFile, has_recorded_size, matches_record
from data_recipes.manifest import fingerprint_of

# Each map keeps a file descriptor. A process has 1,024 by default, a phase of the published size has 5,000 units of
# two files; what rows are drawn from at one time is far fewer.
MAPPED_FILES = 128


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """A finished unit: counts, and its files. `place`: where it ended in a source that is read in order.

    Of a curriculum's sources 150,000 are held at the same time.
    """

    tokens: int
    documents: int
    characters: int
    drops: dict[str, int]
    place: dict[str, Any] | None
    notes: list[str]
    files: dict[str, dict[str, Any]]


def read_record(path: Path) -> UnitRecord | None:
    """A unit's record; None where there is none, or it is not what was written: cut short, or edited."""
    try:
        content = json.loads(path.read_text())
        fingerprint = content.pop("fingerprint")
        return UnitRecord(**content) if fingerprint == fingerprint_of(content) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def record_path(folder: Path, number: int) -> Path:
    """Where the record of a unit is in its source's folder."""
    return folder / f"{_stem(number)}.json"


class UnitFolder:
    """The units of one source: `unit-N.tokens`, `unit-N.documents.npy`, `unit-N.json`."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.path = path
        self.dtype = dtype
        # The state of each file when it was last known to be undamaged: no need to hash it again.
        self._checked: dict[str, tuple[int, ...]] = {}
        self._lock = Lock()

    def read(self, number: int) -> UnitRecord | None:
        """The record of a finished unit; None where the unit is yet to be made, or made again."""
        record = read_record(record_path(self.path, number))
        if record is None or not all(has_recorded_size(self.path / name, one) for name, one in record.files.items()):
            return None
        tokens = record.files.get(f"{_stem(number)}.tokens", {"bytes": None})
        return record if tokens["bytes"] == record.tokens * self.dtype.itemsize else None

    @contextmanager
    def making(self, number: int) -> Iterator[None]:
        """Make a unit while no other process does; waits for one that does. Clears up after one that has died."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self.path / f".{_stem(number)}.lock"
        while True:
            left_over = lock.exists()
            with lock.open("a") as file:
                held = _take(file.fileno())
                # The holder that was waited for has removed the file: its lock excludes nobody who opens the path now.
                if held and not _is_still(file.fileno(), lock):
                    continue
                # The lock was free though its file was there: its holder has died, so nobody writes to these.
                if held and left_over:
                    for partial in self.path.glob(f".{_stem(number)}.*.partial"):
                        partial.unlink(missing_ok=True)
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return

    def new(self, number: int) -> "NewUnit":
        """A unit to be written."""
        self.path.mkdir(parents=True, exist_ok=True)
        return NewUnit(self, number)

    def tokens(self, number: int, record: UnitRecord) -> np.ndarray:
        """A unit's ids, memory-mapped."""
        if record.documents == 0:
            return np.empty(0, self.dtype)
        return self._mapped(number, "tokens", record, lambda path: np.memmap(path, self.dtype, "r"))

    def documents(self, number: int, record: UnitRecord) -> np.ndarray:
        """A unit's document table, memory-mapped: int64 `[3, documents]` (end, file, row)."""
        if record.documents == 0:
            return np.empty((3, 0), np.int64)
        return self._mapped(number, "documents.npy", record, lambda path: np.load(path, mmap_mode="r"))

    def _mapped(
        self, number: int, kind: str, record: UnitRecord, open_file: Callable[[Path], np.ndarray]
    ) -> np.ndarray:
        name = f"{_stem(number)}.{kind}"
        found = maps.get((self, name))
        if found is not None:
            return found
        # Outside of `maps`' own lock: hashing one file must not hold up those who read others.
        with self._lock:
            self._check(number, name, record)
            found = open_file(self.path / name)
        maps.put((self, name), found)
        return found

    def _check(self, number: int, name: str, record: UnitRecord) -> None:
        """Hash a file unless it is the one that this process has written or hashed. `DataError` if it is damaged."""
        path = self.path / name
        if path.is_file() and self._checked.get(name) == (state := _state_of(path)):
            return
        if not matches_record(path, record.files[name]):
            record_path(self.path, number).unlink(missing_ok=True)
            raise DataError(
                f"{path}: its content is not what was written there. Run the same command again: the unit is "
                "tokenised again."
            )
        self._checked[name] = state

    def written(self, name: str) -> None:
        """Remember that a file was written by this process, and need not be hashed."""
        self._checked[name] = _state_of(self.path / name)


class NewUnit:
    """A unit in the making: ids are written to the disk at once, the documents' table and the record at the end."""

    def __init__(self, folder: UnitFolder, number: int) -> None:
        self.tokens = 0
        self._folder = folder
        self._stem = _stem(number)
        self._tables: list[np.ndarray] = []
        self._partials: dict[str, Path] = {}
        self._ids = HashedFile(self._own(f"{self._stem}.tokens"), "xxh3")

    def __enter__(self) -> "NewUnit":
        return self

    def __exit__(self, *error: object) -> None:
        self._ids.close()
        for partial in self._partials.values():
            partial.unlink(missing_ok=True)

    def append(self, ids: np.ndarray) -> None:
        """More ids (of the store's dtype)."""
        self._ids.write(ids.data)
        self.tokens += len(ids)

    def close_documents(self, ends: np.ndarray, files: np.ndarray, rows: np.ndarray) -> None:
        """The documents of the ids written last: where each ends in the unit, its file, its row."""
        self._tables.append(np.stack([ends, files, rows]))

    def finish(
        self, *, characters: int, drops: dict[str, int], place: dict[str, Any] | None, notes: list[str]
    ) -> UnitRecord:
        """The unit's files appear under their names, its record last."""
        table = np.concatenate(self._tables, axis=1) if self._tables else np.empty((3, 0), np.int64)
        with HashedFile(self._own(f"{self._stem}.documents.npy"), "xxh3") as stream:
            np.save(stream, table)
        self._ids.close()
        files = {f"{self._stem}.tokens": self._ids.record, f"{self._stem}.documents.npy": stream.record}
        record = UnitRecord(self.tokens, table.shape[1], characters, drops, place, notes, files)
        content = asdict(record)
        line = json.dumps({"fingerprint": fingerprint_of(content), **content}, ensure_ascii=False)
        self._own(f"{self._stem}.json").write_text(line + "\n")
        for name, partial in self._partials.items():
            partial.replace(self._folder.path / name)
            self._folder.written(name)
        return record

    def _own(self, name: str) -> Path:
        self._partials[name] = self._folder.path / f".{name}.{uuid4().hex}.partial"
        return self._partials[name]


class Maps:
    """The mapped files of all stores of this process, no more than `limit`: the longest unused is closed first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._arrays: OrderedDict[tuple[UnitFolder, str], np.ndarray] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[UnitFolder, str]) -> np.ndarray | None:
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
            return self._arrays.get(key)

    def put(self, key: tuple[UnitFolder, str], array: np.ndarray) -> None:
        with self._lock:
            self._arrays[key] = array
            while len(self._arrays) > self.limit:
                self._arrays.popitem(last=False)  # closed as soon as nobody reads from it

    def release(self) -> None:
        """Give mapped pages back: what a build has read does not stay in its memory."""
        with self._lock:
            for array in self._arrays.values():
                drop_pages(array)

    def close(self) -> None:
        """Close all files; those that are still needed are opened again."""
        with self._lock:
            self._arrays.clear()


maps = Maps(MAPPED_FILES)


def drop_pages(mapped: np.ndarray) -> None:
    """Give the pages of a memory-mapped file back; they are read again when they are looked at again."""
    if isinstance(mapped, np.memmap):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _stem(number: int) -> str:
    return f"unit-{number:05d}"


def _state_of(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _take(descriptor: int) -> bool:
    """Wait for the lock of an open file; False where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that the path leads to."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
