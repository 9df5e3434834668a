"""A spike is left out at once; repeated ones are rolled back, their rows skipped for good and named by document."""

import json
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretrain_miniature import TOKENS_PER_STEP, metrics, pretrain, run_until, weights, write_run_config, write_text
from sft_miniature import write_tokenizer

import train.spikes
from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe
from data_recipes.registry import named_subclasses
from data_recipes.rows.reader import PackedRows
from train.config import SpikeSettings
from train.errors import TrainError
from train.launch.world import World
from train.spikes.guard import SpikeGuard, SpikePolicy

STEPS, CONTEXT, ROWS_PER_STEP = 40, 32, 12
SPIKED_STEPS = (33, 34, 36)  # counted from 1
SETTINGS: dict[str, Any] = {
    "data": {},
    "heldout": None,
    "schedule": {"warmup_steps": 4},
    "stages": [],
    "export": {"phase_ends": False},
    "optimizer": {"lr": 1e-2},
    "spikes": {"window": 8, "min_steps": 4, "rollback_after": 3, "within": 10},
}


def corrupt_row(folder: Path, row: int) -> None:
    """Overwrite a row's token ids in the Arrow file, as a bad disk would, with ids drawn at random."""
    ids = PackedRows(folder).rows(row, row + 1).input_ids[0]
    path = folder / "rows-00000.arrow"
    content = path.read_bytes()
    assert content.count(ids.tobytes()) == 1
    noise = np.array(random.Random(row).choices(range(7, 263), k=CONTEXT), dtype=np.int32)
    path.write_bytes(content.replace(ids.tobytes(), noise.tobytes()))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One phase of 40 steps, one row in each of three steps corrupted."""
    folder = tmp_path_factory.mktemp("spiky")
    tokenizer = write_tokenizer(folder / "tokenizer")
    text = write_text(folder / "text.jsonl", seed=0, documents=400)
    recipe = Recipe.model_validate(
        {
            "name": "phase-01",
            "phase": 1,
            "context_length": CONTEXT,
            "subsets": [{"name": "text", "tokens": STEPS * TOKENS_PER_STEP, "source": {"path": str(text)}}],
        }
    )
    build_phases([recipe], folder / "data", tokenizer=tokenizer, store=folder / "store", progress=False)
    for step in SPIKED_STEPS:
        corrupt_row(folder / "data" / "phase-01", planted_row(step))
    return folder


def planted_row(step: int) -> int:
    return (step - 1) * ROWS_PER_STEP + 5


def config_of(inputs: Path, folder: Path, **changes: Any) -> Path:
    data = {"dir": str(inputs / "data"), "phases": [1]}
    return write_run_config(inputs, folder / "config.yaml", **(SETTINGS | {"data": data} | changes))


@pytest.fixture(scope="module")
def rolled_back(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = config_of(inputs, tmp_path_factory.mktemp("rolled-back"))
    assert pretrain(config) == 0
    return config.parent / "run"


def test_repeated_spikes_are_rolled_back_and_their_rows_skipped(rolled_back: Path) -> None:
    (rollback,) = json.loads((rolled_back / "spikes.json").read_text())["rollbacks"]
    assert rollback["skipped_steps"] == list(SPIKED_STEPS)
    assert rollback["to_step"] == 32  # the last checkpoint before the first spike
    lines = metrics(rolled_back)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["step"] for line in lines if line.get("skipped")] == list(SPIKED_STEPS)
    assert not any(line.get("spike") for line in lines)
    assert json.loads((rolled_back / "manifest.json").read_text())["spikes"] == [rollback]


def test_the_corrupted_rows_are_named_with_their_documents(inputs: Path, rolled_back: Path) -> None:
    (rollback,) = json.loads((rolled_back / "spikes.json").read_text())["rollbacks"]
    worst = {row["step"]: row for row in rollback["worst_rows"]}
    rows = PackedRows(inputs / "data" / "phase-01")
    for step in SPIKED_STEPS:
        assert worst[step]["row"] == planted_row(step)
        expected = [piece["row"] for piece in rows.documents(planted_row(step))]
        assert [document["row"] for document in worst[step]["documents"]] == expected
        assert all(document["file"].endswith("text.jsonl") for document in worst[step]["documents"])


def test_a_single_spike_leaves_the_weights_alone(inputs: Path, tmp_path: Path) -> None:
    config = config_of(inputs, tmp_path, max_steps=33, export={"phase_ends": False}, checkpoint={"every_steps": 1})
    assert pretrain(config) == 0
    assert metrics(tmp_path / "run")[-1]["spike"] == 1.0
    from train.checkpoints.export import export_checkpoint

    for step in (32, 33):
        export_checkpoint(
            tmp_path / "run" / "checkpoints" / f"step-{step:08d}", tmp_path / "run" / "models" / str(step)
        )
    before, after = weights(tmp_path / "run", "32"), weights(tmp_path / "run", "33")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_killed_after_the_roll_back_equals_undisturbed(inputs: Path, rolled_back: Path, tmp_path: Path) -> None:
    config = config_of(inputs, tmp_path)
    assert run_until(config, tmp_path / "run", 37, signal.SIGKILL) == -signal.SIGKILL
    assert (tmp_path / "run" / "spikes.json").exists()
    assert pretrain(config) == 0
    assert metrics(tmp_path / "run") == metrics(rolled_back)


def test_spikes_that_no_roll_back_helps_stop_the_run_with_its_work_kept(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(inputs, tmp_path, spikes=SETTINGS["spikes"] | {"max_rollbacks": 0})
    assert pretrain(config) == 2
    assert "steps 33, 34, 36" in capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoints" / "step-00000036").is_dir()


def guard_of(**settings: Any) -> SpikeGuard:
    """With the policy that looks at loss and gradient norm alone."""
    return SpikeGuard(SpikeSettings(policies=["steps"], **settings), None, World(torch.device("cpu"), 0, 1))


def check(guard: SpikeGuard, loss: float, norm: float) -> bool:
    return bool(guard.check({"loss": torch.tensor(loss), "grad_norm": torch.tensor(norm)}))


def test_a_policy_in_a_module_beside_the_others_is_found_and_asked(tmp_path: Path) -> None:
    """What CONTRIBUTING says of adding one: a single file."""
    (tmp_path / "planted.py").write_text(
        "from train.spikes.guard import SpikePolicy\n\n\nclass Planted(SpikePolicy):\n    name = 'planted'\n\n"
        "    def judge(self, loss, grad_norm, record):\n        return loss > 2\n"
    )
    train.spikes.__path__.append(str(tmp_path))
    try:
        guard = SpikeGuard(SpikeSettings(policies=["planted"]), None, World(torch.device("cpu"), 0, 1))
        assert [check(guard, loss, 1.0) for loss in (1.0, 3.0)] == [False, True]
    finally:
        train.spikes.__path__.remove(str(tmp_path))
        named_subclasses(SpikePolicy)["planted"].__module__ = "elsewhere"
    with pytest.raises(TrainError, match=r"no policy 'planted'. Known: rows, steps"):
        SpikeGuard(SpikeSettings(policies=["planted"]), None, World(torch.device("cpu"), 0, 1))


def test_the_guard_finds_outliers_and_non_finite_values_only() -> None:
    guard = guard_of(window=16, min_steps=8)
    rng = np.random.default_rng(0)
    found = []
    for step in range(60):
        loss, norm = 3 + 0.05 * rng.standard_normal(), 1 + 0.1 * rng.standard_normal()
        loss = {30: 4.0, 40: float("nan")}.get(step, loss)
        norm = {50: float("inf"), 55: 2.5}.get(step, norm)
        if check(guard, loss, norm):
            found.append(step)
    assert found == [30, 40, 50, 55]


def test_a_rate_that_breaks_the_weights_ends_the_run_with_advice(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(inputs, tmp_path, optimizer={"lr": 1e6}, checkpoint={"every_steps": 1, "keep_last": 9})
    assert pretrain(config) == 2
    message = capsys.readouterr().err
    # The first update breaks them: what was saved behind it is no place to go back to.
    assert "the weights of step 1 give no finite loss either" in message
    assert "not finite first: activations: model.layers.0" in message
    assert "2 roll-backs to step 0 have not helped. Lower optimizer.lr" in message
    rollbacks = json.loads((tmp_path / "run" / "spikes.json").read_text())["rollbacks"]
    assert [rollback["to_step"] for rollback in rollbacks] == [0, 0]


def flags(guard: SpikeGuard, losses: np.ndarray, norms: np.ndarray) -> list[int]:
    """Indices of the steps that the guard calls spikes."""
    checked = [check(guard, loss, norm) for loss, norm in zip(losses, norms, strict=True)]
    return [index for index, spike in enumerate(checked) if spike]


def test_a_phase_is_judged_from_its_first_steps_on_and_by_its_own_level_only() -> None:
    guard = guard_of()
    rng = np.random.default_rng(2)
    for level in (3.0, 4.0, 2.5):  # a mixture that is harder by twenty deviations, then an easier one
        losses, norms = level + 0.05 * rng.standard_normal(36), level * np.exp(0.1 * rng.standard_normal(36))
        guard.policies["steps"].reset()
        losses[[20, 30]] += 1.0
        assert flags(guard, losses, norms) == [20, 30]


def test_fewer_steps_than_the_minimum_tell_nothing_but_what_is_not_finite() -> None:
    guard = guard_of(min_steps=16)
    losses, norms = np.full(16, 3.0), np.full(16, 1.0)
    losses[[5, 9]] = (9.0, float("nan"))
    norms[12] = float("inf")
    assert flags(guard, losses, norms) == [9, 12]


def test_the_long_tail_of_gradient_norms_is_no_spike() -> None:
    guard = guard_of()
    rng = np.random.default_rng(3)
    losses, norms = 3 + 0.3 * rng.standard_normal(3000), np.exp(0.5 * rng.standard_normal(3000))
    assert (norms > norms.mean() + 6 * norms.std()).any()
    norms[2500] = 100.0
    assert flags(guard, losses, norms) == [2500]


def test_the_guard_goes_on_exactly_from_its_state() -> None:
    rng = np.random.default_rng(1)
    values = [(3 + 0.1 * rng.standard_normal(), 1.0 + 0.1 * rng.standard_normal()) for _ in range(40)]
    guard = guard_of(window=16)
    moved = guard_of(window=16)
    for index, (loss, norm) in enumerate(values):
        check(guard, loss, norm)
        if index == 20:
            moved.load_state_dict(json.loads(json.dumps(guard.state_dict())))
        if index > 20:
            check(moved, loss, norm)
    assert moved.state_dict() == guard.state_dict()
