"""A store of thousands of units under a small limit of open files."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from data_recipes.packing import draw
from data_recipes.packing.plan import STRATEGIES
from data_recipes.packing.stream import Position
from data_recipes.packing.writer import PhasePlan, write_rows
from data_recipes.recipes.source import Source
from data_recipes.tokens.store import TokenStore
from data_recipes.tokens.tokenizer import LoadedTokenizer

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
draw.WINDOW_ROWS = 2**20  # one window: each batch of rows draws from all units
work, packing = Path(sys.argv[1]), sys.argv[2]
units, unit_tokens = 3_000, 16
supply = SimpleNamespace(source=Source(path="made"), fingerprint="made", unit_count=units, readable_units=units,
                         sequential=False,
                         unit_identity=lambda: "made")
tokenizer = LoadedTokenizer(None, "made", "made", 99_000, 2, "</s>", 1, 102)
store = TokenStore(supply, tokenizer, work, 0)
for number in range(units):
    with store.units.new(number) as unit:
        unit.close_documents(np.array([unit_tokens]), np.array([0]), np.array([number]))
        unit.append(np.full(unit_tokens, number + 3, dtype=store.dtype))
        store.records[number] = unit.finish(characters=0, drops={}, place=None, notes=[])
store = TokenStore(supply, tokenizer, work, 0)  # as a later run finds it: each file is hashed before it is used
rows = units * unit_tokens // 64
draws = [STRATEGIES[packing](store, Position(), rows, 64, seed=0, long=None)]
plan = PhasePlan(draws, 64, [store], pad_id=0, shard_rows=256)
(work / "rows").mkdir()
write_rows(plan, work / "rows", workers=4, progress=SimpleNamespace(update=lambda _: None))
ids = np.unique(plan.assemble(0, rows).input_ids)
assert set(ids) - {0} == set(range(3, units + 3)), len(ids)
"""


@pytest.mark.parametrize("packing", ["concat", pytest.param("best_fit", marks=pytest.mark.slow)])
def test_three_thousand_units_need_less_than_256_descriptors(tmp_path, packing):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path), packing], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
