"""What a run reads: named sources, their files by content, and the units that are worked on one by one.

Units follow from the files alone, never from tasks or executors. They are listed once, in `work/units.json` and
`work/files.parquet`, and every later stage reads these.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes.errors import DataError, listed, nearest
from data_recipes.files import write_whole
from data_recipes.manifest import fingerprint_of, read_manifest
from data_recipes.reading.files import content_fingerprint, examine, list_files, units_of
from data_recipes.reading.formats import FORMAT_NAMES, unhashed
from data_recipes.reading.source_file import Part, SourceFile
from data_recipes.recipes.source import Source

HASHING_THREADS = 4
REMEMBERED = "hashes.json"
LOOKED_AT = 3


@dataclass(frozen=True)
class InputSource:
    """A file, a folder or a pattern, under the name that documents carry."""

    name: str
    path: str
    glob: str | None = None

    def absolute(self) -> "InputSource":
        """The same for a task that runs in another folder."""
        return replace(self, path=str(Path(self.path).absolute()))

    @cached_property
    def source(self) -> Source:
        # '**/*' says that files with rows and files that are a document each are both meant.
        pattern = None if Path(self.path).is_file() else self.glob or "**/*"
        return Source(path=str(Path(self.path).absolute()), glob=pattern)


def parse_inputs(typed: Sequence[str]) -> list[InputSource]:
    """`PATH` or `NAME=PATH` as typed, in order of priority; a path may end in a pattern: `crawl/**/*.jsonl`."""
    if not typed:
        raise DataError("--in: nothing to read; give a file or a folder, as PATH or NAME=PATH.")
    found = []
    for one in typed:
        name, equals, path = one.partition("=")
        if not equals or Path(one).exists() or "/" in name:
            name, path = "", one
        if not path:
            raise DataError(f"--in {one}: expected PATH or NAME=PATH.")
        parts = Path(path).expanduser().parts
        first = next((place for place, part in enumerate(parts) if "*" in part), len(parts))
        base = Path(*parts[:first]) if first else Path()
        glob = "/".join(parts[first:]) or None
        found.append(InputSource(name or _plain_name(base), str(base), glob))
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"--in: two sources are called '{twice[0]}'. Name them: --in NAME=PATH.")
    return found


def check_apart(sources: Sequence[InputSource], out: Path) -> None:
    """`DataError` where a run would read what it writes."""
    out = out.resolve()
    for one in sources:
        place = Path(one.path).resolve()
        if out == place or out in place.parents or place in out.parents:
            raise DataError(f"--in {one.path}: is {out}, inside it or around it. Choose another --out.")


def _plain_name(path: Path) -> str:
    name = path.absolute().name
    return name.split(".")[0] or name


@dataclass(frozen=True)
class Inventory:
    """The files of all sources as they were listed, and the units cut from them."""

    sources: list[InputSource]
    files: list[list[SourceFile]]

    @cached_property
    def units(self) -> list[dict[str, Any]]:
        """Of each unit the number of its source and its parts, as JSON has them."""
        return [
            {"source": number, "parts": [[part.file, part.start, part.stop, part.first_row] for part in unit]}
            for number, files in enumerate(self.files)
            for unit in units_of(files)
        ]

    @cached_property
    def contents(self) -> dict[str, str]:
        """A fingerprint of each source's files, wherever they are, by its name in order of priority."""
        pairs = zip(self.sources, self.files, strict=True)
        return {one.name: content_fingerprint(files) for one, files in pairs}

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of([list(self.contents.items()), self.units])

    def source_name(self, unit: int) -> str:
        return self.sources[self.units[unit]["source"]].name

    def parts(self, unit: int) -> list[tuple[SourceFile, Part]]:
        """What a unit is read from."""
        files = self.files[self.units[unit]["source"]]
        return [(files[part[0]], Part(*part)) for part in self.units[unit]["parts"]]

    @property
    def bytes(self) -> int:
        return sum(file.size for files in self.files for file in files)


def check_readable(sources: Sequence[InputSource], *, text: str, repository: str | None = None) -> None:
    """`DataError` where a source has no files, or its first ones no such column; reads no more than these need.

    `repository`: a column that the rows must have too.
    """
    for one in sources:
        looked_at = [unhashed(path) for path in list_files(one.source)[:LOOKED_AT]]
        if not all(file.format.has_columns for file in looked_at):
            if repository is not None:
                raise DataError(
                    f"--in {one.name}: {looked_at[0].path.name} has no columns, so none is called '{repository}'. "
                    "Leave `join: by` out: the first folder of a file's path is its repository then."
                )
            continue
        columns = {name: None for file in looked_at for name in file.format.columns(file)}
        if columns and text not in columns and text.split(".")[0] not in columns:
            raise DataError(
                f"--in {one.name}: no column '{text}' in {looked_at[0].path.name}.{nearest(text, columns)} "
                "Name the column that holds the text in the config: `text: COLUMN`."
            )
        if repository is not None and repository not in columns and repository.split(".")[0] not in columns:
            raise DataError(
                f"--in {one.name}: no column '{repository}' in {looked_at[0].path.name}.{nearest(repository, columns)} "
                "Name the column that holds a file's repository in the config: `join: {by: COLUMN}`."
            )


def look_at(sources: Sequence[InputSource], *, memory: Path | None = None) -> Inventory:
    """List and hash the files of each source. `memory`: a file that remembers the hashes of large ones."""
    return Inventory(list(sources), [examine(one.source, workers=HASHING_THREADS, memory=memory) for one in sources])


def check_same(contents: dict[str, str], earlier: dict[str, str], out: Path) -> None:
    """`DataError` where a folder was begun from other inputs."""
    if list(contents.items()) == list(earlier.items()):
        return
    changed = [
        f"{name}: {'its contents changed' if name in contents and name in earlier else 'in one of the two only'}"
        for name in sorted({*contents, *earlier})
        if contents.get(name) != earlier.get(name)
    ] or ["the sources' order, which is their priority"]
    raise DataError(f"{out}: begun from other inputs ({listed(changed)}). Choose another --out, or remove it.")


def check_same_as_before(inventory: Inventory, out: Path, *, kind: str) -> None:
    """`DataError` where a folder was begun from other inputs, or finished from them as a folder of `kind`."""
    for read in (lambda: Units(out / "work").contents, lambda: read_manifest(out, kind=kind)["inputs"]):
        try:
            earlier = read()
        except DataError:  # not there, or not readable: nothing to compare with
            continue
        check_same(inventory.contents, earlier, out)


def keep_inventory(sources: Sequence[InputSource], out: Path, *, kind: str) -> None:
    """List the inputs of a run into `work`, made if it is not there; `DataError` where they are not those that it was
    begun with."""
    work = out / "work"
    work.mkdir(exist_ok=True)
    memory = work / REMEMBERED
    try:
        inventory = look_at(sources, memory=memory)
        check_same_as_before(inventory, out, kind=kind)
    except ValueError:  # of other inputs, or a memory that is damaged: only the files themselves decide
        memory.unlink(missing_ok=True)
        inventory = look_at(sources, memory=memory)
        check_same_as_before(inventory, out, kind=kind)
    write_inventory(inventory, work)


FILES_SCHEMA = pa.schema(
    [
        ("source", pa.int32()),
        ("name", pa.string()),
        ("path", pa.string()),
        ("size", pa.int64()),
        ("format", pa.string()),
        ("newlines", pa.list_(pa.int64())),
        ("pieces", pa.list_(pa.string())),
    ]
)


def write_inventory(inventory: Inventory, work: Path) -> None:
    """Keep what was listed; nothing is written where it is there already."""
    rows = [
        {
            "source": number,
            "name": file.name,
            "path": str(file.path),
            "size": file.size,
            "format": file.format.name,
            "newlines": file.newlines,
            "pieces": file.pieces,
        }
        for number, files in enumerate(inventory.files)
        for file in files
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, FILES_SCHEMA), sink, compression="zstd")
    write_if_changed(work / "files.parquet", sink.getvalue().to_pybytes())
    content = {
        "fingerprint": inventory.fingerprint,
        "sources": [one.name for one in inventory.sources],
        "contents": inventory.contents,
        "units": inventory.units,
    }
    content["check"] = fingerprint_of(content)
    write_if_changed(work / "units.json", json.dumps(content, ensure_ascii=False).encode() + b"\n")


def write_if_changed(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content)


class Units:
    """The units of a run as its stages see them."""

    def __init__(self, work: Path) -> None:
        try:
            content = json.loads((work / "units.json").read_text())
            if content.pop("check", None) != fingerprint_of(content):
                raise ValueError("not what was written there")
            self._files = pq.read_table(work / "files.parquet", use_threads=False)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(
                f"{work}: the list of units is missing or damaged ({error}). Give the same command again."
            ) from error
        self.fingerprint: str = content["fingerprint"]
        self.sources: list[str] = content["sources"]
        self.contents: dict[str, str] = content["contents"]
        self._units = content["units"]
        of_source = self._files["source"].to_numpy()
        self._first_files = [int((of_source < number).sum()) for number in range(len(self.sources))]

    def __len__(self) -> int:
        return len(self._units)

    def source(self, unit: int) -> int:
        """The number of a unit's source; lower ones have priority."""
        return self._units[unit]["source"]

    def source_name(self, unit: int) -> str:
        return self.sources[self.source(unit)]

    def parts(self, unit: int) -> list[tuple[SourceFile, Part]]:
        """What a unit is read from."""
        first = self._first_files[self.source(unit)]
        return [(self._file(first + part[0]), Part(*part)) for part in self._units[unit]["parts"]]

    def _file(self, place: int) -> SourceFile:
        row = self._files.slice(place, 1).to_pylist()[0]
        return SourceFile(
            row["name"],
            Path(row["path"]),
            row["size"],
            FORMAT_NAMES[row["format"]],
            tuple(row["newlines"]),
            tuple(row["pieces"]),
        )
