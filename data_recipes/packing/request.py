"""What a user asks of a build, resolved: recipes by name, range or file, scaled, with their tokenizer and seed."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from data_recipes.errors import DataError
from data_recipes.manifest import MANIFEST_NAME, read_manifest
from data_recipes.packing.build import build_phases, in_order
from data_recipes.packing.ledger import is_built
from data_recipes.packing.missing import Missing
from data_recipes.packing.plan import Packing, PlannedMix, plan_mixes
from data_recipes.recipes.phases import PUBLISHED_KEYS, is_branch, phase_number
from data_recipes.recipes.recipe import Recipe, load_recipe
from data_recipes.recipes.source import Source
from data_recipes.tokens.tokenizer import load_tokenizer

PUBLISHED_TOKENIZER = "yulan-team/YuLan-Mini"
# The published long context is 7 times the short one (28,672 and 4,096).
PUBLISHED_CONTEXT = 4096


@dataclass(frozen=True)
class BuildRequest:
    """Arguments of `build_phases`; `before` are the phases that the first one goes on from."""

    recipes: tuple[Recipe, ...]
    before: tuple[Recipe, ...]
    out: Path
    tokenizer: str
    store: Path
    seed: int
    bos: bool
    dropout: float
    packing: Packing
    missing: Missing
    workers: int

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        *,
        out: Path,
        tokenizer: str | None,
        store: Path | None,
        corpus: Path | None,
        scale: float | None,
        tokens: int | None,
        context_length: int | None,
        packing: str,
        bos: bool,
        dropout: float,
        missing: str,
        alone: bool,
        seed: int | None,
        workers: int | None,
    ) -> "BuildRequest":
        """Read the recipes and settle everything that was not said."""
        if workers is not None and workers < 1:
            raise DataError(f"--workers {workers}; expected 1 or more.")
        keys = expand(names)
        asked = [load_recipe(key) for key in keys]
        if alone:
            asked = [recipe.model_copy(update={"after": None}) for recipe in asked]
            earlier: list[Recipe] = []
        else:
            asked, earlier = with_predecessors(asked, out)
            earlier = [*(load_recipe(key) for key in earlier_phases([*asked, *earlier])), *earlier]
        substitutes = corpus_sources(corpus) if corpus is not None else None

        def fitted(recipe: Recipe) -> Recipe:
            length = context_length
            if length is not None and recipe.phase is not None:
                length = length * recipe.context_length // PUBLISHED_CONTEXT
            if scale is not None or tokens is not None or length is not None:
                recipe = recipe.scaled(scale=scale, tokens=tokens, context_length=length)
            return recipe.with_sources(substitutes) if substitutes is not None else recipe

        seeds = {recipe.seed for recipe in asked}
        if seed is None and len(seeds) > 1:
            raise DataError(
                f"the recipes have different seeds ({sorted(seeds)}); build them one by one or give --seed."
            )
        return cls(
            recipes=tuple(fitted(recipe) for recipe in asked),
            before=tuple(fitted(recipe) for recipe in earlier),
            out=out,
            tokenizer=tokenizer or _tokenizer_of(asked),
            store=store or out / "store",
            seed=seeds.pop() if seed is None else seed,
            bos=bos,
            dropout=dropout,
            packing=cast(Packing, packing),
            missing=cast(Missing, missing),
            workers=workers or os.cpu_count() or 1,
        )

    def plan(self) -> list[PlannedMix]:
        """The rows of every subset, without tokenising or writing anything."""
        chain = in_order([*self.before, *self.recipes])
        planned = plan_mixes(
            chain,
            tokenizer=load_tokenizer(self.tokenizer),
            store=self.store,
            seed=self.seed,
            bos=self.bos,
            dropout=self.dropout,
            workers=self.workers,
            missing=self.missing,
            progress=True,
            out=self.out,
        )
        wanted = {recipe.key for recipe in self.recipes}
        return [item for item in planned if item.recipe.key in wanted]

    def run(self) -> list[Path]:
        """Build; the folders in the order asked."""
        return build_phases(
            self.recipes,
            self.out,
            tokenizer=self.tokenizer,
            store=self.store,
            seed=self.seed,
            workers=self.workers,
            missing=self.missing,
            packing=self.packing,
            bos=self.bos,
            dropout=self.dropout,
            before=self.before,
        )


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


def with_predecessors(asked: Sequence[Recipe], out: Path) -> tuple[list[Recipe], list[Recipe]]:
    """The recipes with the keys of those they come `after`, and such of these as are neither asked for nor built in
    `out`: they are drawn first without being built."""
    unbuilt: list[Recipe] = []

    def resolved(recipe: Recipe) -> Recipe:
        if recipe.after is None:
            return recipe
        other = recipe.load_predecessor()
        key = recipe.after if other is None else other.key
        if not any(one.key == key for one in (*asked, *unbuilt)) and not is_built(out, key):
            if other is None:
                raise DataError(
                    f"{recipe.name}: after '{key}': no such recipe is given to this command, built in {out}, or beside "
                    f"the recipe ({key}.yaml). Build it there first, give both, or give its path."
                )
            unbuilt.append(other)
            unbuilt[unbuilt.index(other)] = resolved(other)
        return recipe.model_copy(update={"after": key})

    return [resolved(recipe) for recipe in asked], unbuilt


def earlier_phases(recipes: Sequence[Recipe]) -> list[str]:
    """The published phases before the last one asked for that are not asked for themselves."""
    asked = {recipe.key for recipe in recipes if recipe.phase is not None}
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


def _tokenizer_of(recipes: Sequence[Recipe]) -> str:
    named = {recipe.tokenizer_location for recipe in recipes}
    if len(named) > 1:
        raise DataError("the recipes name different tokenizers; build them one by one or give --tokenizer.")
    return named.pop() or PUBLISHED_TOKENIZER
