"""A planned phase as files, from which a task on any machine writes rows: its draws, and the units that they read.

What a plan was found from (sources, tokenizer, the phases before) is not needed for that, and planning once spares
every task the look at the documents of all units.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.errors import DataError
from data_recipes.files import read_checked, write_checked
from data_recipes.packing.draw import BestFitDraw, ConcatDraw, Draw
from data_recipes.packing.stream import LongFirst, Position, Spans
from data_recipes.packing.writer import PhasePlan
from data_recipes.tokens.store import TokenStore
from data_recipes.tokens.stored import StoredTokens
from data_recipes.tokens.units import UnitFolder, UnitRecord


class FilledStore(StoredTokens):
    """A store as it was when the phase was planned, to read from."""

    def __init__(self, root: Path, described: Mapping[str, Any]) -> None:
        self.root = root
        self.seed = described["seed"]
        self.records = {int(number): UnitRecord(**record) for number, record in described["records"].items()}
        self.ends = {}
        self._described = described

    @property
    def key(self) -> str:
        return self._described["key"]

    @property
    def fingerprint(self) -> str:
        return self._described["supply"]

    @property
    def unit_count(self) -> int | None:
        return self._described["unit_count"]

    @property
    def sequential(self) -> bool:
        return self._described["sequential"]

    @cached_property
    def units(self) -> UnitFolder:
        return UnitFolder(self.root / self.key, np.dtype(self._described["dtype"]))


def read_plan_file(path: Path) -> dict[str, Any]:
    """The content of a file of the plan; `DataError` where it is missing or damaged."""
    content = read_checked(path)
    if content is None:
        raise DataError(f"{path}: missing or damaged. Give the same command again.")
    return content


def write_store(folder: Path, store: TokenStore) -> None:
    """Keep what a task needs to read from a store."""
    described = {
        "key": store.key,
        "supply": store.fingerprint,
        "unit_count": store.unit_count,
        "sequential": store.sequential,
        "seed": store.seed,
        "dtype": store.dtype.str,
        "records": {str(number): asdict(record) for number, record in store.records.items()},
    }
    write_checked(folder / f"{store.key}.json", described)


def plan_as_json(plan: PhasePlan) -> dict[str, Any]:
    """A phase's plan; its stores by their keys."""
    return {
        "context_length": plan.context_length,
        "stores": [store.key for store in plan.stores],
        "pad_id": plan.pad_id,
        "shard_rows": plan.shard_rows,
        "draws": [_draw_as_json(draw) for draw in plan.draws],
    }


def plan_from_json(content: Mapping[str, Any], *, stores: Path, root: Path) -> PhasePlan:
    """The plan again: `stores` is the folder of `write_store`, `root` that of the token stores."""
    found = {key: FilledStore(root, read_plan_file(stores / f"{key}.json")) for key in content["stores"]}
    draws = [_draw_from_json(draw, found[draw["store"]]) for draw in content["draws"]]
    return PhasePlan(draws, content["context_length"], list(found.values()), content["pad_id"], content["shard_rows"])


def _draw_as_json(draw: Draw) -> dict[str, Any]:
    shared = {
        "store": draw.store.key,
        "position": asdict(draw.position),
        "after": asdict(draw.after),
        **{name: getattr(draw, name) for name in ("rows", "context_length", "seed", "tokens")},
    }
    if isinstance(draw, ConcatDraw):
        return {**shared, "spans": [draw.spans.start.tolist(), draw.spans.stop.tolist()]}
    assert isinstance(draw, BestFitDraw)
    windows = [
        [asdict(position), tokens, None if first is None else asdict(first)] for position, tokens, first in draw.windows
    ]
    return {**shared, "windows": windows, "pieces": draw.pieces}


def _draw_from_json(content: Mapping[str, Any], store: StoredTokens) -> Draw:
    shared: dict[str, Any] = {
        **{name: content[name] for name in ("rows", "context_length", "seed", "tokens")},
        "store": store,
        "position": Position(**content["position"]),
        "after": Position(**content["after"]),
    }
    if "spans" in content:
        start, stop = (np.array(column, dtype=np.int64) for column in content["spans"])
        return ConcatDraw(**shared, spans=Spans(start, stop))
    windows = tuple(
        (Position(**position), tokens, None if first is None else LongFirst(**first))
        for position, tokens, first in content["windows"]
    )
    return BestFitDraw(**shared, windows=windows, pieces=content["pieces"])
