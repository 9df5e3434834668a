"""A source of a mixture of dialogues: as a recipe's source, with columns that make messages; its rows as JSON lines.

A row that is no dialogue becomes a line all the same, with what is wrong with it (`fault`): the first filter drops it
with that reason, so that it can be looked at like everything else that is dropped.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from pydantic import Field, model_validator

from data_recipes.errors import DataError, nearest
from data_recipes.instruct.messages import FORMS, Message, NotADialogue, check_messages, messages_of
from data_recipes.recipes.source import Source
from data_recipes.recipes.templates import MissingColumn, column_value

PARTS = ("messages", "conversations", "system", "instruction", "input", "output", "prompt", "completion")
"""What a column may stand for in a dialogue, by the four forms of messages.py."""
EXTRAS = ("answer", "responses", "chosen", "rejected")
"""Beside a dialogue: its right answer, and other answers to it, for pairs."""
OPTIONAL = ("system", "input", "answer")
MOST_SHOWN = 2000
"""Characters of a row that is no dialogue, kept to be looked at."""
LISTS = ("messages", "conversations", "prompt", "completion", "chosen", "rejected", "responses")


class DialogueSource(Source):
    """`columns` maps the names of a form of dialogue, and `answer`, to the columns of this source; without it rows have
    these names themselves. `read`: at most so many rows, the first of the source (of a Hub dataset in an order by the
    seed). `weight` is its share of its category."""

    columns: dict[str, str] = Field(default_factory=dict)
    category: str = Field("general-en", pattern=r"^[a-z][a-z0-9-]*$")
    weight: float = Field(1.0, gt=0)
    read: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _is_of_dialogues(self) -> "DialogueSource":
        for key in ("text", "template", "decode_with"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key} makes plain text of a row; a source of dialogues has `columns`.")
        for name in self.columns:
            if name not in PARTS + EXTRAS:
                raise ValueError(f"columns: no part of a dialogue is called '{name}'.{nearest(name, PARTS + EXTRAS)}")
        if self.columns and not self.has_form(self.columns):
            raise ValueError(
                f"columns: {', '.join(self.columns)} make no dialogue; give "
                f"{'; or '.join(' and '.join(keys) for keys in self.forms)}."
            )
        return self

    @property
    def forms(self) -> list[tuple[str, ...]]:
        """The names of which all must be there."""
        return list(FORMS)

    def has_form(self, names: Any) -> bool:
        return any(set(keys) <= set(names) for keys in self.forms)

    @property
    def needed_columns(self) -> set[str] | None:
        filtered = {condition.field for condition in self.filters}
        return {*(self.columns.values() or PARTS + EXTRAS), *filtered}

    @property
    def needs_rows(self) -> bool:
        return True

    def check_columns(self, columns: list[str]) -> None:
        """`DataError` where the source has none of the columns that it needs; of none known, nothing is said."""
        if not columns:
            return
        for name, column in self.columns.items():
            if column not in columns and column.split(".")[0] not in columns:
                raise DataError(f"{self.label}: no column '{column}' for '{name}'.{nearest(column, columns)}")
        if not self.columns and not self.has_form(columns):
            raise DataError(
                f"{self.label}: its columns ({', '.join(columns)}) are those of no form of dialogue. Say in `columns` "
                "which is which: columns: {prompt: COLUMN, completion: COLUMN}, or {messages: COLUMN}."
            )

    def renderer(self) -> Callable[[Mapping[str, Any]], str]:
        return self.line_of

    def line_of(self, row: Mapping[str, Any]) -> str:
        """A row as a JSON object: `text` for filters to read, `messages`, and what else is known of it."""
        parts = self.parts_of(row)
        try:
            return orjson.dumps(self.dialogue_line(parts)).decode()
        except NotADialogue as error:
            fault = error.reason
        except orjson.JSONEncodeError:  # half of a surrogate pair, from "\ud800" in JSON
            fault = "not UTF-8"
        shown = json.dumps(parts, ensure_ascii=False, default=str)[:MOST_SHOWN].encode("utf-8", "replace").decode()
        return orjson.dumps({"text": shown, "messages": None, "fault": fault}).decode()

    def dialogue_line(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """What the line of a dialogue holds; `NotADialogue` where the parts make none."""
        messages = messages_of(parts)
        check_messages(messages)
        plain = [{"role": one["role"], "content": one["content"]} for one in messages]
        return {"text": text_of(plain), "messages": plain, "fault": None, "answer": answer_of(parts)}

    def parts_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The parts of a row under the names of the forms; `MissingColumn` where one that must be there is not."""
        if not self.columns:
            return {name: as_list(name, row[name]) for name in PARTS + EXTRAS if name in row}
        parts = {}
        for name, column in self.columns.items():
            try:
                parts[name] = as_list(name, column_value(row, column))
            except KeyError:
                if name not in OPTIONAL:
                    raise MissingColumn(column, row) from None
        return parts


def as_list(name: str, value: Any) -> Any:
    """A value that may be a list: kept as JSON, as some sets have it, or a struct of lists, as Arrow has it."""
    if name in LISTS and isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            found = json.loads(value)
        except ValueError:
            return value
        of_turns = isinstance(found, list) and all(isinstance(one, dict | str) for one in found)
        return found if of_turns else value
    if name in LISTS and isinstance(value, Mapping) and value and all(isinstance(one, list) for one in value.values()):
        return [dict(zip(value, turn, strict=False)) for turn in zip(*value.values(), strict=False)]
    return value


def answer_of(parts: Mapping[str, Any]) -> str | None:
    """The right answer as a text; None where there is none."""
    answer = parts.get("answer")
    if answer is None or isinstance(answer, str):
        return answer or None
    return str(answer) if isinstance(answer, int | float) else json.dumps(answer, ensure_ascii=False)


def text_of(messages: list[Message]) -> str:
    """The turns of a dialogue as one text, without roles: what duplicates, languages and topics are found in."""
    return "\n\n".join(message["content"] for message in messages)
