"""Token stores of random ids, any number of tokens in minutes: for what depends on their size alone."""

from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.reading.supply import Supply
from data_recipes.recipes.source import Source


class GeneratedSupply(Supply):
    """Documents that exist as tokens only: units of 8 M random ids, log-normal lengths."""

    unit_tokens = 8 * 2**20

    def __init__(self, name: str, tokens: int) -> None:
        self.source = Source(path=f"generated/{name}")
        self.fingerprint = name
        self.file_names = [name]
        self._units = -(-tokens // self.unit_tokens)

    @property
    def unit_count(self) -> int:
        return self._units

    def unit_identity(self) -> str:
        return self.fingerprint

    def write(self, store: Any, number: int) -> None:
        """A unit as the store would have written it."""
        generator = np.random.default_rng([number, int(self.fingerprint, 36)])
        lengths = np.clip(generator.lognormal(6.5, 1.1, 30_000).astype(np.int64), 2, 200_000)
        ends = np.cumsum(lengths)
        ends = np.append(ends[ends < self.unit_tokens], self.unit_tokens)
        ids = generator.integers(3, store.tokenizer.vocab_size, self.unit_tokens, dtype=store.dtype)
        ids[ends - 1] = store.tokenizer.eos_id
        with store.units.new(number) as unit:
            unit.close_documents(ends, np.zeros_like(ends), np.arange(len(ends)))
            unit.append(ids)
            store.records[number] = unit.finish(characters=0, drops={}, place=None, notes=[])


def generated_stores(work: Path, tokens: int, sources: int) -> list[Any]:
    """Stores that together hold somewhat more than `tokens`."""
    from data_recipes.tokens.store import TokenStore
    from data_recipes.tokens.tokenizer import LoadedTokenizer

    tokenizer = LoadedTokenizer(None, "generated", "generated", 99_000, 2, "</s>", 1, 102)
    stores = []
    for number in range(sources):
        supply = GeneratedSupply(f"source{number}", int(1.02 * tokens / sources) + 4096)
        store = TokenStore(supply, tokenizer, work / "generated", 0)
        for unit in range(supply.unit_count):
            supply.write(store, unit)
        stores.append(store)
    return stores


def plan_of(stores: list[Any], tokens: int, packing: str) -> Any:
    from data_recipes.packing.plan import STRATEGIES
    from data_recipes.packing.stream import Position
    from data_recipes.packing.writer import PhasePlan, rows_per_shard

    rows = tokens // 4096 // len(stores)
    draws = [
        STRATEGIES[packing](store, Position(), rows, 4096, seed=number, long=None)
        for number, store in enumerate(stores)
    ]
    return PhasePlan(draws, 4096, stores, pad_id=102, shard_rows=rows_per_shard(4096))
