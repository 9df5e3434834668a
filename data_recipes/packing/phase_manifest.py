"""The content of a built phase's manifest: its inputs by content, its quotas and how they were met, the ledger."""

from collections import Counter
from pathlib import Path
from typing import Any

from data_recipes.packing.overlap import overlaps
from data_recipes.packing.plan import PlannedPhase
from data_recipes.packing.request import BuildRequest
from data_recipes.packing.stream import total_tokens
from data_recipes.packing.writer import rows_per_shard
from data_recipes.tokens.store import TokenStore
from data_recipes.tokens.stored import StoredTokens
from data_recipes.tokens.tokenizer import LoadedTokenizer


def source_names(stores: list[TokenStore]) -> list[str]:
    """How a phase calls its sources: their label, but no folder of this machine; each different."""
    names = [store.source.public_label for store in stores]
    counts = Counter(names)
    return [
        name if counts[name] == 1 else f"{name} ({store.supply.fingerprint[:8]})"
        for name, store in zip(names, stores, strict=True)
    ]


def identity_of(phase: PlannedPhase, request: BuildRequest) -> dict[str, Any]:
    """What determines the rows: `inputs` (tokenizer and sources by content), `config` and `seed`."""
    used = [store.key for store in phase.stores]
    sources = zip(source_names(phase.stores), phase.stores, strict=True)
    return {
        "inputs": {
            "tokenizer": request.loaded_tokenizer.fingerprint,
            **{f"source {name}": store.supply.fingerprint for name, store in sources},
        },
        "config": {
            "name": phase.recipe.name,
            "context_length": phase.recipe.context_length,
            "packing": request.packing,
            "bos": request.bos,
            "bpe_dropout": request.dropout,
            "long_documents": phase.long,
            "quotas": {subset.name: subset.tokens for subset in phase.subsets},
            "ledger_in": {key: phase.ledger_in[key].as_json() for key in used if key in phase.ledger_in},
            "missing": list(phase.left_out),
            "rows_per_shard": rows_per_shard(phase.recipe.context_length),
        },
        "seed": request.base_seed,
    }


def details_of(phase: PlannedPhase, tokenizer: LoadedTokenizer) -> dict[str, Any]:
    """For readers: counts, names, tables of subsets and sources, ledger after the phase, locations."""
    recipe = phase.recipe
    location = tokenizer.location
    rows = sum(draw.rows for draw in phase.draws)
    tokens = rows * recipe.context_length
    return {
        "counts": {
            "rows": rows,
            "tokens": tokens,
            "padding": tokens - sum(draw.tokens for draw in phase.draws),
            "documents": sum(draw.documents() for draw in phase.draws),
            "shards": -(-rows // rows_per_shard(recipe.context_length)),
        },
        "name": recipe.name,
        "phase": recipe.phase,
        "variant": recipe.variant,
        "context_length": recipe.context_length,
        "tokenizer": {
            **tokenizer.describe(),
            "location": str(Path(location).resolve()) if Path(location).is_dir() else location,
        },
        "subsets": _subset_table(phase),
        "sources": _source_table(phase),
        # Of every source so far, not only this mix's: what comes after may draw from any of them.
        "ledger_out": {key: position.as_json() for key, position in sorted(phase.ledger_out.items())},
        "consumed": dict(sorted(phase.consumed.items())),
        "context_lengths": list(phase.context_lengths),
        "overlaps": overlaps(phase.subsets, phase.subset_stores, phase.draws),
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
    }


def _subset_table(phase: PlannedPhase) -> list[dict[str, Any]]:
    names = dict(zip((store.key for store in phase.stores), source_names(phase.stores), strict=True))
    so_far = {store.key: phase.consumed[store.key] for store in phase.stores}
    for draw in phase.draws:
        so_far[draw.store.key] -= draw.tokens
    table = []
    for subset, draw in zip(phase.subsets, phase.draws, strict=True):
        so_far[draw.store.key] += draw.tokens
        table.append(
            {
                "name": subset.name,
                "domain": subset.domain,
                "source": names[draw.store.key],
                "quota_tokens": subset.tokens,
                "rows": draw.rows,
                "tokens": draw.rows * draw.context_length,
                "documents": draw.documents(),
                "epochs": _epochs(phase, draw.store, so_far[draw.store.key]),
                "sft": subset.sft,
            }
        )
    return table


def _source_table(phase: PlannedPhase) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "fingerprint": store.supply.fingerprint,
            "revision": store.supply.revision,
            "licence": store.source.licence,
            "epochs": _epochs(phase, store, phase.consumed[store.key]),
            "drops": store.drops(phase.reach[store.key]),
            "notes": [*store.supply.notes, *store.notes(phase.reach[store.key])],
            "store": store.key,
            "entry": store.source.model_dump(mode="json", exclude_defaults=True),
            "location": store.supply.location,
        }
        for name, store in zip(source_names(phase.stores), phase.stores, strict=True)
    ]


def _epochs(phase: PlannedPhase, store: StoredTokens, consumed: int) -> float | None:
    """Epochs of a source so far, by tokens; None where the phase needs no knowledge of its size (below 1)."""
    total = total_tokens(store)
    known = store.complete and len(store.first_units(phase.reach[store.key])) == store.unit_count
    return round(consumed / total, 6) if known and total else None


def file_tables(phase: PlannedPhase) -> list[dict[str, Any]]:
    """The names behind the numbers in the rows: sources in order, each with its files in order."""
    return [
        {"name": name, "files": store.supply.file_names}
        for name, store in zip(source_names(phase.stores), phase.stores, strict=True)
    ]
