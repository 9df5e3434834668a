"""The recipe: which subsets, how many tokens of each, from where. One schema for the published mixes and a user's.

    recipe = load_recipe("7")            # a published phase; also 26, "26-4k", or the path of a YAML file
    small = recipe.scaled(tokens=100_000, context_length=128)

Everything wrong with a file becomes one `DataError` that names the file, the key and the nearest valid one.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    field_validator,
    model_validator,
)

from data_recipes.errors import DataError, nearest
from data_recipes.manifest import MANIFEST_NAME
from data_recipes.recipes.phases import PUBLISHED_KEYS, phase_folder, phase_key
from data_recipes.recipes.quotas import proportional_shares
from data_recipes.recipes.source import Access, Filter, Source, resolve_source, typed_path
from data_recipes.recipes.yaml_schema import read_yaml, validate

__all__ = [
    "DOMAINS",
    "Access",
    "Domain",
    "Filter",
    "Recipe",
    "Source",
    "Subset",
    "UnselectedSubset",
    "load_recipe",
    "parse_recipe",
    "published_recipes",
]

Domain = Literal["web-en", "web-zh", "code", "math", "books-papers-encyclopedia", "instruction-synthetic"]
DOMAINS: tuple[str, ...] = get_args(Domain)
MAX_TOKENS = 10**16  # far above any corpus, and below what 64 bits count
PHASES_FOLDER = Path(__file__).parents[1] / "phases"


def _whole_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{value} is not a whole number.")
    return value


def _kind_of_source(value: Any) -> str:
    return "<name>" if isinstance(value, str) else "<entry>"


class Subset(BaseModel):
    """One line of a mix: `tokens` drawn from `source`, which is an entry or the name of a published one.

    `max_epochs` caps the epochs of the source, all phases together (None: no cap).
    `target_tokens` is what the authors requested; they took whole parts of 0.01B tokens, so a little more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200)
    tokens: int = Field(gt=0)
    source: Annotated[Annotated[Source, Tag("<entry>")] | Annotated[str, Tag("<name>")], Discriminator(_kind_of_source)]
    domain: Domain | None = None
    sft: bool = False
    max_epochs: int | None = Field(default=None, ge=1)
    target_tokens: int | None = Field(default=None, gt=0)

    @field_validator("tokens", "max_epochs", "target_tokens", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        return _whole_number(value)

    @property
    def source_name(self) -> str:
        """The name of the published entry, or the label of an inline source."""
        return self.source if isinstance(self.source, str) else self.source.label


class UnselectedSubset(BaseModel):
    """A subset that a published mix lists with a target, but of which no token was taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    target_tokens: int
    domain: Domain
    source: str


class Recipe(BaseModel):
    """A mix of subsets at one context length. `phase` and `variant` are a published mix's, or that which a recipe was
    made from; they name the built folder.

    `tokenizer`: a folder (relative to the recipe file) or Hub id; None: the one given to the build. `after`: the recipe
    whose draws come before this one's, by name, phase or path, or the folder of a built phase, wherever that is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(max_length=100)
    phase: int | None = None
    variant: str | None = None
    context_length: int = Field(ge=2)
    tokenizer: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**63)
    after: str | None = Field(default=None, min_length=1)
    subsets: tuple[Subset, ...]
    unselected: tuple[UnselectedSubset, ...] = ()

    _folder: Path | None = PrivateAttr(default=None)

    @field_validator("after", mode="before")
    @classmethod
    def _phase_by_number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("context_length", "seed", "phase", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        return _whole_number(value)

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, value: str) -> str:
        if not re.fullmatch(r"[^\W_][\w.\-]*", value):
            raise ValueError(
                f"'{value}' cannot be the name of the built folder; use letters, digits, '-', '_' and '.', "
                "beginning with a letter or digit."
            )
        return value

    @model_validator(mode="after")
    def _subsets_differ(self) -> "Recipe":
        if not self.subsets:
            raise ValueError("subsets: empty; a recipe needs at least one.")
        first: dict[str, int] = {}
        names = [subset.name for subset in self.subsets] + [subset.name for subset in self.unselected]
        for index, name in enumerate(names):
            if name in first:
                raise ValueError(
                    f"subsets[{index}]: the name '{name}' is already that of subsets[{first[name]}]; "
                    "every subset needs its own name."
                )
            first[name] = index
        return self

    @property
    def tokens(self) -> int:
        """Tokens of the whole mix."""
        return sum(subset.tokens for subset in self.subsets)

    @property
    def key(self) -> str:
        """Its name on the command line: `7`, `26-4k`, or a user's recipe's name."""
        if self.phase is None:
            return self.name
        return f"{self.phase}-{self.variant}" if self.variant else str(self.phase)

    @property
    def is_published(self) -> bool:
        """Whether this is one of the published mixes, not a file of the user's that was made from one."""
        return self.phase is not None and self._folder is None

    @property
    def folder(self) -> str:
        """The name of the built phase's folder: `phase-07`, `phase-26-4k`, or a user's recipe's name."""
        return phase_folder(self.key)

    @property
    def tokenizer_location(self) -> str | None:
        """The tokenizer as a path where there is such a folder beside the recipe, else as written (a Hub id)."""
        if self.tokenizer is None:
            return None
        local = typed_path(self.tokenizer, self._folder)
        return str(local) if local.exists() else self.tokenizer

    @property
    def built_predecessor(self) -> Path | None:
        """The folder of a built phase that `after` leads to, absolute, if it is one."""
        if self.after is None or "/" not in self.after:
            return None
        folder = typed_path(self.after, self._folder).resolve()
        return folder if (folder / MANIFEST_NAME).is_file() else None

    def load_predecessor(self) -> "Recipe | None":
        """The recipe that `after` names: a published phase, a recipe file, or NAME.yaml beside this one."""
        assert self.after is not None
        path = typed_path(self.after, self._folder)
        for file in (path, path.with_name(f"{path.name}.yaml")):
            if file.suffix in (".yaml", ".yml") and file.is_file():
                return load_recipe(file)
        return load_recipe(self.after) if self.after in PUBLISHED_KEYS else None

    def scaled(
        self,
        *,
        scale: float | None = None,
        tokens: int | None = None,
        context_length: int | None = None,
    ) -> "Recipe":
        """The same mix at `scale` times its size, or at exactly `tokens`; proportions kept by largest remainder.

        Every subset keeps at least one token and the total is exact. Targets and unselected subsets of a
        published mix are left out: they hold at full size only.
        """
        if scale is not None and tokens is not None:
            raise DataError(f"{self.name}: give scale or tokens, not both.")
        if scale is not None and not 0 < scale < float("inf"):
            raise DataError(f"{self.name}: scale {scale}; expected a number above 0, such as 1e-6.")
        if tokens is None:
            tokens = self.tokens if scale is None else round(scale * self.tokens)
        if tokens > MAX_TOKENS:
            raise DataError(f"{self.name}: {tokens:.3g} tokens; expected at most {MAX_TOKENS:.0e}.")
        if tokens < len(self.subsets):
            raise DataError(
                f"{self.name}: {tokens:,} tokens cannot be shared by {len(self.subsets)} subsets; "
                f"give at least {len(self.subsets):,} (scale {len(self.subsets) / self.tokens:.1e})."
            )
        shares = proportional_shares([subset.tokens for subset in self.subsets], tokens)
        subsets = tuple(
            subset.model_copy(update={"tokens": share, "target_tokens": None})
            for subset, share in zip(self.subsets, shares, strict=True)
        )
        update: dict[str, Any] = {"subsets": subsets, "unselected": ()}
        if context_length is not None:
            if context_length < 2:
                raise DataError(f"{self.name}: context length {context_length}; expected 2 or more.")
            update["context_length"] = context_length
        return self.model_copy(update=update)

    def with_sources(self, sources: Mapping[str, Source]) -> "Recipe":
        """The same mix, each subset reading from the source given for its domain."""
        subsets = []
        for subset in self.subsets:
            if subset.domain is None or subset.domain not in sources:
                raise DataError(
                    f"{self.name}: subset '{subset.name}' is of domain {subset.domain}, for which no source is given; "
                    f"given are {', '.join(sorted(sources))}."
                )
            subsets.append(subset.model_copy(update={"source": sources[subset.domain]}))
        return self.model_copy(update={"subsets": tuple(subsets)})


def parse_recipe(value: Any, *, where: str, folder: Path | None = None) -> Recipe:
    """A recipe from a parsed YAML value; with `folder`, relative paths count from it."""
    recipe = validate(Recipe, value, where=where)
    subsets = []
    for index, subset in enumerate(recipe.subsets):
        if isinstance(subset.source, str):
            resolve_source(subset.source, where=f"{where}: subsets[{index}].source")
            subsets.append(subset)
        elif folder is None:
            subsets.append(subset)
        else:
            subsets.append(subset.model_copy(update={"source": subset.source.beside(folder)}))
    recipe = recipe.model_copy(update={"subsets": tuple(subsets)})
    recipe._folder = folder.resolve() if folder else None
    return recipe


def load_recipe(path_or_phase: str | Path | int) -> Recipe:
    """A published phase (`7`, `"7"`, `"26-4k"`) or the recipe in a YAML file. Raises `DataError`."""
    text = str(path_or_phase).strip()
    if isinstance(path_or_phase, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        path = Path(text)
        if path.parent.resolve() == PHASES_FOLDER:
            return parse_recipe(read_yaml(path), where=str(path))
        return parse_recipe(read_yaml(path), where=str(path), folder=path.parent)
    key = phase_key(text)
    if key not in PUBLISHED_KEYS:
        raise DataError(_unknown_phase(text, key))
    return _published(key)


def _unknown_phase(text: str, key: str) -> str:
    number = re.fullmatch(r"-?\d+", key)
    near = str(min(max(int(key), 1), 27)) if number else ""
    hint = f" Did you mean {near}?" if near else (nearest(key, PUBLISHED_KEYS) if key.strip("-k")[:2].isdigit() else "")
    return (
        f"no phase '{text}': the published ones are 1 to 27 (26 is the 28K mix) and 26-4k.{hint} "
        "A recipe file is given by its path, ending in .yaml."
    )


@cache
def _published(key: str) -> Recipe:
    path = PHASES_FOLDER / f"{phase_folder(key)}.yaml"
    return parse_recipe(read_yaml(path), where=f"phases/{path.name}")


EXPORTED = """\
# To change this recipe: `source` is the name of a published source, or an entry of your own such as
#   source: {path: /data/code, glob: "**/*.py"}
# Built from this file it begins at the start of each source; `after: 26` would make it go on where phase 26 stops.
#
"""


def recipe_text(phase: str) -> str:
    """The file of a published phase, with its comments, as one to start a recipe of one's own from."""
    folder = load_recipe(phase_key(phase)).folder
    return EXPORTED + (PHASES_FOLDER / f"{folder}.yaml").read_text(encoding="utf-8")


def published_recipes() -> list[Recipe]:
    """The 28 published mixes in the order 1..25, 26-4k, 26, 27."""
    return [_published(key) for key in PUBLISHED_KEYS]
