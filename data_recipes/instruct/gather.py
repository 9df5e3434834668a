"""Sources to files of dialogues, `work/gathered/NAME/NNNNN.jsonl`: what all filters read.

Done where the command is given, since the nodes of a cluster often have no network. A unit of a source is a file, with
a record that makes it count; a Hub dataset goes on behind the last of them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

from data_recipes.cleaning.pipeline.unit_files import read_checked_record, unit_name, write_record, writing
from data_recipes.errors import DataError
from data_recipes.instruct.source import DialogueSource
from data_recipes.manifest import fingerprint_of
from data_recipes.reading.files import list_files
from data_recipes.reading.formats import unhashed
from data_recipes.reading.opening import open_supply
from data_recipes.reading.supply import Supply

LOOKED_AT = 3
VERSION = 1
"""Raised when the same source gives other lines."""


@dataclass(frozen=True)
class Gathered:
    """What was read of a source: dialogues, rows that gave none by reason, and what it was made from."""

    name: str
    fingerprint: str
    revision: str | None
    dialogues: int
    unread: dict[str, int]


def check_source(name: str, source: DialogueSource) -> None:
    """`DataError` where files on this machine are not there, or the first ones lack the columns; reads no more."""
    if source.path is None:
        return
    try:
        files = [unhashed(path) for path in list_files(source)[:LOOKED_AT]]
        source.check_columns(next(filter(None, (file.format.columns(file) for file in files)), []))
    except DataError as error:
        raise DataError(f"source '{name}': {error}") from error


def open_source(name: str, source: DialogueSource, *, seed: int, memory: Path | None = None) -> Supply:
    """Look at a source; `DataError` where it cannot be read or lacks the columns that it names."""
    try:
        supply = open_supply(source, memory=memory, seed=seed)
        source.check_columns(supply.columns())
    except DataError as error:
        raise DataError(f"source '{name}': {error}") from error
    return supply


def gather(sources: Mapping[str, DialogueSource], folder: Path, *, seed: int, progress: bool = False) -> list[Gathered]:
    """Bring `folder` to hold the dialogues of every source; what is there already is not read again."""
    folder.mkdir(parents=True, exist_ok=True)
    memory = folder / "hashes.json"
    found = []
    with tqdm(desc="reading", unit=" dialogues", disable=None if progress else True) as bar:
        for name, source in sources.items():
            supply = open_source(name, source, seed=seed, memory=memory)
            found.append(_gather_source(name, source, supply, folder / name, bar))
    return found


def _gather_source(name: str, source: DialogueSource, supply: Supply, folder: Path, bar: Any) -> Gathered:
    columns = {key: source.columns[key] for key in sorted(source.columns)}
    made_from = fingerprint_of([VERSION, supply.fingerprint, columns, source.read])
    folder.mkdir(parents=True, exist_ok=True)
    dialogues, unread, unit = 0, Counter[str](), 0
    while supply.unit_count is None or unit < supply.unit_count:
        left = None if source.read is None else source.read - dialogues
        if left is not None and left <= 0:
            break
        path = folder / f"{unit_name(unit)}.jsonl"
        record_path = path.with_suffix(".json")
        record = read_checked_record(record_path, made_from=made_from)
        if record is None:
            record = _write_unit(supply, unit, path, record_path, made_from, left)
        elif record["place"] is not None:
            supply.continue_after(unit, record["place"])
        dialogues += record["dialogues"]
        unread.update(record["unread"])
        bar.update(record["dialogues"])
        unit += 1
    for stray in folder.glob("*.json*"):  # of a source that was read with other settings
        if stray.name.startswith(".") or int(stray.stem) >= unit:
            stray.unlink()
    if not dialogues:
        raise DataError(f"source '{name}': {source.label} gave no dialogue ({_reasons(unread) or 'it is empty'}).")
    return Gathered(name, made_from, supply.revision, dialogues, dict(sorted(unread.items())))


def _write_unit(
    supply: Supply, unit: int, path: Path, record_path: Path, made_from: str, left: int | None
) -> dict[str, Any]:
    drops: Counter[str] = Counter()
    count = 0
    with writing(path) as file:
        for documents in supply.read_unit(unit, drops):
            numbered = zip(documents.files.tolist(), documents.rows.tolist(), documents.texts, strict=True)
            for number, row, text in numbered:
                if left is not None and count >= left:
                    continue  # the unit is read to its end, so that its place is known
                origin = orjson.dumps({"origin_file": supply.file_names[number], "origin_row": row})
                file.write(str(text).encode()[:-1] + b"," + origin[1:] + b"\n")
                count += 1
    place = supply.place_after(unit) if supply.sequential else None
    counts: dict[str, Any] = {"dialogues": count, "unread": dict(sorted(drops.items())), "place": place}
    write_record(record_path, made_from=made_from, files={path.name: file.record}, **counts)
    return counts


def _reasons(counts: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count:,}" for reason, count in counts.most_common(4))
