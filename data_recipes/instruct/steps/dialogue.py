"""What a dialogue is at all: its faults, its category, its turns and tokens. The first step of every mixture."""

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.steps.base import Batch, FolderOrId, Step, StepSettings, Threshold
from data_recipes.errors import DataError, first_line
from data_recipes.files import sha256_once
from data_recipes.places import local_folder


class DialogueSettings(StepSettings):
    """`tokenizer`: a folder or a Hub id; with it tokens are counted. A dialogue of more than `max_tokens` is dropped
    (the published run's context is 28,672), and so is one of more than `max_turns` questions. `categories`: of the
    sources, filled in from them."""

    tokenizer: Annotated[str | None, FolderOrId()] = None
    categories: dict[str, str] = Field(default_factory=dict)
    max_tokens: Annotated[int | None, Threshold()] = Field(None, ge=1)
    max_turns: Annotated[int | None, Threshold()] = Field(None, ge=1)

    def signal_settings(self) -> dict[str, Any]:
        """Not where the tokenizer is; what it is, `inputs` says."""
        settings = super().signal_settings()
        return {**settings, "tokenizer": self.tokenizer is not None}


class Dialogue(Step[DialogueSettings]):
    """Columns `category` (of the source), `fault`, `turns` (questions) and, with a tokenizer, `tokens` (of what is
    said, without the marks of a chat template)."""

    name = "dialogue"
    Settings = DialogueSettings
    reads = ("messages", "fault")

    def inputs(self) -> dict[str, str]:
        return {} if self.settings.tokenizer is None else {"tokenizer": sha256_once(self._tokenizer_file)}

    @cached_property
    def _tokenizer_file(self) -> Path:
        return tokenizer_file(str(self.settings.tokenizer))

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self._tokenizer_file))

    def schema(self) -> pa.Schema:
        columns = [("category", pa.string()), ("fault", pa.string()), ("turns", pa.int32())]
        return pa.schema(columns if self.settings.tokenizer is None else [*columns, ("tokens", pa.int32())])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        dialogues = [messages or [] for messages in batch.columns["messages"]]
        found: dict[str, Sequence[Any]] = {
            "category": [self.settings.categories.get(batch.source)] * len(batch),
            "fault": batch.columns["fault"],
            "turns": [sum(message["role"] == "user" for message in messages) for messages in dialogues],
        }
        if self.settings.tokenizer is not None:
            said = [message["content"] for messages in dialogues for message in messages]
            encoded = self._tokenizer.encode_batch_fast(said, add_special_tokens=False)
            ends = [0, *accumulate(len(ids) for ids in encoded)]
            places = [0, *accumulate(map(len, dialogues))]
            found["tokens"] = [ends[last] - ends[first] for first, last in pairwise(places)]
        return found

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        reasons = signals["fault"].to_pylist()
        limits = {"tokens": self.settings.max_tokens, "turns": self.settings.max_turns}
        for column, limit in limits.items():
            if limit is None or column not in signals.column_names:
                continue
            for place, value in enumerate(signals[column].to_pylist()):
                if reasons[place] is None and value > limit:
                    reasons[place] = f"more than {limit:,} {column}"
        return reasons

    def limits(self) -> dict[str, list[float]]:
        limits = {"tokens": self.settings.max_tokens, "turns": self.settings.max_turns}
        return {column: [limit] for column, limit in limits.items() if limit and column in self.schema().names}


def tokenizer_file(name: str) -> Path:
    """The tokenizer.json of a folder or a Hub id; `DataError` where there is none."""
    folder = local_folder(name, "tokenizer")
    if folder is not None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise DataError(f"{folder}: no tokenizer.json, so this is not a tokenizer's folder.")
        return path
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(name, "tokenizer.json"))
        json.loads(path.read_text(encoding="utf-8"))
        return path
    except Exception as error:  # of several libraries
        raise DataError(f"tokenizer {name}: cannot be fetched ({first_line(error)}). Give a folder.") from error
