"""The request for a build: recipes by name, range or file, and how they are to be built."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from data_recipes.errors import DataError
from data_recipes.manifest import MANIFEST_NAME, read_manifest
from data_recipes.recipes.phases import PUBLISHED_KEYS, is_branch, phase_folder, phase_number
from data_recipes.recipes.recipe import Recipe, load_recipe
from data_recipes.recipes.source import Source
from data_recipes.tokens.tokenizer import LoadedTokenizer, load_tokenizer

PUBLISHED_TOKENIZER = "yulan-team/YuLan-Mini"
# The published long context is 7 times the short one (28,672 and 4,096).
PUBLISHED_CONTEXT = 4096


Packing = Literal["concat", "best_fit"]
Missing = Literal["fail", "skip", "substitute"]


class NoPredecessor(DataError):
    """What a recipe comes `after` is neither built nor a recipe that can be found."""


@dataclass(frozen=True)
class BuildRequest:
    """What to build, and how; everything that is left out has a default.

    `before`: recipes whose draws come first without being built, so that one phase alone gets the rows it has in the
    whole curriculum. `tokenizer`: a folder or Hub id (default: the recipes', else the published one). `store`: where
    the tokens of each source are kept, shared by all phases and builds (default `out`/store). `seed`: default the
    recipes'. `bos`: put BOS before every document (the original sets only EOS after it). `dropout`: rate of
    BPE-dropout (the report uses it; its rate is not public). `packing`: `concat` (documents cut at the context
    length, the original's) or `best_fit` (no document cut that fits). `missing`: what to do about a source that
    cannot be read (`fail`; `skip` its tokens; `substitute` other sources of its domain). `fetched`: where files of Hub
    datasets are fetched to and read from (default: they are streamed, unless `out`/fetched is there). `workers`:
    threads (default: one a core).
    """

    recipes: Sequence[Recipe]
    out: Path
    before: Sequence[Recipe] = ()
    tokenizer: str | Path | None = None
    store: Path | None = None
    seed: int | None = None
    bos: bool = False
    dropout: float = 0.0
    packing: Packing = "concat"
    missing: Missing = "fail"
    fetched: Path | None = None
    workers: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        for name, value, known in (("packing", self.packing, Packing), ("missing", self.missing, Missing)):
            if value not in get_args(known):
                raise DataError(f"{name} '{value}'; expected one of {', '.join(get_args(known))}.")
        if self.workers is not None and self.workers < 1:
            raise DataError(f"--workers {self.workers}; expected 1 or more.")
        if not 0 <= self.dropout < 1:
            raise DataError(f"BPE-dropout {self.dropout}; expected 0 (none) or more, and below 1.")
        names = [recipe.folder for recipe in self.recipes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"two recipes are called {', '.join(twice)}; each needs a name of its own.")
        if self.bos and self.loaded_tokenizer.bos_id is None:
            raise DataError(f"{self.loaded_tokenizer.location}: BOS is asked for, but the tokenizer has no bos_token.")

    def __getstate__(self) -> dict[str, Any]:
        """Without what is loaded when it is needed: a task loads it itself."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def loaded_tokenizer(self) -> LoadedTokenizer:
        if self.tokenizer is not None:
            return load_tokenizer(self.tokenizer)
        named = {recipe.tokenizer_location for recipe in self.recipes}
        if len(named) > 1:
            raise DataError("the recipes name different tokenizers; build them one by one or give --tokenizer.")
        return load_tokenizer(named.pop() or PUBLISHED_TOKENIZER)

    @cached_property
    def base_seed(self) -> int:
        seeds = {recipe.seed for recipe in self.recipes}
        if self.seed is None and len(seeds) > 1:
            raise DataError(
                f"the recipes have different seeds ({sorted(seeds)}); build them one by one or give --seed."
            )
        return seeds.pop() if self.seed is None else self.seed

    @property
    def store_folder(self) -> Path:
        return self.store or self.out / "store"

    @property
    def hash_memory(self) -> Path:
        """What all builds from the store remember of the hashes of source files."""
        return self.store_folder / ".file-hashes.json"

    @property
    def fetched_folder(self) -> Path | None:
        """Where Hub datasets are read from; None: they are streamed."""
        return self.fetched or (self.natural_fetched if self.natural_fetched.is_dir() else None)

    @property
    def natural_fetched(self) -> Path:
        """Where an executor's tasks fetch to unless another place is given."""
        return self.out / "fetched"

    @property
    def threads(self) -> int:
        return self.workers or os.cpu_count() or 1

    @property
    def chain(self) -> list[Recipe]:
        """All recipes whose draws follow each other: published phases in the order of training, then the others as they
        were given, each behind the one it comes `after`."""
        places = {key: place for place, key in enumerate(PUBLISHED_KEYS)}
        waiting = sorted([*self.before, *self.recipes], key=lambda recipe: places.get(recipe.key, len(places)))
        ordered: list[Recipe] = []
        while waiting:
            keys = {recipe.key for recipe in waiting}
            ready = next((recipe for recipe in waiting if recipe.after not in keys), None)
            if ready is None:
                raise DataError(f"{', '.join(sorted(keys))}: each comes after another of them; one must be the first.")
            ordered.append(ready)
            waiting.remove(ready)
        return ordered


def load_recipes(
    names: Sequence[str],
    out: Path,
    *,
    scale: float | None = None,
    tokens: int | None = None,
    context_length: int | None = None,
    corpus: Path | None = None,
    alone: bool = False,
) -> tuple[list[Recipe], list[Recipe]]:
    """(recipes, before): those asked for by file, phase or range, and those that come before them and are not built in
    `out`: earlier published phases, and what a recipe comes `after`.

    `scale` and `tokens` change their size; `context_length` is that of a 4K phase (a 28K phase gets 7 times as much);
    `corpus` replaces every published source by the corpus folder's text; `alone` leaves what comes before out.
    """
    asked = [load_recipe(key) for key in expand(names)]
    earlier: list[Recipe] = []
    if alone:
        asked = [recipe.model_copy(update={"after": None}) for recipe in asked]
    else:
        asked, earlier = with_predecessors(asked, out)
        earlier = [*(load_recipe(key) for key in earlier_phases([*asked, *earlier])), *earlier]
    substitutes = corpus_sources(corpus) if corpus is not None else None

    def fitted(recipe: Recipe) -> Recipe:
        length = context_length
        if length is not None and recipe.is_published:
            length = length * recipe.context_length // PUBLISHED_CONTEXT
        if scale is not None or tokens is not None or length is not None:
            recipe = recipe.scaled(scale=scale, tokens=tokens, context_length=length)
        return recipe.with_sources(substitutes) if substitutes is not None else recipe

    return [fitted(recipe) for recipe in asked], [fitted(recipe) for recipe in earlier]


def expand(names: Sequence[str]) -> list[str]:
    """Ranges of phases spelled out (`1-3`: 1, 2, 3; a range over 26 takes both variants); the rest as given."""
    keys: list[str] = []
    for name in names:
        bounds = re.fullmatch(r"(\d+)-(\d+)", name)
        if bounds is None:
            keys.append(name)
            continue
        first, last = int(bounds[1]), int(bounds[2])
        if not 1 <= first <= last <= 27:
            raise DataError(f"phases {name}: expected a range within 1-27.")
        keys += [key for key in PUBLISHED_KEYS if first <= phase_number(key) <= last]
    return list(dict.fromkeys(keys))


def is_built(out: Path, key: str) -> bool:
    """Whether a phase is in `out`, or where an absolute path leads."""
    return (out / phase_folder(key) / MANIFEST_NAME).is_file()


def with_predecessors(asked: Sequence[Recipe], out: Path) -> tuple[list[Recipe], list[Recipe]]:
    """The recipes with the keys of those they come `after`, and such of these as are neither asked for nor built in
    `out`: they are drawn first without being built."""
    unbuilt: list[Recipe] = []

    def resolved(recipe: Recipe) -> Recipe:
        if recipe.after is None:
            return recipe
        if recipe.built_predecessor is not None:
            return recipe.model_copy(update={"after": str(recipe.built_predecessor)})
        other = recipe.load_predecessor()
        key = recipe.after if other is None else other.key
        if not any(one.key == key for one in (*asked, *unbuilt)) and not is_built(out, key):
            if other is None:
                raise NoPredecessor(
                    f"{recipe.name}: after '{key}': no such recipe is given to this command, built in {out}, or beside "
                    f"the recipe ({key}.yaml). Build it there first, give both, or give its path."
                )
            unbuilt.append(other)
            unbuilt[unbuilt.index(other)] = resolved(other)
        return recipe.model_copy(update={"after": key})

    return [resolved(recipe) for recipe in asked], unbuilt


def earlier_phases(recipes: Sequence[Recipe]) -> list[str]:
    """The published phases before the last one asked for that are not asked for themselves."""
    asked = {recipe.key for recipe in recipes if recipe.is_published}
    if not asked:
        return []
    last = max(PUBLISHED_KEYS.index(key) for key in asked)
    return [key for key in PUBLISHED_KEYS[:last] if key not in asked and not is_branch(key)]


def corpus_sources(corpus: Path) -> dict[str, Source]:
    """A source for each domain from a corpus folder's `train/DOMAIN.jsonl`; `DataError` when it has none."""
    folder = corpus / "train"
    files = {path.stem: path for path in sorted(folder.glob("*.jsonl"))}
    if not files:
        raise DataError(f"{corpus}: no train/DOMAIN.jsonl in it; expected a corpus folder, such as the main job makes.")
    if (corpus / MANIFEST_NAME).is_file():
        for domain, other in read_manifest(corpus, kind="corpus").get("substitutes", {}).items():
            files.setdefault(domain, files[other])
    return {domain: Source(path=str(path), text="text") for domain, path in files.items()}
