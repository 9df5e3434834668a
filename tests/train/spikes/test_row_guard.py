"""One damaged row among many is found by the losses of rows, where the loss of the step tells nothing; clean rows are
left alone."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretrain_miniature import metrics, pretrain, write_run_config, write_text
from sft_miniature import write_tokenizer

from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe
from data_recipes.rows.reader import PackedRows
from train.config import SpikeSettings
from train.launch.world import World
from train.spikes.guard import SpikeGuard
from train.spikes.row_guard import RowOutliers

CONTEXT = 32


def build_with_noise(folder: Path, *, rows_per_step: int, steps: int, noisy_rows: list[int]) -> Path:
    """One phase of made-up text; the ids of some rows are overwritten with random ones, as a bad disk would."""
    tokenizer = write_tokenizer(folder / "tokenizer")
    tokens = steps * rows_per_step * CONTEXT
    text = write_text(folder / "text.jsonl", seed=0, documents=tokens // 80)
    subset = {"name": "text", "tokens": tokens, "source": {"path": str(text)}}
    recipe = Recipe.model_validate({"name": "phase-01", "phase": 1, "context_length": CONTEXT, "subsets": [subset]})
    build_phases([recipe], folder / "data", tokenizer=tokenizer, store=folder / "store", progress=False)
    path = folder / "data" / "phase-01" / "rows-00000.arrow"
    content = path.read_bytes()
    for row in noisy_rows:
        ids = PackedRows(folder / "data" / "phase-01").rows(row, row + 1).input_ids[0]
        assert content.count(ids.tobytes()) == 1
        noise = np.array(random.Random(row).choices(range(7, 263), k=CONTEXT), dtype=np.int32)
        content = content.replace(ids.tobytes(), noise.tobytes())
    path.write_bytes(content)
    return folder


def train_on(folder: Path, *, rows_per_step: int, **changes: Any) -> list[dict[str, Any]]:
    """The log of a run with the spike settings as they are by default."""
    settings: dict[str, Any] = {
        "data": {"dir": str(folder / "data"), "phases": [1]},
        "tokens_per_step": rows_per_step * CONTEXT,
        "heldout": None,
        "schedule": {"warmup_steps": 4},
        "stages": [],
        "export": {"phase_ends": False},
        "optimizer": {"lr": 1e-2},
    }
    config = write_run_config(folder, folder / "config.yaml", **(settings | changes))
    assert pretrain(config) == 0
    return metrics(folder / "run")


def seen_by_the_loss(lines: list[dict[str, Any]]) -> list[int]:
    """Steps that the loss and the gradient norm alone would have called spikes, with the default settings."""
    guard = SpikeGuard(SpikeSettings(policies=["steps"]), None, World(torch.device("cpu"), 0, 1))
    return [
        line["step"]
        for line in lines
        if guard.check({key: torch.tensor(line[key]) for key in ("loss", "grad_norm")}).item()
    ]


def test_one_row_of_noise_among_14_is_found_where_the_loss_of_the_step_does_not_tell(tmp_path: Path) -> None:
    noisy = {41: 40 * 14 + 5, 44: 43 * 14 + 13}
    folder = build_with_noise(tmp_path, rows_per_step=14, steps=48, noisy_rows=list(noisy.values()))
    lines = train_on(folder, rows_per_step=14)
    assert {line["step"]: line["farthest_row"] for line in lines if line.get("spike")} == noisy
    assert seen_by_the_loss(lines) == []
    clean = [line["row_deviations"] for line in lines[16:] if line["step"] not in noisy]
    assert max(clean) < 6 < min(lines[step - 1]["row_deviations"] for step in noisy)


def test_one_row_of_noise_among_1008_is_found(tmp_path: Path) -> None:
    noisy = {20: 19 * 1008 + 777}
    folder = build_with_noise(tmp_path, rows_per_step=1008, steps=22, noisy_rows=list(noisy.values()))
    lines = train_on(folder, rows_per_step=1008, micro_batch_rows=504)
    assert {line["step"]: line["farthest_row"] for line in lines if line.get("spike")} == noisy
    assert seen_by_the_loss(lines) == []


def make_guard(domains: int, world: World | None = None) -> RowOutliers:
    model = torch.nn.Module()
    model.model = torch.nn.Identity()
    guard = RowOutliers(SpikeSettings(), model, world or World(torch.device("cpu"), 0, 1))
    guard._allocate(domains)
    return guard


def stands_out(guard: RowOutliers, losses: np.ndarray, domains: np.ndarray) -> bool:
    verdict, _, _ = guard.judge_rows(torch.tensor(losses), torch.tensor(domains))
    guard.remember(verdict)
    return bool(verdict)


@pytest.mark.parametrize(("tail", "allowed"), [(30, 0), (8, 6)])  # degrees of freedom; alarms in 600 steps
@pytest.mark.parametrize("rows", [14, 1008])
def test_the_long_tail_of_clean_rows_raises_few_alarms(rows: int, tail: int, allowed: int) -> None:
    """Losses of rows with longer tails than a normal distribution's: with 8 degrees of freedom some of a million lie at
    ten times the deviation. Two domains, one of them easy and narrow, the other hard and wide."""
    rng = np.random.default_rng(0)
    guard = make_guard(2)
    alarms = 0
    for _ in range(600):
        domains = rng.integers(0, 2, rows)
        losses = np.where(domains == 0, 1.0, 4.0) * np.exp(0.1 * rng.standard_t(tail, rows))
        alarms += stands_out(guard, losses, domains)
    assert alarms <= allowed


def test_a_row_is_judged_by_its_own_domain() -> None:
    rng = np.random.default_rng(1)
    guard = make_guard(2)
    found = []
    for step in range(60):
        domains = np.arange(14) % 2
        losses = np.where(domains == 0, 1.0, 4.0) + 0.1 * rng.standard_normal(14)
        if step in (30, 50):
            losses[6 if step == 30 else 7] = 3.0  # far above the first domain, ordinary beside the second
        if stands_out(guard, losses, domains):
            found.append(step)
    assert found == [30]


def test_the_state_goes_on_exactly() -> None:
    rng = np.random.default_rng(2)
    steps = [(rng.standard_normal(14) + 4, rng.integers(0, 3, 14)) for _ in range(40)]
    guard, moved = make_guard(3), make_guard(1)
    for index, (losses, domains) in enumerate(steps):
        stands_out(guard, losses, domains)
        if index == 20:
            moved.load_state_dict(json.loads(json.dumps(guard.state_dict())))
        if index > 20:
            stands_out(moved, losses, domains)
    assert moved.state_dict() == guard.state_dict()
