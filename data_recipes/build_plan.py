"""What a build will do, settled before a row is written: sources, rows of each subset, positions, shortfalls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_recipes.draw import ConcatDraw, total_tokens
from data_recipes.errors import DataError
from data_recipes.permutation import seed_of
from data_recipes.quotas import row_quotas
from data_recipes.recipe import Recipe, Subset
from data_recipes.source import Source
from data_recipes.source_catalog import resolve_source
from data_recipes.source_files import SourceMissing, examine
from data_recipes.token_store import TokenStore, fill_stores
from data_recipes.tokenise import LoadedTokenizer


@dataclass(frozen=True)
class PlannedPhase:
    """A recipe with its draws. `ledger_in` and `ledger_out` map a store's key to its position in tokens."""

    recipe: Recipe
    subsets: tuple[Subset, ...]
    tokenizer: LoadedTokenizer
    seed: int
    draws: tuple[ConcatDraw, ...]
    stores: tuple[TokenStore, ...]
    ledger_in: Mapping[str, int]
    ledger_out: Mapping[str, int]
    missing: tuple[dict[str, Any], ...] = field(default=())

    @property
    def folder_name(self) -> str:
        return folder_name(self.recipe)

    def identity(self) -> dict[str, Any]:
        """Everything that the rows follow from."""
        return {"inputs": self.inputs(), "config": self.config(rows_per_shard=0), "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        """Content fingerprints of the tokenizer and of each source by label."""
        sources = {f"source {store.source.label}": store.source_fingerprint for store in self.stores}
        return {"tokenizer": self.tokenizer.fingerprint, **sources}

    def config(self, *, rows_per_shard: int) -> dict[str, Any]:
        return {
            "name": self.recipe.name,
            "context_length": self.recipe.context_length,
            "packing": "concat",
            "quotas": {subset.name: subset.tokens for subset in self.subsets},
            "ledger_in": dict(self.ledger_in),
            "missing": list(self.missing),
            "rows_per_shard": rows_per_shard,
        }

    def counts(self, *, shards: int) -> dict[str, int]:
        """Rows, tokens, documents, shards."""
        rows = sum(draw.rows for draw in self.draws)
        return {
            "rows": rows,
            "tokens": rows * self.recipe.context_length,
            "documents": sum(draw.documents() for draw in self.draws),
            "shards": shards,
        }

    def extra(self) -> dict[str, Any]:
        """The readable part of the manifest."""
        return {
            "name": self.recipe.name,
            "phase": self.recipe.phase,
            "variant": self.recipe.variant,
            "context_length": self.recipe.context_length,
            "tokenizer": self.tokenizer.describe(),
            "subsets": self.subset_table(),
            "sources": [
                {
                    "name": store.source.label,
                    "fingerprint": store.source_fingerprint,
                    "store": store.key,
                    "drops": store.drops(),
                    "position": self.ledger_out[store.key],
                    "epochs": epochs_of(store, self.ledger_out[store.key]),
                    "licence": store.source.licence,
                    "location": str(store.source.location),
                    "spec": store.source.model_dump(mode="json", exclude_defaults=True),
                }
                for store in self.stores
            ],
            "ledger_out": dict(self.ledger_out),
            "recipe": self.recipe.model_dump(mode="json", exclude_defaults=True),
            "store": str(self.stores[0].root.resolve()) if self.stores else None,
        }

    def subset_table(self) -> list[dict[str, Any]]:
        """For each subset what was asked and what it got."""
        return [
            {
                "name": subset.name,
                "domain": subset.domain,
                "source": draw.store.source.label,
                "quota_tokens": subset.tokens,
                "rows": draw.rows,
                "tokens": draw.rows * draw.context_length,
                "documents": draw.documents(),
                "position": draw.position,
                "epochs": epochs_of(draw.store, draw.stop),
                "sft": subset.sft,
            }
            for subset, draw in zip(self.subsets, self.draws, strict=True)
        ]

    def source_tables(self) -> list[dict[str, Any]]:
        """The names behind the numbers in the rows: sources in order, each with its files in order."""
        return [
            {"name": store.source.label, "store": store.key, "files": [file.name for file in store.files]}
            for store in self.stores
        ]


def folder_name(recipe: Recipe) -> str:
    """`phase-07`, `phase-26-4k`, or the name of a user's recipe."""
    if recipe.phase is None:
        return recipe.name
    return f"phase-{recipe.phase:02d}{f'-{recipe.variant}' if recipe.variant else ''}"


def plan_phases(
    recipes: Sequence[Recipe],
    *,
    tokenizer: LoadedTokenizer,
    store: Path,
    seed: int,
    workers: int,
    missing: str,
    before: Sequence[Recipe],
    progress: bool,
) -> list[PlannedPhase]:
    """Examine the sources, tokenise what is needed of them, and give every subset its rows and position."""
    chain = [*before, *recipes]
    names = [folder_name(recipe) for recipe in recipes]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"two recipes are called {', '.join(twice)}; each needs a name of its own.")
    stores: dict[str, TokenStore] = {}

    def store_of(source: Source) -> TokenStore:
        key = source.model_dump_json() + str(source._folder)
        if key not in stores:
            files = examine(source, workers=workers, memory=store / ".file-hashes.json")
            stores[key] = TokenStore(source, files, tokenizer, store, seed)
        return stores[key]

    resolved = []
    for recipe in chain:
        found: list[tuple[Subset, TokenStore]] = []
        for subset in recipe.subsets:
            try:
                found.append((subset, store_of(resolve_source(subset))))
            except SourceMissing as error:
                raise DataError(f"{recipe.name}: subset '{subset.name}': {error}") from error
        resolved.append(found)

    rows = [
        row_quotas(
            [subset.tokens for subset, _ in found], [subset.domain for subset, _ in found], recipe.context_length
        )
        for recipe, found in zip(chain, resolved, strict=True)
    ]
    ledgers = _ledgers(chain, resolved, rows)
    needs: dict[str, tuple[TokenStore, int]] = {}
    for _, after in ledgers:
        for key, position in after.items():
            one = next(one for one in stores.values() if one.key == key)
            needs[key] = (one, max(position, needs.get(key, (one, 0))[1]))
    fill_stores(needs, workers=workers, progress=progress)
    _check_epochs(chain, resolved, ledgers)

    planned = []
    for index in range(len(before), len(chain)):
        planned.append(
            _planned(chain[index], resolved[index], rows[index], ledgers[index], tokenizer=tokenizer, seed=seed)
        )
    return planned


def _planned(
    recipe: Recipe,
    found: list[tuple[Subset, TokenStore]],
    rows: list[int],
    ledger: tuple[dict[str, int], dict[str, int]],
    *,
    tokenizer: LoadedTokenizer,
    seed: int,
) -> PlannedPhase:
    used = {store.key: store for _, store in found}
    position = dict(ledger[0])
    draws = []
    for (subset, store), count in zip(found, rows, strict=True):
        draw = ConcatDraw(
            store, position.get(store.key, 0), count, recipe.context_length, seed_of(seed, recipe.key, subset.name)
        )
        draws.append(draw)
        position[store.key] = draw.stop
    return PlannedPhase(
        recipe=recipe,
        subsets=tuple(subset for subset, _ in found),
        tokenizer=tokenizer,
        seed=seed,
        draws=tuple(draws),
        stores=tuple(used.values()),
        ledger_in={key: ledger[0].get(key, 0) for key in used},
        ledger_out={key: position[key] for key in used},
    )


def _ledgers(
    chain: Sequence[Recipe], resolved: list[list[tuple[Subset, TokenStore]]], rows: list[list[int]]
) -> list[tuple[dict[str, int], dict[str, int]]]:
    """Positions before and after each recipe; a published phase goes on from the phase before it."""
    result: list[tuple[dict[str, int], dict[str, int]]] = []
    for index, recipe in enumerate(chain):
        previous = predecessor(chain, index)
        position = dict(result[previous][1]) if previous is not None else {}
        start = dict(position)
        for (_, store), count in zip(resolved[index], rows[index], strict=True):
            position[store.key] = position.get(store.key, 0) + count * recipe.context_length
        result.append((start, position))
    return result


def predecessor(chain: Sequence[Recipe], index: int) -> int | None:
    """The recipe that this one goes on from: the one before, but a variant (26-4k) is a branch that ends."""
    for earlier in range(index - 1, -1, -1):
        if chain[earlier].variant is None or chain[index].variant == chain[earlier].variant:
            return earlier
    return None


def epochs_of(store: TokenStore, position: int) -> float:
    """How often a source has been gone through at a position; below 1 as long as its size is not known."""
    total = total_tokens(store)
    if total == 0:
        return 0.0
    epochs = round(position / total, 6)
    return epochs if store.complete else min(1.0, epochs)


def _check_epochs(
    chain: Sequence[Recipe],
    resolved: list[list[tuple[Subset, TokenStore]]],
    ledgers: list[tuple[dict[str, int], dict[str, int]]],
) -> None:
    lines = []
    for recipe, found, (_, after) in zip(chain, resolved, ledgers, strict=True):
        for subset, store in found:
            total = total_tokens(store)
            cap = subset.max_epochs
            if cap is not None and store.complete and after[store.key] > cap * total:
                lines.append(
                    f"  {recipe.key:<8} {subset.name:<40} needs {after[store.key]:>15,}, "
                    f"there are {cap} x {total:,} tokens"
                )
    if lines:
        raise DataError(
            "not enough text for these subsets within max_epochs:\n"
            + "\n".join(lines)
            + "\nAsk for fewer tokens, give more text, or raise max_epochs."
        )
