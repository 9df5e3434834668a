"""The published sources: `sources/*.yaml` as entries by name, and which entry a subset reads."""

from functools import cache
from pathlib import Path

from data_recipes.errors import DataError
from data_recipes.recipes.recipe import Subset, UnselectedSubset
from data_recipes.recipes.source import Source
from data_recipes.recipes.yaml_schema import nearest, read_yaml, validate

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


def source_names() -> tuple[str, ...]:
    """The names that a recipe's `source:` may give."""
    return tuple(load_sources())


def resolve_source(subset: Subset | UnselectedSubset) -> Source:
    """The source a subset reads: its own entry, or the published one that it names."""
    if isinstance(subset.source, Source):
        return subset.source
    sources = load_sources()
    if subset.source not in sources:
        raise DataError(
            f"subset '{subset.name}': no published source '{subset.source}'.{nearest(subset.source, sources)}"
        )
    return sources[subset.source]
