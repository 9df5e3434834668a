"""The published sources: `sources/*.yaml` as entries by name, and which entry a subset reads."""

from functools import cache
from pathlib import Path

from data_recipes.errors import DataError, nearest
from data_recipes.recipes.source import Source
from data_recipes.recipes.yaml_schema import read_yaml, validate

SOURCES_FOLDER = Path(__file__).parents[1] / "sources"


@cache
def load_sources() -> dict[str, Source]:
    """Every published source by name, in the order of the files.

    A file holds groups; what a group's entries share is written once under `shared`.
    """
    sources: dict[str, Source] = {}
    for path in sorted(SOURCES_FOLDER.glob("*.yaml")):
        for group in read_yaml(path)["groups"]:
            for name, entry in group["entries"].items():
                where = f"sources/{path.name}: {name}"
                if name in sources:
                    raise DataError(f"{where}: a source of this name is defined already.")
                sources[name] = validate(Source, {**group.get("shared", {}), **(entry or {})}, where=where)
    return sources


def resolve_source(source: str | Source, *, where: str) -> Source:
    """What a subset's `source:` means: an entry of its own, or the published one that it names."""
    if isinstance(source, Source):
        return source
    sources = load_sources()
    if source not in sources:
        raise DataError(
            f"{where}: no published source '{source}'.{nearest(source, sources)} "
            "For your own data give an entry, such as {path: folder, glob: '**/*.txt'}."
        )
    return sources[source]
