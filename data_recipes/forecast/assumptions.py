"""The figures that a forecast takes where nothing was measured, each with where it is from; `assumptions.yaml`."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from data_recipes.recipes.yaml_schema import read_yaml, validate

FILE = Path(__file__).with_name("assumptions.yaml")
OTHER = "other"


class Figure(BaseModel):
    """A number, what it rests on, and the place that has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    basis: Literal["published", "measured", "assumption"]
    source: str


@cache
def all_figures() -> dict[str, dict[str, Figure]]:
    """The content of the file: topic, then key."""
    return {
        topic: {key: validate(Figure, entry, where=f"{FILE.name}: {topic}.{key}") for key, entry in entries.items()}
        for topic, entries in read_yaml(FILE).items()
    }


class Figures:
    """The figures of one forecast: those of the file, and what was measured in their place; notes which were used."""

    def __init__(self, measured: dict[tuple[str, str], Figure] | None = None) -> None:
        self._measured = measured or {}
        self.used: dict[str, Figure] = {}

    def take(self, topic: str, *keys: str | None) -> float:
        """The figure of the first key that has one: the more particular keys come first, `other` is the last."""
        known = all_figures()[topic]
        for key in (*keys, OTHER):
            found = self._measured.get((topic, key or OTHER)) or known.get(key or OTHER)
            if found is not None:
                self.used[f"{topic}: {key or OTHER}"] = found
                return found.value
        raise KeyError(f"{topic}: none of {keys}")

    def known(self, topic: str, key: str) -> float | None:
        """The figure of this very key, if there is one."""
        return self.take(topic, key) if key in all_figures()[topic] else None
