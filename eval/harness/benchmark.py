"""A benchmark as data: which of lm-eval's tasks, with which settings, from which source; and the suites of them.

Read from `eval/benchmarks/*.yaml` and `eval/suites.yaml`. Nothing here imports lm-eval.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from data_recipes.errors import nearest
from data_recipes.recipes.yaml_schema import read_yaml, validate
from eval.errors import EvalError
from train.config import Settings

ROOM = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOM / "benchmarks"
SUITES = ROOM / "suites.yaml"
# Whoever sets one of these says where it is from.
SOURCED = ("shots", "formulation", "metric", "filter", "generation", "samples", "chat")
NOT_PUBLIC = "not public, ours"


class DataSource(Settings):
    """One data set that a benchmark reads: a configuration of it, and the splits.

    `configs_of` stands for one configuration for each `dataset_name` in a file below `eval/benchmarks/tasks`. `by_hand`
    says how to get what is not on the Hub.
    """

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    config: str | None = None
    configs_of: str | None = None
    splits: list[str] = Field(min_length=1)
    revision: str | None = None
    by_hand: str | None = None

    def each(self) -> list["DataSource"]:
        """One for each configuration."""
        if self.configs_of is None:
            return [self]
        names = _dataset_names(read_yaml(BENCHMARKS / "tasks" / self.configs_of))
        return [self.model_copy(update={"config": name, "configs_of": None}) for name in names]


class Benchmark(Settings):
    """How one published benchmark is run. The YAML key that it stands under is its name, and the `task` of its rows.

    `task` is lm-eval's name of a task or a group of tasks, whose definition lies in `folder`: below `lm_eval/tasks`,
    or as `own/...` below `eval/benchmarks/tasks`. `metric` names what is reported, the published one first, as
    `filter` leaves it. `generation` changes the task's own settings of generation. `samples` is the number of answers
    a question. `minimum_context`: a model with fewer tokens is refused. `source` says for each setting where it is
    from, or "not public, ours".
    """

    title: str
    task: str
    folder: str
    shots: int = Field(ge=0)
    formulation: str
    metric: str | list[str]
    filter: str = "none"
    generation: dict[str, Any] = Field(default_factory=dict)
    samples: int = Field(default=1, ge=1)
    chat: bool = False
    minimum_context: int = Field(ge=1)
    published: str | None = None
    data: list[DataSource] = Field(default_factory=list)
    source: dict[str, str]

    @model_validator(mode="after")
    def _every_setting_has_a_source(self) -> "Benchmark":
        given = [key for key in SOURCED if key in self.model_fields_set]
        missing = [key for key in given if not self.source.get(key)]
        if missing:
            raise ValueError(f"source: '{missing[0]}' is set, but not where that is from; name it, or '{NOT_PUBLIC}'.")
        strange = [key for key in self.source if key not in SOURCED]
        if strange:
            raise ValueError(f"source: '{strange[0]}' is no setting.{nearest(strange[0], SOURCED)}")
        return self

    @property
    def metrics(self) -> list[str]:
        """What is reported, the published one first."""
        return [self.metric] if isinstance(self.metric, str) else self.metric


class Suite(Settings):
    """Benchmarks and tasks that are run together, by name."""

    description: str
    benchmarks: list[str] = Field(min_length=1)


def _dataset_names(definition: Any) -> Iterator[str]:
    """Of a task of lm-eval, or of the tasks of a group."""
    if isinstance(definition, Mapping):
        if "dataset_name" in definition:
            yield definition["dataset_name"]
        definition = definition.get("task")
    for member in definition if isinstance(definition, list) else ():
        yield from _dataset_names(member)


@cache
def all_benchmarks() -> dict[str, Benchmark]:
    """Every benchmark by name, those of a file together. `DataError` names the file and key that is wrong."""
    found: dict[str, Benchmark] = {}
    for path in sorted(BENCHMARKS.glob("*.yaml")):
        for name, entry in read_yaml(path).items():
            if name in found:
                raise EvalError(f"{path}: '{name}' stands in another file as well; a name means one benchmark.")
            found[name] = validate(Benchmark, entry, where=f"{path}: {name}")
    return found


@cache
def all_suites() -> dict[str, Suite]:
    """The suites by name."""
    return {name: validate(Suite, entry, where=f"{SUITES}: {name}") for name, entry in read_yaml(SUITES).items()}
