"""The files of a local source: which, in what order, with what content; and the units that they are read in.

A unit is about 32 MiB of input, whatever the number of workers: it is what is tokenised at one go, stored under
one name, and kept when a run is interrupted. (The original's unit of mixing is 0.01B tokens, about as much.)
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Literal, cast

from data_recipes.errors import DataError, first_line
from data_recipes.files import write_whole
from data_recipes.manifest import fingerprint_of
from data_recipes.reading.compressed import Damaged, damage_told
from data_recipes.reading.json_files import FORM_NAMES, JsonForm, json_form
from data_recipes.reading.unchanged import PIECE_BYTES, UnchangedFile, hash_piece
from data_recipes.recipes.source import Source

UNIT_BYTES = 32 * 2**20
# Files below this are hashed anew every time; the others once, as long as size, times and inode stay the same.
REMEMBERED_BYTES = 64 * 2**20
# Seconds: more than between two ticks of the clock that file systems take their times from.
CLOCK_TICK = 0.02

LINES = (".jsonl", ".ndjson")
JSON = (*LINES, ".json")
ARROW = (".arrow", ".feather", ".ipc")
WITH_COLUMNS = (*JSON, ".parquet", *ARROW)
COMPRESSED = (".gz", ".zst")
# What `Dataset.save_to_disk` writes beside the data.
DESCRIPTIONS = ("dataset_info.json", "state.json", "dataset_dict.json")


class SourceMissing(DataError):
    """A source that cannot be read here at all: not there, not public, no access. `public` is the reason without
    folders of this machine, for manifests and cards."""

    def __init__(self, reason: str, public: str | None = None) -> None:
        super().__init__(reason)
        self.public = public or reason


@dataclass(frozen=True)
class SourceFile:
    """One input file. `newlines[k]` counts the line ends before byte `k * UNIT_BYTES` (plain JSON lines only).

    `pieces`: hashes of the stretches that it is read in; without them it is read as it is now.
    """

    name: str
    path: Path
    size: int
    sha256: str
    newlines: tuple[int, ...] = ()
    # How values follow each other in a file of JSON; empty for other formats.
    json_form: JsonForm | Literal[""] = ""
    pieces: tuple[str, ...] = ()

    def open(self) -> BinaryIO:
        """The bytes that were hashed; `DataError` on reading others."""
        if not self.pieces:
            return self.path.open("rb", buffering=2**20)
        raw = UnchangedFile(self.path, self.size, self.pieces)
        return cast(BinaryIO, io.BufferedReader(raw, 2**20))

    @property
    def suffix(self) -> str:
        """The format's suffix, without that of the compression: `.jsonl` for `a.jsonl.zst`."""
        return format_suffix(self.path)

    @property
    def compressed(self) -> bool:
        return self.path.suffix.lower() in COMPRESSED


@dataclass(frozen=True)
class Part:
    """A stretch of one file: bytes of JSON lines, row groups of Parquet, or the whole (`stop` -1)."""

    file: int
    start: int = 0
    stop: int = -1
    first_row: int = 0


Unit = tuple[Part, ...]


def format_suffix(path: Path) -> str:
    """The suffix that tells the format, in lower case, without that of the compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def json_form_of(path: Path) -> JsonForm | Literal[""]:
    """How values follow each other in a file of JSON; empty for another format. A `.json` is looked into."""
    suffix = format_suffix(path)
    if suffix in LINES:
        return "lines"
    if suffix != ".json":
        return ""
    try:
        with damage_told(path):
            return json_form(path)
    except Damaged:  # said with the file's name when it is read
        return "lines"


def list_files(source: Source) -> list[Path]:
    """The files of a path source, sorted by name; `SourceMissing` when there is nothing."""
    files = _found(source)
    _check_formats(source, files)
    return files


def _check_formats(source: Source, files: Sequence[Path]) -> None:
    """`DataError` where reading would take something else for text than is meant."""
    with_columns = [path for path in files if format_suffix(path) in WITH_COLUMNS]
    plain = [path for path in files if format_suffix(path) not in WITH_COLUMNS]
    needs_columns = source.text is not None or source.template is not None or bool(source.filters)
    if plain and needs_columns:
        raise DataError(
            f"{source.label}: text, template and filters need rows with columns, but {_some(plain)} would be read as "
            f"plain text. Narrow the glob to files in {', '.join(WITH_COLUMNS)} (or these with .gz or .zst), or remove "
            "these keys."
        )
    if plain and with_columns and source.glob is None:
        raise DataError(
            f"{source.label}: a mixture of files with rows ({_some(with_columns)}) and of others, which would be read "
            f"as plain text ({_some(plain)}). Say with glob which are meant, such as "
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
    if any(path.suffix in ARROW for path in files):
        files = [path for path in files if path.name not in DESCRIPTIONS]
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
    known = json.loads(memory.read_text()) if memory is not None and memory.is_file() else {}
    fresh: dict[str, list] = {}

    def look(path: Path) -> SourceFile:
        form = json_form_of(path)
        state = _state_of(path)
        key = str(path.resolve())
        if key in known and known[key][0] == state:
            size, sha256, newlines, pieces = known[key][1:]
        else:
            counts_lines = form == "lines" and path.suffix.lower() in JSON
            size, sha256, newlines, pieces = _hash_and_count(path, counts_lines)
        if size >= REMEMBERED_BYTES and _state_of(path) == state:
            fresh[key] = [state, size, sha256, newlines, pieces]
        name = path.relative_to(root).as_posix()
        return SourceFile(name, path, size, sha256, tuple(newlines), form, tuple(pieces))

    with ThreadPoolExecutor(max(1, workers)) as pool:
        files = list(pool.map(look, paths))
    if memory is not None and any(known.get(key) != value for key, value in fresh.items()):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(memory, json.dumps({**known, **fresh}))
    return files


def _state_of(path: Path) -> list[int]:
    """What tells whether a file is still the same: also the time that `cp -p` and `touch -d` cannot set back."""
    stat = path.stat()
    if stat.st_size >= REMEMBERED_BYTES and abs(time.time() - stat.st_ctime) < CLOCK_TICK:
        time.sleep(CLOCK_TICK)  # from now on a change gets another time
        stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _hash_and_count(path: Path, counts_lines: bool) -> tuple[int, str, list[int], list[str]]:
    """Size and SHA-256 of the content; for JSON lines, the line ends before each multiple of `UNIT_BYTES`; and the
    hashes of the pieces."""
    digest = hashlib.sha256()
    pieces = []
    newlines = [0]
    size = seen = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            pieces.append(hash_piece(piece))
            start = 0
            while counts_lines and (stop := len(newlines) * UNIT_BYTES - size) <= len(piece):
                seen += piece.count(b"\n", start, stop)
                newlines.append(seen)
                start = stop
            if counts_lines:
                seen += piece.count(b"\n", start)
            size += len(piece)
    return size, digest.hexdigest(), newlines if counts_lines else [], pieces


def recognised(files: Sequence[SourceFile]) -> list[str]:
    """How the files called `.json` were read, a sentence for each way, since their names do not tell."""
    by_form: dict[str, list[Path]] = {}
    for file in files:
        if file.suffix == ".json":
            by_form.setdefault(file.json_form, []).append(file.path)
    return [f"{_some(paths)}: read as {FORM_NAMES[form]}" for form, paths in by_form.items()]


def content_fingerprint(files: Sequence[SourceFile]) -> str:
    """What the files hold and are called relative to their folder; not where that folder is."""
    return fingerprint_of([[file.name, file.size, file.sha256] for file in files])


def units_of(files: Sequence[SourceFile]) -> list[Unit]:
    """Cut the files into units, in order; small files share one, large JSON lines and Parquet are split."""
    units: list[Unit] = []
    open_unit: list[Part] = []
    size = 0
    for index, file in enumerate(files):
        for part, part_size in _parts_of(index, file):
            if open_unit and size + part_size > UNIT_BYTES:
                units.append(tuple(open_unit))
                open_unit, size = [], 0
            open_unit.append(part)
            size += part_size
    if open_unit:
        units.append(tuple(open_unit))
    return units


def _parts_of(index: int, file: SourceFile) -> Iterator[tuple[Part, int]]:
    if file.json_form == "lines" and not file.compressed and file.size > UNIT_BYTES:
        for number, start in enumerate(range(0, file.size, UNIT_BYTES)):
            stop = min(start + UNIT_BYTES, file.size)
            yield Part(index, start, stop, file.newlines[number]), stop - start
    elif file.suffix == ".parquet":
        yield from _row_groups_of(index, file)
    else:
        yield Part(index), file.size


def _row_groups_of(index: int, file: SourceFile) -> Iterator[tuple[Part, int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with file.open() as stream, pq.ParquetFile(stream) as parquet:
            metadata = parquet.metadata
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file.path}: not readable as Parquet ({file.size} bytes): {first_line(error):.200} "
            "The file is damaged or cut short; fetch it again or leave it out with glob."
        ) from error
    first_row = 0
    start = 0
    size = 0
    rows = 0
    for group in range(metadata.num_row_groups):
        group_size = metadata.row_group(group).total_byte_size
        if group > start and size + group_size > UNIT_BYTES:
            yield Part(index, start, group, first_row), size
            first_row += rows
            start, size, rows = group, 0, 0
        size += group_size
        rows += metadata.row_group(group).num_rows
    if metadata.num_row_groups > start:
        yield Part(index, start, metadata.num_row_groups, first_row), size
