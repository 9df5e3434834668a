"""The files of a local source: which, in what order, with what content; and the units in which they are read.

A unit is about 32 MiB of input, whatever the number of workers: it is tokenised in one step, stored under one
name, and kept when a run is interrupted. (The original's unit of mixing is 0.01B tokens, about as much.)
"""

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError
from data_recipes.files import one_at_a_time, write_whole
from data_recipes.manifest import fingerprint_of
from data_recipes.reading.formats import FORMATS, format_of, named_format
from data_recipes.reading.json_column import newlines_in
from data_recipes.reading.source_file import COMPRESSED, PIECE_BYTES, Part, SourceFile, hash_piece
from data_recipes.recipes.source import Source

UNIT_BYTES = 32 * 2**20
# Files below this are hashed every time; the others once, as long as size, times and inode stay the same.
REMEMBERED_BYTES = 64 * 2**20
# Seconds: more than between two ticks of the clock that file systems take their times from.
CLOCK_TICK = 0.02

# A stretch of files that is read and tokenised together.
Unit = tuple[Part, ...]


class SourceMissing(DataError):
    """A source that cannot be read here at all: not there, not public, no access. `public` is the reason without
    folders of this machine, for manifests and cards."""

    def __init__(self, reason: str, public: str | None = None) -> None:
        super().__init__(reason)
        self.public = public or reason


def list_files(source: Source) -> list[Path]:
    """The files of a path source, sorted by name; `SourceMissing` when there is nothing."""
    files = _found(source)
    _check_formats(source, files)
    return files


def _check_formats(source: Source, files: Sequence[Path]) -> None:
    """`DataError` where something would be read as text that is not meant to be."""
    with_columns = [path for path in files if named_format(path).has_columns]
    plain = [path for path in files if not named_format(path).has_columns]
    if plain and source.needs_rows:
        raise DataError(
            f"{source.label}: text, template and filters need rows with columns, but {_some(plain)} would be read as "
            f"plain text. Narrow the glob to files in {', '.join(FORMATS)} (or these with .gz or .zst), or remove "
            "these keys."
        )
    if plain and with_columns and source.glob is None:
        raise DataError(
            f"{source.label}: a mixture of files with rows ({_some(with_columns)}) and of others, which would be read "
            f"as plain text ({_some(plain)}). Give a glob that says which are meant, such as "
            f"'**/*{with_columns[0].suffix}'; '**/*' takes both."
        )


def _some(paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths[:3])
    return f"{names} and {len(paths) - 3:,} more" if len(paths) > 3 else names


def _found(source: Source) -> list[Path]:
    location = source.location
    if location.is_file():
        if source.glob is not None:
            raise DataError(f"{source.label}: '{location}' is a file, but a glob is given; remove the glob.")
        return [location]
    if not location.is_dir():
        raise SourceMissing(f"{location}: no such file or folder.", f"{source.public_label}: no such file or folder.")
    pattern = source.glob or "**/*"
    if any("**" in part and part != "**" for part in pattern.split("/")):
        raise DataError(
            f"{source.label}: glob '{pattern}' is not a pattern ('**' stands for folders only); such as '**/*.py'."
        )
    files = [path for path in _walk(location) if matches(path.relative_to(location).as_posix(), pattern)]
    descriptions = {name for path in files for name in named_format(path).descriptions}
    files = [path for path in files if path.name not in descriptions]
    for path in files:
        if path.is_symlink() and not path.exists():
            raise DataError(
                f"{path}: a link to {path.readlink()}, which is not there. Mount what it leads to, or narrow the glob."
            )
    files = [path for path in files if path.is_file()]
    if not files:
        raise SourceMissing(f"{location}: no file matches '{pattern}'.", f"{source.public_label}: no file matches.")
    return files


def _walk(folder: Path) -> list[Path]:
    """The files below a folder by name, hidden ones left out. Links are followed, as data often lies on other disks;
    a folder that several lead to is read once."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: {error.strerror}. Make it readable, or narrow the path.") from error

    found = []
    entered: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        stat = os.stat(place)
        if (stat.st_dev, stat.st_ino) in entered:
            folders.clear()
            continue
        entered.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def matches(file: str, pattern: str) -> bool:
    """Whether a path fits a pattern; `*` stays within a folder, `**` spans any number of them."""
    return _parts_match(file.split("/"), pattern.split("/"))


def _parts_match(file: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not file
    if pattern[0] == "**":
        return any(_parts_match(file[skip:], pattern[1:]) for skip in range(len(file) + 1))
    return bool(file) and fnmatchcase(file[0], pattern[0]) and _parts_match(file[1:], pattern[1:])


def examine(source: Source, *, workers: int = 1, memory: Path | None = None) -> list[SourceFile]:
    """List and hash the files of a path source. `memory`: a JSON file that remembers hashes of large files."""
    paths = list_files(source)
    root = source.location if source.location.is_dir() else source.location.parent
    known = read_memory(memory) if memory is not None else {}
    fresh: Memory = {}

    def look(path: Path) -> SourceFile:
        key = str(path.resolve())
        entry = known[key] if is_known(path, known) else hash_file(path)
        size, newlines, pieces = entry[1:]
        if size >= REMEMBERED_BYTES:
            fresh[key] = entry
        name = path.relative_to(root).as_posix()
        return SourceFile(name, path, size, format_of(path), tuple(newlines), tuple(pieces))

    with ThreadPoolExecutor(max(1, workers)) as pool:
        files = list(pool.map(look, paths))
    if memory is not None and any(known.get(key) != value for key, value in fresh.items()):
        remember(memory, fresh)
    return files


# Of each file, by its path, its state and what hashing it has found.
Memory = dict[str, list[Any]]


def read_memory(memory: Path) -> Memory:
    """What earlier builds have found of files; nothing where there is no such file, or it is damaged."""
    try:
        known = json.loads(memory.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(memory: Path, fresh: Memory) -> None:
    """Add to the memory; what another process has added meanwhile stays."""
    memory.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(memory.with_name(f"{memory.name}.lock")):
        write_whole(memory, json.dumps({**read_memory(memory), **fresh}))


def is_known(path: Path, known: Memory) -> bool:
    """Whether a file is as it was when it was hashed."""
    return known.get(str(path.resolve()), [None])[0] == state_of(path)


def hash_file(path: Path) -> list[Any]:
    """What the memory keeps of a file: its state, and what `_hash_and_count` finds."""
    if abs(time.time() - path.stat().st_ctime) < CLOCK_TICK:
        time.sleep(CLOCK_TICK)  # from now on a change gets another time
    state = state_of(path)
    # The lines of a compressed file cannot be counted before it is decompressed.
    counts_lines = format_of(path).has_lines and path.suffix.lower() not in COMPRESSED
    found = _hash_and_count(path, counts_lines)
    return [state if state_of(path) == state else None, *found]


def state_of(path: Path) -> list[int]:
    """Changes whenever the file does: it has the time, too, that `cp -p` and `touch -d` cannot set back."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _hash_and_count(path: Path, counts_lines: bool) -> tuple[int, list[int], list[str]]:
    """Size of the content; for JSON lines, the line ends before each multiple of `UNIT_BYTES`; and the hashes of the
    pieces."""
    pieces = []
    newlines = [0]
    size = seen = 0
    buffer = memoryview(bytearray(PIECE_BYTES))
    with path.open("rb") as file:
        while read := file.readinto(buffer):
            piece = buffer[:read].toreadonly()
            pieces.append(hash_piece(piece))
            start = 0
            while counts_lines and (stop := len(newlines) * UNIT_BYTES - size) <= len(piece):
                seen += newlines_in(piece[start:stop])
                newlines.append(seen)
                start = stop
            if counts_lines:
                seen += newlines_in(piece[start:])
            size += len(piece)
    return size, newlines if counts_lines else [], pieces


def reading_notes(files: Sequence[SourceFile]) -> list[str]:
    """How files were read whose names do not determine the format, such as `.json`: a sentence for each format."""
    by_format: dict[str, list[Path]] = {}
    for file in files:
        if file.format is not named_format(file.path):
            by_format.setdefault(file.format.name, []).append(file.path)
    return [f"{_some(paths)}: read as {name}" for name, paths in by_format.items()]


def content_fingerprint(files: Sequence[SourceFile]) -> str:
    """Identifies the files by content and by name relative to their folder, wherever that folder is."""
    return fingerprint_of([[file.name, file.size, file.content] for file in files])


def units_of(files: Sequence[SourceFile], *, first: int = 0) -> list[Unit]:
    """Cut the files into units, in order; small files share one, large JSON lines and Parquet are split. `first`: the
    number of the first of them."""
    units: list[Unit] = []
    open_unit: list[Part] = []
    size = 0
    for index, file in enumerate(files, first):
        for part, part_size in file.format.parts(index, file, UNIT_BYTES):
            if open_unit and size + part_size > UNIT_BYTES:
                units.append(tuple(open_unit))
                open_unit, size = [], 0
            open_unit.append(part)
            size += part_size
    if open_unit:
        units.append(tuple(open_unit))
    return units
