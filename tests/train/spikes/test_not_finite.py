"""What was not finite first is found and recorded; rows are blamed only where the others are finite without them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_miniature import metrics, pretrain, weights, write_inputs, write_run_config

import train.pretrain
from train.config import PretrainConfig
from train.config_file import load_config
from train.curriculum.batches import StepReader
from train.curriculum.plan import StepPlan
from train.launch.world import World
from train.model_setup.build import build_model
from train.run.phases import read_curriculum
from train.spikes.not_finite import first_not_finite, not_finite_parameters

WORLD = World(torch.device("cpu"), 0, 1)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("not-finite"))


@pytest.fixture
def step(inputs: Path, tmp_path: Path) -> Iterator[tuple[Any, StepReader, StepPlan]]:
    """A model, a reader and the fourth step: rows 36 to 47 of phase 1."""
    config = load_config(PretrainConfig, write_run_config(inputs, tmp_path / "config.yaml"))
    curriculum = read_curriculum(config)
    model, _ = build_model(config, vocab_size=263, device=WORLD.device)
    reader = StepReader(curriculum, WORLD, vocab_size=263, by_lengths=False)
    yield model.train(), reader, curriculum.at(3)
    reader.close()


def break_where_row_passes(model: Any, reader: StepReader, plan: StepPlan, row: int, broken: Any) -> None:
    """The output of layer 1 goes through `broken` for one row, whatever rows it is computed with."""
    ids = reader.read_rows(plan.phase, row, row + 1).input_ids[0]
    places: list[torch.Tensor] = []

    def find(module: Any, args: Any, output: Any) -> None:
        places[:] = [torch.tensor([torch.equal(row, ids) for row in args[0]])]

    def spoil(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.where(places[0][:, None, None], broken(output), output)

    model.model.embed_tokens.register_forward_hook(find)
    model.model.layers[1].register_forward_hook(spoil)


def overflow(values: torch.Tensor) -> torch.Tensor:
    """Infinite going forward; the gradient is that of `values`, so that other rows are handed finite ones."""
    return values + (values * float("inf")).detach()


class BackwardOverflow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return torch.where(gradient == 0, 0.0, gradient * float("inf"))  # other rows are handed zeros


def test_a_damaged_weight_is_found_and_no_row_is_blamed_although_only_some_have_its_token(step: Any) -> None:
    model, reader, plan = step
    token = int(reader.read_rows(plan.phase, 40, 41).input_ids[0, 3])
    with torch.no_grad():
        model.model.embed_tokens.weight[token, 0] = float("nan")
    finding = first_not_finite(model, reader, plan, WORLD)
    assert finding == {"first": "weights", "where": ["model.embed_tokens.weight"], "rows": []}


@pytest.mark.parametrize(
    ("broken", "first", "where"),
    [
        (overflow, "activations", "model.layers.1"),
        (BackwardOverflow.apply, "gradients", "model.layers.1"),
    ],
)
def test_a_row_that_alone_breaks_the_step_is_blamed(step: Any, broken: Any, first: str, where: str) -> None:
    model, reader, plan = step
    break_where_row_passes(model, reader, plan, 41, broken)
    finding = first_not_finite(model, reader, plan, WORLD)
    assert (finding["first"], finding["rows"]) == (first, [41])
    assert finding["where"][0].startswith(where)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_where_every_row_breaks_none_is_blamed(step: Any) -> None:
    model, reader, plan = step
    model.model.layers[0].register_forward_hook(lambda module, args, output: output * float("nan"))
    finding = first_not_finite(model, reader, plan, WORLD)
    assert finding == {"first": "activations", "where": ["model.layers.0", "model.layers.1", "model.norm"], "rows": []}


def test_a_step_that_is_finite_when_done_again_is_said_to_be(step: Any) -> None:
    model, reader, plan = step
    assert first_not_finite(model, reader, plan, WORLD)["first"] == "nothing"
    assert not_finite_parameters(model, WORLD) == []


def test_a_weight_that_was_damaged_in_memory_costs_no_rows(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bit of the weights turns after step 7 of 18: the run goes back, reads the same rows, and ends as if not."""
    undisturbed = write_run_config(inputs, tmp_path / "undisturbed" / "config.yaml")
    assert pretrain(undisturbed) == 0
    update, damaged = train.pretrain.update, []

    def update_with_damage(run: Any, plan: StepPlan, *stop: Any) -> dict[str, Any]:
        if plan.step == 7 and not damaged:
            damaged.append(plan.step)
            with torch.no_grad():
                run.model.model.layers[1].mlp.down_proj.weight[5, 5] = float("inf")
        return update(run, plan, *stop)

    monkeypatch.setattr(train.pretrain, "update", update_with_damage)
    config = write_run_config(inputs, tmp_path / "damaged" / "config.yaml")
    capsys.readouterr()
    assert pretrain(config) == 0
    (rollback,) = json.loads((tmp_path / "damaged" / "run" / "spikes.json").read_text())["rollbacks"]
    assert (rollback["to_step"], rollback["skipped_steps"], rollback["worst_rows"]) == (6, [], [])
    found = {"first": "weights", "where": ["model.layers.1.mlp.down_proj.weight"], "rows": []}
    assert rollback["not_finite"] == [{"step": step, **found} for step in (8, 9, 10)]
    assert "not finite first: weights: model.layers.1.mlp.down_proj.weight; no single row" in capsys.readouterr().err
    assert metrics(tmp_path / "damaged" / "run") == metrics(tmp_path / "undisturbed" / "run")
    for phase in ("phase-01", "phase-26"):
        ours, theirs = weights(tmp_path / "damaged" / "run", phase), weights(tmp_path / "undisturbed" / "run", phase)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_row_that_breaks_every_time_is_named_and_only_its_step_is_left_out(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train.run.run

    shard = train.run.run.shard_model

    def shard_with_overflow(model: Any, *args: Any, **kwargs: Any) -> Any:
        config = load_config(PretrainConfig, tmp_path / "config.yaml")
        curriculum = read_curriculum(config)
        reader = StepReader(curriculum, WORLD, vocab_size=263, by_lengths=False)
        break_where_row_passes(model, reader, curriculum.at(3), 41, overflow)
        reader.close()
        return shard(model, *args, **kwargs)

    monkeypatch.setattr(train.run.run, "shard_model", shard_with_overflow)
    config = write_run_config(inputs, tmp_path / "config.yaml", spikes={"rollback_after": 1})
    assert pretrain(config) == 0
    (rollback,) = json.loads((tmp_path / "run" / "spikes.json").read_text())["rollbacks"]
    assert (rollback["to_step"], rollback["skipped_steps"]) == (0, [4])
    assert [row["row"] for row in rollback["worst_rows"]] == [41]
    assert all(document["file"] for document in rollback["worst_rows"][0]["documents"])
    (found,) = rollback["not_finite"]
    assert found == {"step": 4, "first": "activations", "where": ["model.layers.1", "model.norm"], "rows": [41]}
    assert [line["step"] for line in metrics(tmp_path / "run") if line.get("skipped")] == [4]


def test_a_checkpoint_with_damaged_weights_is_skipped(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A token that no row of the steps at hand has is damaged before the checkpoint of step 8 is written."""
    update = train.pretrain.update
    damaged = []

    def update_with_damage(run: Any, plan: StepPlan, *stop: Any) -> dict[str, Any]:
        record = update(run, plan, *stop)
        if plan.step == 7 and not damaged:
            damaged.append(plan.step)
            with torch.no_grad():
                run.model.model.embed_tokens.weight[262] = float("nan")
        return record

    monkeypatch.setattr(train.pretrain, "update", update_with_damage)
    config = write_run_config(inputs, tmp_path / "config.yaml", checkpoint={"every_steps": 4, "keep_last": 9})
    assert pretrain(config) == 0
    assert "the weights of step 8 are not finite (model.embed_tokens.weight)" in capsys.readouterr().err
    (rollback,) = json.loads((tmp_path / "run" / "spikes.json").read_text())["rollbacks"]
    assert (rollback["to_step"], rollback["skipped_steps"]) == (6, [])
