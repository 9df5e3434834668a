"""Instruction rows become text through the named templates of `templates.yaml`.

Substitution is a plain replacement of `{name}`: no attribute access, no format codes, nothing evaluated, and
what a row contains is never read as a template.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError, first_line, nearest
from data_recipes.recipes.yaml_schema import read_yaml

TEMPLATES_FILE = Path(__file__).with_name("templates.yaml")
_MARK = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[^\W\d][\w .\-]*")


def column_value(row: Mapping[str, Any], name: str) -> Any:
    """A column of a row; `a.b` reaches into a nested column. `KeyError` when it is not there."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise KeyError(name)
        value = value[part]
    return value


class MissingColumn(DataError):
    """A row lacks the column that its text is made of; `column` names it."""

    def __init__(self, column: str, row: Mapping[str, Any]) -> None:
        super().__init__(column)
        self.column = column
        self.row = row

    def __str__(self) -> str:  # made only when shown: a build drops such rows by the million and shows none
        return f"no column '{self.column}' in the row.{nearest(self.column, [str(key) for key in self.row])}"


class NoDecoder(DataError):
    """The tokenizer that turns token ids back into text cannot be loaded; the rows may be fine."""


@dataclass(frozen=True)
class Template:
    """`text` with `{name}` marks, or (`turns`) the place of a list of messages in the row."""

    name: str
    text: str = ""
    optional: tuple[str, ...] = ()
    turns: tuple[str, str, str] | None = None
    roles: tuple[str, ...] = ()
    description: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a source may map to its columns."""
        if self.turns:
            return (self.turns[0],)
        return tuple(dict.fromkeys(name for name in _marks(self.text, self.name) if name))

    @property
    def identity(self) -> dict[str, object]:
        """What shapes the text; the name and the description do not."""
        return {"text": self.text, "optional": self.optional, "turns": self.turns, "roles": self.roles}


@cache
def published_templates() -> dict[str, Template]:
    """The templates of `templates.yaml` by name."""
    templates = {}
    for name, entry in read_yaml(TEMPLATES_FILE).items():
        turns = entry.get("turns")
        templates[name] = Template(
            name=name,
            text=entry.get("text", ""),
            optional=tuple(entry.get("optional", ())),
            turns=(turns["column"], turns["role"], turns["content"]) if turns else None,
            roles=tuple(entry.get("roles", ())),
            description=entry["description"],
        )
    return templates


def template_named(template: str) -> Template:
    """A published template by name, or the inline one when the string holds a `{`."""
    if "{" in template:
        inline = Template(name="inline", text=template)
        if not inline.names:
            raise ValueError(f"template {template!r:.60} has no {{column}} mark.")
        return inline
    known = published_templates()
    if template not in known:
        raise ValueError(f"no template '{template}'.{nearest(template, known)}")
    return known[template]


def check_template(template: str, fields: Mapping[str, str]) -> None:
    """`ValueError` when the template is unknown or `fields` maps a name that it does not have."""
    names = template_named(template).names
    for name in fields:
        if name not in names:
            raise ValueError(f"template '{template}' has no '{name}'.{nearest(name, names)}")


def column_renderer(column: str) -> Callable[[Mapping[str, Any]], str]:
    """Row to text: the column as it is."""

    def render(row: Mapping[str, Any]) -> str:
        try:
            return _as_text(column_value(row, column))
        except KeyError:
            raise MissingColumn(column, row) from None

    return render


def decoding_renderer(column: str, tokenizer: Path | str) -> Callable[[Mapping[str, Any]], str]:
    """Row to text where the column holds token ids: decoded with `tokenizer`, special tokens left out.

    The tokenizer (a folder with `tokenizer.json`, or a Hub id) is loaded with the first row.
    """

    @cache
    def decoder() -> Callable[..., str]:
        from tokenizers import Tokenizer

        try:
            if isinstance(tokenizer, Path):
                return Tokenizer.from_file(str(tokenizer / "tokenizer.json")).decode
            return Tokenizer.from_pretrained(tokenizer).decode
        except Exception as error:  # the library raises bare exceptions
            raise NoDecoder(
                f"tokenizer {tokenizer}: cannot be loaded to decode '{column}' ({first_line(error)})."
            ) from error

    def render(row: Mapping[str, Any]) -> str:
        try:
            ids = column_value(row, column)
        except KeyError:
            raise MissingColumn(column, row) from None
        if ids is None or not len(ids):
            return ""
        decode = decoder()
        try:
            return decode(list(map(int, ids)), skip_special_tokens=True)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"column '{column}': {ids!r:.60} is not a list of token ids.") from error

    return render


def template_renderer(template: str, fields: Mapping[str, str]) -> Callable[[Mapping[str, Any]], str]:
    """Row to text: the template with each name replaced by its column (`fields`, else the column so called).

    A row without one of the required columns raises `MissingColumn`; one whose required columns are all empty
    gives an empty text (the pipeline counts it).
    """
    found = template_named(template)
    check_template(template, fields)
    if found.turns:
        return _turns_renderer(found, fields.get(found.turns[0], found.turns[0]))
    return _marks_renderer(found, {name: fields.get(name, name) for name in found.names})


def _turns_renderer(template: Template, column: str) -> Callable[[Mapping[str, Any]], str]:
    assert template.turns is not None
    _, role_key, content_key = template.turns

    def render(row: Mapping[str, Any]) -> str:
        try:
            turns = column_value(row, column)
        except KeyError:
            raise MissingColumn(column, row) from None
        if isinstance(turns, str):  # a list kept as JSON, as some sets ship it
            try:
                turns = json.loads(turns)
            except json.JSONDecodeError as error:
                raise DataError(f"column '{column}': neither a list of turns nor JSON of one.") from error
        if isinstance(turns, Mapping):  # Arrow's struct of lists
            turns = [
                {role_key: role, content_key: content}
                for role, content in zip(turns[role_key], turns[content_key], strict=True)
            ]
        kept = []
        for turn in turns or ():
            if not isinstance(turn, Mapping):
                raise DataError(f"column '{column}': {turn!r:.40} is not a turn with {role_key} and {content_key}.")
            if content_key not in turn or role_key not in turn:
                raise MissingColumn(f"{column}[].{content_key}", turn)
            if turn[role_key] in template.roles:
                kept.append(_as_text(turn[content_key]).strip())
        return "\n\n".join(text for text in kept if text)

    return render


def _marks_renderer(template: Template, columns: Mapping[str, str]) -> Callable[[Mapping[str, Any]], str]:
    def render(row: Mapping[str, Any]) -> str:
        values = {}
        for name, column in columns.items():
            try:
                values[name] = _as_text(column_value(row, column))
            except KeyError:
                if name not in template.optional:
                    raise MissingColumn(column, row) from None
                values[name] = ""
        if not any(value.strip() for name, value in values.items() if name not in template.optional):
            return ""
        text = template.text
        for name in template.optional:
            if not values[name].strip():
                text = "\n".join(line for line in text.split("\n") if "{" + name + "}" not in line)
        # Vanished lines leave runs of empty ones; squeeze them in the template, never in the row's own text.
        text = re.sub(r"\n{3,}", "\n\n", text).strip("\n")
        return _MARK.sub(lambda mark: _replacement(mark, values), text)

    return render


def _replacement(mark: re.Match[str], values: Mapping[str, str]) -> str:
    if mark.group(1) is not None:
        return values[mark.group(1)]
    return mark.group(0)[0]


def _marks(text: str, where: str) -> list[str | None]:
    names: list[str | None] = []
    for mark in _MARK.finditer(text):
        name = mark.group(1)
        if mark.group(0) in ("{", "}") or (name is not None and not _NAME.fullmatch(name)):
            raise ValueError(
                f"template {where}: {mark.group(0)!r} is not a mark; write {{column}}, and '{{{{' for a brace."
            )
        names.append(name)
    return names


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return json.dumps(value, ensure_ascii=False)
