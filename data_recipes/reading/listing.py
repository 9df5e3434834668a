"""A source of files as it was listed once, kept in a file: what a task on another machine reads units from."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from data_recipes.reading.fetched import FetchedSupply
from data_recipes.reading.formats import FORMAT_NAMES
from data_recipes.reading.source_file import Part, SourceFile
from data_recipes.reading.supply import LocalSupply
from data_recipes.recipes.source import Source


def supply_as_json(supply: LocalSupply | FetchedSupply) -> dict[str, Any]:
    """The source, its files with their hashes, and the units cut from them."""
    more: dict[str, Any] = {}
    if isinstance(supply, FetchedSupply):
        more = {"listing": supply.listing, "place": str(supply.folder), "seed": supply.seed}
    return {
        **more,
        "source": supply.source.model_dump(mode="json", exclude_defaults=True),
        "folder": None if supply.source._folder is None else str(supply.source._folder),
        "files": [_file_as_json(file) for file in supply.files],
        "units": [[[part.file, part.start, part.stop, part.first_row] for part in unit] for unit in supply.units],
    }


def supply_from_json(content: Mapping[str, Any]) -> LocalSupply | FetchedSupply:
    """The supply again; looks at no file."""
    source = Source.model_validate(content["source"])
    if content["folder"] is not None:
        source = source.beside(Path(content["folder"]))
    units = [tuple(Part(*part) for part in unit) for unit in content["units"]]
    files = [_file_from_json(file) for file in content["files"]]
    if "listing" not in content:
        return LocalSupply(source, files, units)
    place = Path(content["place"])
    return FetchedSupply(source, content["listing"], place, seed=content["seed"], files=files, units=units)


def _file_as_json(file: SourceFile) -> dict[str, Any]:
    found = {field.name: getattr(file, field.name) for field in fields(file)}
    return {**found, "path": str(file.path), "format": file.format.name}


def _file_from_json(content: Mapping[str, Any]) -> SourceFile:
    lists = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
    return SourceFile(**{**content, **lists, "path": Path(content["path"]), "format": FORMAT_NAMES[content["format"]]})
