"""Chinese knowledge cross-checked: what an answer names must stand in a reference work where the question leads to.

The report names TF-IDF, keywords and an entity cross-check, not how they were done. Here the question's rarest terms
find passages of a reference by TF-IDF, and the names in the answer are looked for in these and in the question.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.steps.base import Batch, Step, StepSettings, Threshold
from data_recipes.errors import DataError, nearest
from data_recipes.instruct.reference import Reference
from data_recipes.reading.files import content_fingerprint, examine
from data_recipes.reading.source_file import Part, SourceFile
from data_recipes.recipes.source import Source
from data_recipes.recipes.templates import column_value


class EntitiesSettings(StepSettings):
    """`reference`: a file or folder of entries with the columns `title` and `text`. `passages` are looked at for each
    question, and only those at least as near to it as `nearness`: a dialogue that the reference has nothing on is not
    judged. `at_least`: the share of the names in an answer that must stand there."""

    reference: Path
    title: str = "title"
    text: str = "text"
    passages: int = Field(3, ge=1)
    nearness: float = Field(0.2, ge=0, le=1)
    at_least: Annotated[float, Threshold()] = Field(0.5, ge=0, le=1)

    def signal_settings(self) -> dict[str, Any]:
        """Not where the reference is; what it is, `inputs` says."""
        return {key: value for key, value in super().signal_settings().items() if key != "reference"}


class Entities(Step[EntitiesSettings]):
    """Columns `entities` (names in the last answer), `entity_support` (the share of them that the reference bears out;
    null where it has nothing on the question, or there are none) and `entity_reference` (the nearest entry)."""

    name = "entities"
    Settings = EntitiesSettings
    costly = True
    reads = ("messages",)

    def inputs(self) -> dict[str, str]:
        return {"reference": content_fingerprint(self._files)}

    @cached_property
    def _files(self) -> list[SourceFile]:
        settings = self.settings
        files = examine(Source(path=str(settings.reference), text=settings.text))
        columns = files[0].format.columns(files[0])
        for name in (settings.title, settings.text):
            if columns and name not in columns and name.split(".")[0] not in columns:
                raise DataError(f"step 'entities': no column '{name}' in {settings.reference}.{nearest(name, columns)}")
        return files

    @cached_property
    def _reference(self) -> Reference:
        return Reference(self._entries())

    def _entries(self) -> Iterator[tuple[str, str]]:
        settings = self.settings
        for file in self._files:
            for _, row in file.format.rows(file, Part(0), {settings.title, settings.text}):
                if isinstance(row, str):
                    continue
                try:
                    title, text = column_value(row, settings.title), column_value(row, settings.text)
                except KeyError:
                    continue
                if isinstance(title, str) and isinstance(text, str):
                    yield title, text

    def schema(self) -> pa.Schema:
        return pa.schema(
            [("entities", pa.int32()), ("entity_support", pa.float32()), ("entity_reference", pa.string())]
        )

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        rows = [self._checked(messages or []) for messages in batch.columns["messages"]]
        return {name: [row[place] for row in rows] for place, name in enumerate(self.schema().names)}

    def _checked(self, messages: Sequence[dict[str, str]]) -> tuple[int, float | None, str | None]:
        said = {message["role"]: message["content"] for message in messages}  # the last of each
        question, answer = said.get("user", ""), said.get("assistant", "")
        names = self._reference.entities(answer)
        found = self._reference.look_up(question, self.settings.passages)
        near = [passage for passage in found if passage.nearness >= self.settings.nearness]
        if not names or not near:
            return len(names), None, None
        known = "\n".join([question, *(f"{passage.title}\n{passage.text}" for passage in near)])
        support = sum(name in known for name in names) / len(names)
        return len(names), support, near[0].title

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        support = signals["entity_support"].to_numpy(zero_copy_only=False)
        low = support < np.float32(self.settings.at_least)
        return ["names that the reference does not bear out" if one else None for one in low]

    def limits(self) -> dict[str, list[float]]:
        return {"entity_support": [self.settings.at_least]}
