"""The published scores (eval/published/*.yaml), each with its source: of the report's tables, its trajectory, the card.

A number lives there once. Where two sources disagree, both are given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from data_recipes.errors import nearest
from data_recipes.recipes.yaml_schema import read_yaml, validate
from eval.errors import EvalError
from train.config import Settings

FOLDER = Path(__file__).with_name("published")
QUOTED = "*"
# What a table or plot of measured scores can put beside them: which file holds which published tables.
BASE, TRAJECTORY, INSTRUCT, TOKENIZERS = "base", "trajectory", "instruct", "tokenizers"


class Column(Settings):
    """A benchmark of the published tables; `figure_1`: one of the eight whose mean Figure 1 draws."""

    title: str
    figure_1: bool = False


class PublishedModel(Settings):
    """Parameters, tokens it was trained on, and the context length, as Table 6 gives them."""

    parameters: float = Field(gt=0)
    tokens: float = Field(gt=0)
    context: str

    @property
    def training_flops(self) -> float:
        """6 N D."""
        return 6 * self.parameters * self.tokens


class PublishedTable(Settings):
    """One table of one source, row by row: a number, one followed by * (quoted), or null."""

    title: str
    source: str
    note: str = ""
    columns: list[str]
    scores: dict[str, list[float | str | None]]

    @model_validator(mode="after")
    def _rows_fit(self) -> "PublishedTable":
        for model, row in self.scores.items():
            if len(row) != len(self.columns):
                raise ValueError(f"scores.{model}: {len(row)} numbers for {len(self.columns)} columns.")
            for cell in row:
                if isinstance(cell, str) and not cell.removesuffix(QUOTED).replace(".", "", 1).isdigit():
                    raise ValueError(f"scores.{model}: '{cell}' is no number.")
        return self


@dataclass(frozen=True)
class Score:
    """A published number as it stands there; `quoted` from another publication; `table` and `source` say where."""

    model: str
    column: str
    value: float
    quoted: bool
    table: str
    source: str


@cache
def columns() -> dict[str, Column]:
    """Every column by key, in the order of the report's tables."""
    path = FOLDER / "columns.yaml"
    return {key: validate(Column, entry, where=f"{path}: {key}") for key, entry in read_yaml(path).items()}


@cache
def models() -> dict[str, PublishedModel]:
    """The models whose size and training tokens are published."""
    path = FOLDER / "models.yaml"
    return {name: validate(PublishedModel, entry, where=f"{path}: {name}") for name, entry in read_yaml(path).items()}


@cache
def tables(kind: str) -> list[PublishedTable]:
    """The tables of a file; `DataError` names the file and key that is wrong."""
    path = FOLDER / f"{kind}.yaml"
    return [
        validate(PublishedTable, entry, where=f"{path}: table {number}")
        for number, entry in enumerate(read_yaml(path), 1)
    ]


@cache
def scores(kind: str) -> list[Score]:
    """Every number of a file's tables."""
    found = []
    for table in tables(kind):
        for model, row in table.scores.items():
            for column, cell in zip(table.columns, row, strict=True):
                if cell is not None:
                    quoted = isinstance(cell, str)
                    value = float(str(cell).removesuffix(QUOTED))
                    found.append(Score(model, column, value, quoted, table.title, table.source))
    return found


def scores_of(kind: str, model: str, column: str) -> list[Score]:
    """A model's numbers in a column, one a source; those that a later source only repeats are left out."""
    found: dict[float, Score] = {}
    for score in scores(kind):
        if (score.model, score.column) == (model, column):
            found.setdefault(score.value, score)
    return list(found.values())


def figure_1_columns() -> list[str]:
    """The eight benchmarks of Figure 1's average."""
    return [key for key, column in columns().items() if column.figure_1]


def average(values: dict[str, float]) -> float | None:
    """The mean over Figure 1's eight benchmarks; None where one of them is missing."""
    wanted = [values.get(column) for column in figure_1_columns()]
    present = [value for value in wanted if value is not None]
    return sum(present) / len(present) if len(present) == len(wanted) else None


def column_of(published: str, measure: str, *, is_first: bool) -> str | None:
    """The column that a benchmark's measure stands in; None where nothing is published of it."""
    key = published if is_first else f"{published} {measure}"
    if is_first and key not in columns():
        raise EvalError(f"published: no column '{key}'.{nearest(key, columns())}")
    return key if key in columns() else None


def models_of(kind: str, wanted: Sequence[str]) -> list[str]:
    """The models with a number in one of the columns, in the order of the tables."""
    return list(dict.fromkeys(score.model for score in scores(kind) if score.column in wanted))


def as_json(kind: str) -> list[dict[str, Any]]:
    """Every number with its source, for programs."""
    return [vars(score) for score in scores(kind)]
