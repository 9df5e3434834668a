"""Does the whole curriculum plan, at its full size, on one machine? All 28 mixes, 1.12T tokens, over made supplies.

    python benchmarks/whole_run.py [--scale 1] [--sequential] [--out benchmarks/results/whole_run.json]

The supplies are counts and document lengths, not text: sources as large as `data plan` expects them (made up where
nobody says: some hold less than is drawn, so that they are gone through several times), in units of 8 M tokens. What
plans is the build's own code: quotas, look-ahead, filling of stores round by round, draws by the ledger, the order of
the rows, the counts for the manifests. Prints seconds of each part, the peak of the memory, and what was planned.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.machine import peak_memory

UNIT_TOKENS = 8 * 2**20
# How much larger than what is drawn a source is whose size nobody tells, in turn: several epochs, about one, a part.
SIZES = (0.4, 0.9, 1.3, 4.0, 20.0)
LENGTHS = 4  # so many different units of each domain: their documents cost memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--sequential", action="store_true", help="sources as of the Hub, units read in order")
    parser.add_argument("--packing", default="concat")
    parser.add_argument("--order", type=int, default=28, help="of so many mixes the order of the rows, too")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    figures = whole_run(arguments)
    print(json.dumps(figures, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


def made_supply_class() -> type:
    from data_recipes.forecast.sights import reading_key
    from data_recipes.reading.supply import Supply

    class MadeSupply(Supply):
        """A source of which there are only counts."""

        def __init__(self, source: Any, tokens: int, per_document: float, sequential: bool) -> None:
            self.source = source
            self.fingerprint = reading_key(source)
            self.file_names = self.file_ids = [source.label]
            self.notes = []
            self.tokens = tokens
            self.per_document = per_document
            self.sequential = sequential
            self.streams = 8 if sequential else 1
            self.made: set[int] = set()

        @property
        def units(self) -> int:
            # Of a source read in order there is one of each stream at the end, with or without text.
            return -(-self.tokens // (UNIT_TOKENS * self.streams)) * self.streams

        @property
        def unit_count(self) -> int | None:
            if not self.sequential or len(self.made) == self.units:
                return self.units
            return None

        def unit_identity(self) -> object:
            return [UNIT_TOKENS, self.tokens]

    return MadeSupply


class MadeUnits:
    """The units of a made source: a record as large as a real one, and the documents of one of a few made units."""

    def __init__(self, supply: Any) -> None:
        self.supply = supply

    def making(self, number: int) -> Any:
        self.supply.made.add(number)
        return nullcontext()

    def read(self, number: int) -> Any:
        if number not in self.supply.made:
            return None
        from data_recipes.tokens.units import UnitRecord

        tokens = self.tokens_of(number)
        documents = self.documents(number, None).shape[1]
        names = (f"unit-{number:05d}.tokens", f"unit-{number:05d}.documents.npy")
        files = {name: {"xxh3_128": f"{number:032x}", "bytes": 4 * tokens} for name in names}
        place = {"shard": number, "row": number, "state": None, "ended": False} if self.supply.sequential else None
        return UnitRecord(tokens, documents, 4 * tokens, {"empty": 1}, place, [], files)

    def tokens_of(self, number: int) -> int:
        return max(0, min(UNIT_TOKENS, self.supply.tokens - number * UNIT_TOKENS))

    def documents(self, number: int, record: Any) -> np.ndarray:
        ends = made_ends(self.supply.per_document, number % LENGTHS)
        tokens = self.tokens_of(number)
        if tokens < UNIT_TOKENS:
            ends = np.append(ends[ends < tokens], tokens)[: tokens and None]
        return ends[None, :]


ENDS: dict[tuple[float, int], np.ndarray] = {}


def made_ends(per_document: float, number: int) -> np.ndarray:
    """Where documents of log-normal lengths with this mean end in a unit (int64)."""
    if (per_document, number) not in ENDS:
        generator = np.random.default_rng([round(per_document), number])
        count = round(2 * UNIT_TOKENS / per_document) + 16
        lengths = generator.lognormal(np.log(per_document) - 0.6, 1.1, count).astype(np.int64) + 2
        ends = np.cumsum(lengths)
        ENDS[per_document, number] = np.append(ends[ends < UNIT_TOKENS], UNIT_TOKENS)
    return ENDS[per_document, number]


@contextmanager
def made_sources(request: Any, sequential: bool) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The build's planning opens made supplies instead of files."""
    from data_recipes.forecast.forecast import forecast
    from data_recipes.forecast.sights import reading_key
    from data_recipes.packing import plan
    from data_recipes.tokens.store import TokenStore
    from data_recipes.tokens.tokenizer import LoadedTokenizer

    expected = {reading_key(one.expected.source): one for one in forecast(request).sources}
    made = made_supply_class()
    supplies: dict[str, Any] = {}

    class MadeStore(TokenStore):
        @cached_property
        def units(self) -> Any:
            return MadeUnits(self.supply)

    def open_made(source: Any, **_: Any) -> Any:
        key = reading_key(source)
        if key not in supplies:
            one = expected[key]
            size = one.size or round(SIZES[len(supplies) % len(SIZES)] * one.drawn)
            per_document = one.drawn / max(1, one.documents)
            supplies[key] = made(source, max(size, 3 * 10**4), per_document, sequential)
        return supplies[key]

    request.__dict__["loaded_tokenizer"] = LoadedTokenizer(None, "made", "made", 99_000, 2, "</s>", 1, 102)  # type: ignore[arg-type]
    before = plan.open_supply, plan.TokenStore, plan.choose_encoder
    plan.open_supply, plan.TokenStore = open_made, MadeStore  # type: ignore[assignment, misc]
    plan.choose_encoder = lambda *_, **__: (None, None)  # type: ignore[assignment, return-value]
    try:
        yield expected, supplies
    finally:
        plan.open_supply, plan.TokenStore, plan.choose_encoder = before  # type: ignore[misc]


def whole_run(arguments: argparse.Namespace) -> dict[str, Any]:
    from data_recipes.forecast.forecast import forecast
    from data_recipes.forecast.sights import reading_key
    from data_recipes.packing.build import row_plan
    from data_recipes.packing.plan import plan_phases
    from data_recipes.packing.request import BuildRequest, load_recipes

    asked, _ = load_recipes(["1-27"], Path("nowhere"), scale=None if arguments.scale == 1 else arguments.scale)
    request = BuildRequest(asked, Path("nowhere"), packing=arguments.packing, workers=2, progress=False)
    seconds: dict[str, float] = {}
    begun = time.process_time()
    with made_sources(request, arguments.sequential) as (expected, supplies):
        phases = plan_phases(request)
    seconds["plan"] = time.process_time() - begun
    found = []
    for number, phase in enumerate(phases):
        begun = time.process_time()
        plan = row_plan(phase, request)
        counts = None
        if number < arguments.order:
            counts = Counter(plan.order.tolist()) if plan.rows < 10**5 else np.bincount(plan.order)
            counts = [int(counts[place]) for place in range(len(phase.draws))]
        seconds["order"] = seconds.get("order", 0) + time.process_time() - begun
        begun = time.process_time()
        documents = sum(draw.documents() for draw in phase.draws)
        seconds["documents"] = seconds.get("documents", 0) + time.process_time() - begun
        found.append(
            {
                "recipe": phase.recipe.key,
                "rows": sum(draw.rows for draw in phase.draws),
                "tokens": sum(draw.tokens for draw in phase.draws),
                "documents": documents,
                "stretches": sum(len(draw.spans.start) for draw in phase.draws if hasattr(draw, "spans")),
                "order_holds_every_row": counts == [draw.rows for draw in phase.draws] if counts else None,
            }
        )
    stores = {reading_key(store.source): store for phase in phases for store in phase.stores}
    records = [record for store in stores.values() for record in store.records.values()]
    sights = {key: sight_of(expected[key], supply.tokens) for key, supply in supplies.items()}
    again = forecast(request, sights=sights)
    sources = []
    for one in again.sources:
        store = stores[reading_key(one.expected.source)]
        source = {
            "source": one.expected.source.label,
            "tokens": store.supply.tokens,
            "drawn": max(phase.consumed.get(store.key, 0) for phase in phases),
            "tokenised": sum(record.tokens for record in store.records.values()),
            "forecast_epochs": one.epochs,
            "forecast_tokenised": one.tokenised,
        }
        sources.append(source)
    return {
        "scale": arguments.scale,
        "sequential": arguments.sequential,
        "packing": arguments.packing,
        "tokens": sum(one["tokens"] for one in found),
        "units": len(records),
        "tokenised": sum(record.tokens for record in records),
        "store_bytes": sum(4 * record.tokens + 24 * record.documents for record in records),
        "forecast": {
            name: again.total(name) for name in ("drawn", "tokenised", "store_bytes", "row_bytes", "documents")
        },
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_bytes": peak_memory(),
        "phases": found,
        "sources": sources,
    }


def sight_of(one: Any, size: int) -> Any:
    """A forecast's sight of a made source: plain files with as many bytes as so many tokens have."""
    from data_recipes.forecast.sights import Sight

    size = round(size * one.text_bytes / one.tokenised) if one.tokenised else size
    return Sight("readable", files=1, bytes=size, endings={"plain": size}, local=True)


if __name__ == "__main__":
    main()
