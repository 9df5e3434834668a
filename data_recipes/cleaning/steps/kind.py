"""What kind of text a document is, for configs of mixed corpora: `only: {kind: code}` limits a step to one.

By the suffix of the path, then by what is in the text. It drops nothing.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.code_files import PATH_COLUMNS, language_of, paths_of
from data_recipes.cleaning.measures import shares
from data_recipes.cleaning.steps.base import Batch, Step, StepSettings
from data_recipes.cleaning.steps.math_rules import formulas_of
from data_recipes.cleaning.words import split_words

# Web pages and documents, whatever their suffix makes of them for a code corpus.
_TEXT_LANGUAGES = {None, "html", "tex", "xml", "markdown", "text"}


class KindSettings(StepSettings):
    step: Literal["kind"] = "kind"
    math_characters: float = Field(0.03, ge=0, le=1)
    """Text of which formulas make at least so much is mathematics. Ours."""
    book_words: int = Field(20_000, ge=1)
    """Text of at least so many words is a book: the web's median is under a thousand. Ours."""


class Kind(Step[KindSettings]):
    """Column `kind`: `code`, `math`, `book` or `text`."""

    name: ClassVar[str] = "kind"
    Settings = KindSettings
    reads = PATH_COLUMNS

    def schema(self) -> pa.Schema:
        return pa.schema([("kind", pa.string())])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        kinds = np.full(len(batch), "text", dtype=object)
        lengths = np.array([len(text) for text in batch.texts])
        formulas = np.array([sum(map(len, formulas_of(text)[0])) for text in batch.texts])
        kinds[np.diff(split_words(batch.texts).offsets) >= self.settings.book_words] = "book"
        kinds[shares(formulas, lengths) >= self.settings.math_characters] = "math"
        kinds[[language_of(path) not in _TEXT_LANGUAGES for path in paths_of(batch)]] = "code"
        return {"kind": kinds.tolist()}

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        return [None] * signals.num_rows
