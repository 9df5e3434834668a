"""What a mixture of dialogues is made of: the schema of a config, the shipped ones, the filters as a cleaning config.

Everything in it is checked before a dialogue is read: keys, sources, filters, the columns that these name.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from data_recipes.cleaning.config import CleaningConfig, checked_config, step_kinds
from data_recipes.cleaning.steps.base import Rewrite, Step
from data_recipes.endpoint.address import base_url
from data_recipes.errors import DataError, nearest
from data_recipes.instruct.pair_config import PairSettings, PairSource
from data_recipes.instruct.source import DialogueSource
from data_recipes.instruct.steps import (  # noqa: F401  steps are found once they are imported
    complexity,
    dialogue,
    dialogue_rules,
    entities,
    judge,
    ranking,
    verified_answer,
)
from data_recipes.recipes.yaml_schema import read_yaml, validate

CONFIGS = Path(__file__).with_name("configs")
SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class InstructSettings(BaseModel):
    """The keys of a config. `steps` are filters, carried out in this order; `shares` of the categories and `dialogues`
    in all say what is taken of what they keep. `endpoint`: the server that the judge and the pairs ask."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: dict[str, DialogueSource] = Field(min_length=1)
    steps: list[dict[str, Any]] = []
    shares: dict[str, float] | None = None
    dialogues: int | None = Field(None, ge=1)
    seed: int = 0
    endpoint: str | None = None
    most_lost_of_a_source: float = Field(0.9, ge=0, le=1)
    pairs: PairSettings | None = None

    @field_validator("sources")
    @classmethod
    def _names_are_folders(cls, sources: dict[str, DialogueSource]) -> dict[str, DialogueSource]:
        for name in sources:
            if not SOURCE_NAME.fullmatch(name):
                raise ValueError(f"'{name}' cannot be a source's name; letters, digits, '.', '_' and '-' can.")
        return sources

    @model_validator(mode="after")
    def _shares_are_of_categories(self) -> "InstructSettings":
        if self.shares is None:
            if self.dialogues is not None:
                raise ValueError("dialogues: says how many `shares` are of; give shares too.")
            return self
        categories = {source.category for source in self.sources.values()}
        for category in self.shares:
            if category not in categories:
                raise ValueError(f"shares: no source is of the category '{category}'.{nearest(category, categories)}")
        for name, source in self.sources.items():
            if source.category not in self.shares:
                raise ValueError(f"shares: none for '{source.category}', the category of the source '{name}'.")
        return self


@dataclass(frozen=True)
class InstructConfig:
    """A config that was checked. `sources` have their paths counted from the config's folder."""

    settings: InstructSettings
    sources: dict[str, DialogueSource]
    cleaning: CleaningConfig
    folder: Path

    @property
    def pair_sources(self) -> dict[str, PairSource]:
        pairs = self.settings.pairs
        return {} if pairs is None else {name: one.beside(self.folder) for name, one in pairs.sources.items()}

    @property
    def resolved(self) -> dict[str, Any]:
        """The config as JSON has it, with every default; without where servers are."""
        values = self.settings.model_dump(mode="json", exclude={"endpoint": True, "steps": True, "pairs": {"endpoint"}})
        steps = [
            {key: value for key, value in step.items() if key != "endpoint"} for step in self.cleaning.resolved["steps"]
        ]
        return {**values, "steps": steps}


def shipped_configs() -> dict[str, Path]:
    """The configs that come with this package, by name: the file's without `.yaml`."""
    return {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}


def load_instruct_config(typed: str | Path, *, endpoint: str | None = None) -> InstructConfig:
    """A config file, or a shipped config by its name, checked. `endpoint` goes before the config's own."""
    path, shipped = Path(typed).expanduser(), shipped_configs()
    if not path.exists() and str(typed) in shipped:
        return checked_instruct(read_yaml(shipped[str(typed)]), str(typed), Path.cwd(), endpoint)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        near = nearest(str(typed), shipped)
        raise DataError(f"{typed}: {what}, and no mixture of dialogues of that name comes with this package.{near}")
    return checked_instruct(read_yaml(path), str(path), path.parent.absolute(), endpoint)


def checked_instruct(values: Any, where: str, folder: Path, endpoint: str | None = None) -> InstructConfig:
    """A config of plain values; relative paths count from `folder`."""
    settings = validate(InstructSettings, values, where=where)
    if endpoint is not None:
        settings = settings.model_copy(update={"endpoint": endpoint})
    for url in (settings.endpoint, settings.pairs.endpoint if settings.pairs else None):
        if url is not None:
            base_url(url)
    if settings.pairs is not None:
        settings.pairs.check(where, settings.sources)
    sources = {name: one.beside(folder) for name, one in settings.sources.items()}
    return InstructConfig(settings, sources, _cleaning_config(settings, where, folder), folder)


def _cleaning_config(settings: InstructSettings, where: str, folder: Path) -> CleaningConfig:
    """The filters as the cleaning pipeline has them, with what they must know of the sources filled in."""
    categories = {name: source.category for name, source in settings.sources.items()}
    steps = [dict(step) for step in settings.steps]
    if not steps or steps[0].get("step") != "dialogue":
        steps.insert(0, {"step": "dialogue"})
    steps[0]["categories"] = categories
    kinds = step_kinds()
    for step in steps:
        if issubclass(kinds.get(str(step.get("step")), Step), Rewrite):
            raise DataError(
                f"{where}: step '{step['step']}' changes texts, but dialogues are given out as they came. Leave it out."
            )
        if step.get("step") == "judge":
            step.setdefault("endpoint", settings.endpoint)
            if step["endpoint"] is None:
                raise DataError(f"{where}: step 'judge': no server to ask. Give --endpoint URL, or `endpoint` there.")
    if settings.shares is not None:
        weights = {name: source.weight for name, source in settings.sources.items()}
        mixture = {"shares": settings.shares, "dialogues": settings.dialogues, "seed": settings.seed}
        steps.append({"step": "mixture", **mixture, "categories": categories, "weights": weights})
    values = {"steps": steps, "most_lost_of_a_source": settings.most_lost_of_a_source}
    config = checked_config(values, where=where, folder=folder)
    for checked in config.steps:
        for source in checked.settings.only.get("source", ()):
            if source not in categories:
                raise DataError(
                    f"{where}: step '{checked.settings.step}': only: no source '{source}'."
                    f"{nearest(str(source), categories)}"
                )
    return config
