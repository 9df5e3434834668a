"""Where a subset's text comes from: local files or a Hub dataset, which column or template, which rows.

The schema, and the published entries in `sources/*.yaml`; reading them is the pipeline's.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from data_recipes.errors import DataError, nearest
from data_recipes.recipes.templates import (
    check_template,
    column_renderer,
    column_value,
    decoding_renderer,
    template_renderer,
)
from data_recipes.recipes.yaml_schema import read_yaml, validate

Access = Literal["open", "gated", "ids-only", "script-based", "off-hub", "not-public"]
Language = Literal["en", "zh", "code", "multi"]
Readable = Literal["yes", "after scoring", "no"]
SOURCES_FOLDER = Path(__file__).parents[1] / "sources"
AUTHORS_RELEASE = "yulan-team/YuLan-Mini-Text-Datasets"
Scalar = str | int | float | bool


def typed_path(typed: str, folder: Path | None) -> Path:
    """A path that a user has typed: `~` is the home folder, a relative one counts from `folder`."""
    return (folder or Path()) / Path(typed).expanduser()


class Filter(BaseModel):
    """A condition on one column; a row is kept when every filter of its source keeps it.

    `min` and `max` are inclusive bounds; `equals` and `one_of` compare exactly; `contains` looks for a substring.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = Field(min_length=1)
    min: float | None = None
    max: float | None = None
    equals: Scalar | None = None
    one_of: tuple[Scalar, ...] | None = None
    contains: str | None = None

    @model_validator(mode="after")
    def _has_a_condition(self) -> "Filter":
        if all(value is None for value in (self.min, self.max, self.equals, self.one_of, self.contains)):
            raise ValueError(f"filter on '{self.field}' has no condition; give min, max, equals, one_of or contains.")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"filter on '{self.field}': min {self.min} is above max {self.max}.")
        return self

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether the row passes; a missing or null column does not. `DataError` when a bound meets a non-number."""
        try:
            value = column_value(row, self.field)
        except KeyError:
            return False
        if value is None:
            return False
        if self.min is not None or self.max is not None:
            try:
                number = float(value)
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"filter on column '{self.field}': {value!r:.60} is not a number, min/max need one."
                ) from error
            # Written so that NaN is dropped.
            if not ((self.min is None or number >= self.min) and (self.max is None or number <= self.max)):
                return False
        if self.equals is not None and value != self.equals:
            return False
        if self.one_of is not None and value not in self.one_of:
            return False
        return self.contains is None or self.contains in str(value)


class Source(BaseModel):
    """One place to read documents from: `path`, `hub`, or (published sources only) `url` or nothing public.

    `text` names the column that holds the text (default: `text`; for plain text files the whole file is the
    text). `template` (a name of `templates.yaml`, or the text of one with `{column}` marks) makes the text of
    several columns instead; `fields` maps the template's names to the columns of this source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = None
    glob: str | None = None
    hub: str | None = None
    config: str | None = None
    split: str | None = None
    data_files: tuple[str, ...] = ()
    revision: str | None = None
    url: str | None = None
    text: str | None = None
    # The tokenizer (Hub id or folder) that turns the column's token ids back into text.
    decode_with: str | None = None
    template: str | None = None
    fields: dict[str, str] = Field(default_factory=dict)
    filters: tuple[Filter, ...] = ()
    language: Language | None = None
    licence: str | None = None
    access: Access = "open"
    # Hub id of the classifier that gave the scores a filter or file name refers to.
    scorer: str | None = None
    # The authors' own processed copy of the subset: a folder of AUTHORS_RELEASE.
    authors_copy: str | None = None
    # False: config, split, columns or filter were not seen on the dataset's own card or in code that reads it.
    verified: bool | None = None
    note: str | None = None

    _folder: Path | None = PrivateAttr(default=None)

    @field_validator("data_files", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("glob", "data_files")
    @classmethod
    def _patterns_stay_inside(cls, value: Any) -> Any:
        for pattern in (value,) if isinstance(value, str) else value or ():
            if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
                raise ValueError(f"'{pattern}' leaves its folder; give that folder as path, and a pattern below it.")
        return value

    @field_validator("hub")
    @classmethod
    def _is_a_hub_id(cls, value: str | None) -> str | None:
        if value is not None:
            parts = value.split("/")
            if len(parts) > 2 or not all(parts) or any(character in value for character in " :?#\\") or ".." in value:
                raise ValueError(f"'{value}' is not a Hub dataset id; expected the form owner/name.")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> "Source":
        if self.path is not None and self.hub is not None:
            raise ValueError("both path and hub are given; give one.")
        if self.path is None and self.hub is None and self.access not in ("off-hub", "not-public"):
            raise ValueError("no place to read from; give path (local files) or hub (a dataset id).")
        if self.path is not None:
            for key in ("config", "revision"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} belongs to a hub source, but path is given; remove it.")
        elif self.glob is not None:
            raise ValueError("glob belongs to a path source; for a hub source give data_files.")
        if self.template is not None and self.text is not None:
            raise ValueError("both text and template are given; give the column or the template.")
        if self.decode_with is not None and (self.text is None or self.template is not None):
            raise ValueError("decode_with needs text: the column with token ids; and no template.")
        if self.fields and self.template is None:
            raise ValueError("fields maps a template's names to columns, but there is no template.")
        if self.template is not None:
            check_template(self.template, self.fields)
        return self

    @property
    def text_column(self) -> str:
        """The column that holds the text where the source has columns and no template."""
        return self.text or "text"

    @property
    def needed_columns(self) -> set[str] | None:
        """The columns that a reader must give of each row; None for all, as a template may name any."""
        if self.template is not None:
            return None
        return {self.text_column, *(condition.field for condition in self.filters)}

    @property
    def is_one_column(self) -> bool:
        """Whether each row's text is what one column holds."""
        return self.template is None and self.decode_with is None

    @property
    def needs_rows(self) -> bool:
        """Whether files that are a document each cannot be meant."""
        return self.text is not None or self.template is not None or bool(self.filters)

    @property
    def location(self) -> Path:
        """The local file or folder, absolute: anywhere on this machine, since the user has typed it. `~` is the home
        folder; relative paths count from the recipe file's folder."""
        if self.path is None:
            raise DataError(f"{self.label}: not a local source.")
        path = typed_path(self.path, self._folder)
        # A link keeps its own name, as the suffix gives the format: the Hub's cache is links to files without a suffix.
        return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name

    @property
    def public_label(self) -> str:
        """The label for published rows: without the folders of this machine that a path leads through."""
        if self.path is None or self._is_beside:
            return self.label
        name = self.location.name
        return f"{name}/{self.glob}" if self.glob else name

    @property
    def _is_beside(self) -> bool:
        path = PurePosixPath(str(self.path))
        return not path.is_absolute() and ".." not in path.parts and not str(path).startswith("~")

    @property
    def label(self) -> str:
        """How manifests, tables and messages call it: path or id, config, and what narrows it."""
        if self.path is not None:
            return f"{self.path}/{self.glob}" if self.glob else self.path
        if self.hub is None:
            return self.url or "not public"
        narrowed = [part for part in (self.config, *self.data_files[:1]) if part]
        if len(self.data_files) > 1:
            narrowed.append(f"{len(self.data_files) - 1} more")
        return f"{self.hub} ({', '.join(narrowed)})" if narrowed else self.hub

    @property
    def readable(self) -> Readable:
        """Whether a build can read the entry as it stands, as far as the entry itself shows.

        `after scoring`: a filter needs scores that the published rows do not carry.
        """
        if self.path is not None:
            return "yes"
        if self.access in ("off-hub", "not-public", "ids-only"):
            return "no"
        if self.access == "script-based" and not self.data_files:
            return "no"
        return "after scoring" if self.scorer is not None and self.filters else "yes"

    def renderer(self) -> Callable[[Mapping[str, Any]], str]:
        """A function from a row to its text; it raises `templates.MissingColumn` when a column is not there."""
        if self.decode_with is not None:
            beside = typed_path(self.decode_with, self._folder)
            return decoding_renderer(self.text_column, beside if beside.exists() else self.decode_with)
        if self.template is None:
            return column_renderer(self.text_column)
        return template_renderer(self.template, self.fields)

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether the row passes every filter."""
        return all(condition.keeps(row) for condition in self.filters)

    def beside(self, folder: Path) -> Self:
        """The same source with its relative paths counted from `folder`, where the recipe file is."""
        bound = self.model_copy()
        bound._folder = folder.resolve()
        return bound


@cache
def load_sources() -> dict[str, Source]:
    """Every published source by name, in the order of the files.

    A file holds groups; what a group's entries share is written once under `shared`.
    """
    sources: dict[str, Source] = {}
    for path in sorted(SOURCES_FOLDER.glob("*.yaml")):
        for group in read_yaml(path)["groups"]:
            for name, entry in group["entries"].items():
                where = f"sources/{path.name}: {name}"
                if name in sources:
                    raise DataError(f"{where}: a source of this name is defined already.")
                sources[name] = validate(Source, {**group.get("shared", {}), **(entry or {})}, where=where)
    return sources


def resolve_source(source: str | Source, *, where: str) -> Source:
    """What a subset's `source:` means: an entry of its own, or the published one that it names."""
    if isinstance(source, Source):
        return source
    sources = load_sources()
    if source not in sources:
        raise DataError(
            f"{where}: no published source '{source}'.{nearest(source, sources)} "
            "For your own data give an entry, such as {path: folder, glob: '**/*.txt'}."
        )
    return sources[source]
