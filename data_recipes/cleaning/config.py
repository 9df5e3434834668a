"""What is cleaned how: the schema of a config, the shipped ones, and the steps that it names.

A config is a YAML file. Everything in it is checked before a document is read: keys, steps, the columns that `only`
names, and the files that steps need.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from data_recipes.cleaning.code_files import PATH_COLUMNS
from data_recipes.cleaning.repositories import JoinSettings
from data_recipes.cleaning.steps.base import (
    AnyStep,
    CorpusStep,
    FolderOrId,
    Rewrite,
    Step,
    StepSettings,
    columns_of,
)
from data_recipes.errors import DataError, nearest
from data_recipes.manifest import fingerprint_of
from data_recipes.recipes.yaml_schema import read_yaml, validate
from data_recipes.registry import named_subclasses

CONFIGS = Path(__file__).with_name("configs")
READING_VERSION = 1
"""Raised when the same files give other texts or other reasons, so that what was read before is not taken."""
# Columns of the written files that a step's column cannot be called.
OWN_COLUMNS = ("text", "source", "file", "row", "step", "reason", "copy_of")


class CleaningSettings(BaseModel):
    """The keys of a config. `steps` are entries with the name of a step and its settings, carried out in this order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field("text", min_length=1)
    """The column that holds the text, in files with columns."""
    max_document_bytes: int = Field(16_000_000, gt=0)
    """Longer documents are dropped."""
    most_lost_of_a_source: float = Field(0.9, ge=0, le=1)
    """A step that compares documents stops the run where it would drop a larger share of a source's documents."""
    steps: list[dict[str, Any]] = Field(min_length=1)
    join: JoinSettings | None = None
    """Makes one document of the kept files of each repository."""


@dataclass(frozen=True)
class CleaningConfig:
    """A config that was checked, with its steps ready to use."""

    settings: CleaningSettings
    typed: tuple[StepSettings, ...]
    """The steps' entries as the file has them: with paths that count from its folder."""
    steps: tuple[AnyStep, ...]

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The config as JSON has it, every default written out."""
        return {
            **self.settings.model_dump(mode="json", exclude={"steps"}),
            "steps": [entry.model_dump(mode="json") for entry in self.typed],
        }

    @cached_property
    def reads(self) -> list[str]:
        """The columns beside the text that steps use, and the join."""
        used = {column for step in self.steps for column in step.reads}
        if (join := self.settings.join) is not None:
            used |= {*PATH_COLUMNS, *([] if join.by is None else [join.by])}
        return sorted(used - {self.settings.text})

    @cached_property
    def reading(self) -> str:
        """Fingerprint of what texts and their columns depend on, the inputs apart."""
        rewrites = [
            [step.fingerprint(), step.settings.thresholds()] for step in self.steps if isinstance(step, Rewrite)
        ]
        settings = self.settings
        return fingerprint_of([READING_VERSION, settings.text, settings.max_document_bytes, self.reads, rewrites])

    @cached_property
    def chain(self) -> list[str]:
        """For each step a fingerprint of what its verdicts depend on, the inputs apart: all steps before it too."""
        chain = [self.reading]
        for step in self.steps:
            chain.append(fingerprint_of([chain[-1], step.fingerprint(), step.settings.thresholds()]))
        return chain[1:]

    @cached_property
    def result(self) -> str:
        """Fingerprint of what all that is given out depends on, the inputs apart."""
        join = self.settings.join
        return self.chain[-1] if join is None else fingerprint_of([self.chain[-1], join.model_dump(mode="json")])

    def labels(self) -> list[str]:
        """The steps' names; of a step that is there several times, with its number."""
        names = [step.settings.step for step in self.steps]
        return [
            name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
            for place, name in enumerate(names)
        ]


def step_kinds() -> dict[str, type[AnyStep]]:
    """Every step by its name."""
    return named_subclasses(AnyStep, elsewhere=True)


def shipped_configs() -> dict[str, Path]:
    """The configs that come with this package, by name: the file's without `.yaml`."""
    return {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}


def load_cleaning_config(typed: str | Path) -> CleaningConfig:
    """A config file, or a shipped config by its name, checked; `DataError` names file, key and the nearest valid one.

    Paths in a file count from its folder, in a shipped config from the current one.
    """
    path, shipped = Path(typed).expanduser(), shipped_configs()
    if not path.exists() and str(typed) in shipped:
        return checked_config(read_yaml(shipped[str(typed)]), where=str(typed), folder=Path.cwd())
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        near = nearest(str(typed), shipped)
        raise DataError(f"{typed}: {what}, and no cleaning config of that name comes with this package.{near}")
    return checked_config(read_yaml(path), where=str(path), folder=path.parent.absolute())


def checked_config(values: Any, *, where: str = "config", folder: Path | None = None) -> CleaningConfig:
    """A config of plain values. `folder`: what relative paths count from, the current one by default."""
    settings = validate(CleaningSettings, values, where=where)
    kinds = step_kinds()
    typed: list[StepSettings] = []
    steps: list[AnyStep] = []
    for number, entry in enumerate(settings.steps):
        name = entry.get("step")
        if name is None:
            raise DataError(f"{where}: steps[{number}]: step is missing; give the name of one: {', '.join(kinds)}.")
        if name not in kinds:
            raise DataError(f"{where}: steps[{number}]: no step '{name}'.{nearest(str(name), kinds)}")
        kind = kinds[name].Settings
        typed.append(validate(kind, entry, where=f"{where}: steps[{number}] ({name})"))
        steps.append(kinds[name](_located(typed[-1], folder or Path.cwd())))
    config = CleaningConfig(settings, tuple(typed), tuple(steps))
    _check_order(config, where)
    _check_columns(config, where)
    _ = config.chain  # asks every step for the files that it needs
    return config


def _check_order(config: CleaningConfig, where: str) -> None:
    seen_other = None
    for number, step in enumerate(config.steps):
        if not isinstance(step, Rewrite):
            seen_other = step.settings.step
        elif seen_other is not None:
            raise DataError(
                f"{where}: steps[{number}] ({step.settings.step}) changes texts, so it must stand before "
                f"'{seen_other}', which judges them."
            )
        elif step.settings.only.keys() - {"source"}:
            raise DataError(
                f"{where}: steps[{number}] ({step.settings.step}): only may name 'source' here, as no step before it "
                "has columns."
            )


def _check_columns(config: CleaningConfig, where: str) -> None:
    """No two steps with different values for one column; `only` names columns that are there by then."""
    owners: dict[str, tuple[str, str]] = {}
    types: dict[str, pa.DataType] = {}
    for number, step in enumerate(config.steps):
        name = step.settings.step
        for column, values in step.settings.only.items():
            if column == "source":
                continue
            if column not in owners:
                raise DataError(
                    f"{where}: steps[{number}] ({name}): only: no step before it has the column '{column}'."
                    f"{nearest(column, ['source', *owners])}"
                )
            try:
                pa.array(values, types[column])
            except (pa.ArrowException, TypeError) as error:
                raise DataError(
                    f"{where}: steps[{number}] ({name}): only: {column}: {list(values)!r:.80} found, expected values "
                    f"of the type {types[column]}."
                ) from error
        for column in step.needs() - owners.keys():
            raise DataError(
                f"{where}: steps[{number}] ({name}): no step before it has the column '{column}'."
                f"{nearest(column, owners)}"
            )
        if not isinstance(step, Step | CorpusStep):
            continue
        derived = step.derived_schema().names if isinstance(step, Step) else []
        for column, type in zip(columns_of(step).names, columns_of(step).types, strict=True):
            thresholds = step.settings.thresholds() if column in derived else None
            own = (name, fingerprint_of([step.fingerprint(), thresholds]))
            types[column] = type
            if column in OWN_COLUMNS:
                raise DataError(f"{where}: steps[{number}] ({name}): a column cannot be called '{column}'.")
            other = owners.setdefault(column, own)
            if other != own:
                raise DataError(
                    f"{where}: steps[{number}] ({name}): its column '{column}' would hold other values than that of "
                    f"'{other[0]}' before it. Where a step stands twice, only thresholds may differ."
                )


def _located(settings: StepSettings, folder: Path) -> StepSettings:
    """The same settings with relative paths counted from `folder`."""

    def locate(value: Any, or_id: bool) -> Any:
        if isinstance(value, Path):
            return folder / value.expanduser()
        if or_id and isinstance(value, str) and (folder / Path(value).expanduser()).exists():
            return str(folder / Path(value).expanduser())
        if isinstance(value, dict):
            return {key: locate(item, or_id) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [locate(item, or_id) for item in value]
        return value

    models = settings.marked(FolderOrId)
    located = {name: locate(value, name in models) for name, value in settings.model_dump().items()}
    return type(settings).model_validate(located)
