"""Items of evaluation sets, question and answer, as files that the cleaning of training text reads for decontamination.

Which sets there are, and which columns of their data make question and answer, is in `eval/evaluation_sets.yaml`.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from data_recipes.cleaning.steps.decontamination import ITEMS
from data_recipes.errors import first_line
from data_recipes.files import write_whole
from data_recipes.recipes.yaml_schema import read_yaml, validate
from eval.errors import EvalError
from eval.harness.benchmark import ROOM, DataSource
from eval.harness.data_folder import load_local, local_folder
from train.config import Settings

SETS = ROOM / "evaluation_sets.yaml"


class EvaluationSet(Settings):
    """One evaluation set: its data, and templates over a row's columns (`this` is the row).

    `files`: the pattern of each split's files where data that comes by hand has no list of them.
    """

    data: list[DataSource] = Field(min_length=1)
    files: dict[str, str] = Field(default_factory=dict)
    question: str
    answer: str = ""


@cache
def evaluation_sets() -> dict[str, EvaluationSet]:
    """The sets by name."""
    return {name: validate(EvaluationSet, entry, where=f"{SETS}: {name}") for name, entry in read_yaml(SETS).items()}


def write_items(data: Path) -> dict[str, int]:
    """Write the items of every set whose data sets are all below `data` to `data`/items; returns how many, by name."""
    counts = {}
    for name, entry in evaluation_sets().items():
        lines = [json.dumps(item, ensure_ascii=False) for item in items_of(name, data)] if is_here(entry, data) else []
        if lines:
            (data / ITEMS).mkdir(exist_ok=True)
            write_whole(data / ITEMS / f"{name}.jsonl", "\n".join(lines) + "\n")
            counts[name] = len(lines)
    return counts


def is_here(entry: EvaluationSet, data: Path) -> bool:
    """Whether every configuration and split of a set lies below `data`."""
    try:
        return all(split in _splits(entry, source, data) for source in _each(entry) for split in source.splits)
    except EvalError:
        return False


def items_of(name: str, data: Path) -> Iterator[dict[str, str]]:
    """`id`, `question` and `answer` of each item of a set. Where a row has no answer that can be had, it is empty."""
    from jinja2.sandbox import SandboxedEnvironment

    entry = evaluation_sets()[name]
    sandbox = SandboxedEnvironment()
    question, answer = sandbox.from_string(entry.question), sandbox.from_string(entry.answer)
    for source in _each(entry):
        for split in source.splits:
            label = f"{source.config}/{split}" if len(_each(entry)) > 1 else split
            for number, row in enumerate(_splits(entry, source, data)[split]):
                try:
                    asked = question.render(this=row, **row)
                except Exception as error:
                    raise EvalError(f"{SETS}: {name}: question: {first_line(error)} (row {number})") from error
                yield {"id": f"{label}/{number}", "question": asked, "answer": _answer(answer, row)}


def _each(entry: EvaluationSet) -> list[DataSource]:
    return [one for source in entry.data for one in source.each()]


def _splits(entry: EvaluationSet, source: DataSource, data: Path) -> Any:
    folder = local_folder(data, source.repo, source.by_hand)
    return load_local(folder, source.config, data_files=entry.files or None)


def _answer(template: Any, row: dict[str, Any]) -> str:
    try:
        return template.render(this=row, **row)
    except Exception:  # a hidden label, such as -1 or an empty one
        return ""
