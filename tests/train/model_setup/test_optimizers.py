"""The optimizers of `optimizer.kind`: AdamW compiled equals torch's, Muon equals torch's and shards change nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from forked_ranks import on_ranks
from pretrain_miniature import metrics, pretrain, same_weights, write_inputs, write_run_config
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from train.config import OptimizerSettings
from train.model_setup.optimizers import make_optimizer, zero_moments


def groups_of(matrix: torch.Tensor, bias: torch.Tensor) -> list[dict[str, Any]]:
    return [
        {"params": [nn.Parameter(matrix.clone())], "name": "matrices", "lr_factor": 0.5, "weight_decay": 0.1},
        {"params": [nn.Parameter(bias.clone())], "name": "biases", "lr_factor": 1.0, "weight_decay": 0.0},
    ]


def moved(optimizer: torch.optim.Optimizer, gradients: list[list[torch.Tensor]], skip: int) -> list[torch.Tensor]:
    """The parameters after an update with each of the gradients; `found_inf` is set for number `skip`."""
    groups = optimizer.param_groups
    for number, both in enumerate(gradients):
        for group, gradient in zip(groups, both, strict=True):
            group["params"][0].grad = gradient.clone()
            group["lr"] = 0.01 * (number + 1) * group.get("lr_factor", 1.0)
        optimizer.found_inf = torch.tensor(float(number == skip))
        optimizer.step()
    return [group["params"][0].detach() for group in groups]


@pytest.fixture
def drawn() -> tuple[torch.Tensor, torch.Tensor, list[list[torch.Tensor]]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return draw(12, 20), draw(12), [[draw(12, 20), draw(12)] for _ in range(5)]


@pytest.mark.slow
def test_compiled_adamw_is_torchs_fused_one_and_leaves_spikes_out(drawn: Any) -> None:
    matrix, bias, gradients = drawn
    gradients[2][0][0, 0] = float("nan")  # what was found not finite must reach nothing
    results = []
    for kind in ("adamw", "compiled-adamw"):
        optimizer = make_optimizer(groups_of(matrix, bias), OptimizerSettings(kind=kind))
        zero_moments(optimizer)
        results.append(moved(optimizer, gradients, skip=2))
        assert [optimizer.state[p]["step"].item() for g in optimizer.param_groups for p in g["params"]] == [4, 4]
    for fused, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, fused, atol=1e-6, rtol=1e-5)


def test_muon_is_torchs_for_matrices_and_adamw_for_the_rest(drawn: Any) -> None:
    matrix, bias, gradients = drawn
    gradients[2][0][0, 0] = float("inf")
    ours = make_optimizer(groups_of(matrix, bias), OptimizerSettings(kind="muon"))
    zero_moments(ours)
    found = moved(ours, gradients, skip=2)
    theirs = torch.optim.Muon([nn.Parameter(matrix.clone())], weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = make_optimizer(groups_of(matrix, bias)[1:], OptimizerSettings())
    zero_moments(adamw)
    for number, both in enumerate(gradients):
        if number == 2:
            continue
        for optimizer, gradient, factor in zip((theirs, adamw), both, (0.5, 1.0), strict=True):
            group = optimizer.param_groups[0]
            group["params"][0].grad, group["lr"] = gradient.clone(), 0.01 * (number + 1) * factor
            optimizer.step()
    torch.testing.assert_close(found[0], theirs.param_groups[0]["params"][0].detach(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[1], adamw.param_groups[0]["params"][0].detach())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def config_of(inputs: Path, folder: Path, kind: str) -> Path:
    return write_run_config(inputs, folder / "config.yaml", heldout=None, optimizer={"lr": 3e-3, "kind": kind})


@pytest.mark.parametrize("kind", [pytest.param("compiled-adamw", marks=pytest.mark.slow), "muon"])
def test_a_run_resumes_exactly_and_another_kind_is_refused(
    kind: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = (config_of(inputs, tmp_path / name, kind) for name in ("whole", "parts"))
    assert pretrain(whole) == 0
    assert pretrain(parts, "--set", "max_steps=7") == 0
    capsys.readouterr()
    assert pretrain(parts, "--set", "optimizer.kind=adamw") == 2
    assert f"config.optimizer.kind: was {kind!r}, is 'adamw'" in capsys.readouterr().err
    assert pretrain(parts) == 0
    assert same_weights(tmp_path / "whole" / "run", tmp_path / "parts" / "run")
    losses = [line["loss"] for line in metrics(tmp_path / "whole" / "run")]
    assert losses[-1] < losses[0] - 0.3


def moved_in_parts(matrix: torch.Tensor, scale: torch.Tensor, gradients: list[list[torch.Tensor]]) -> Any:
    """The same on one of four ranks that hold two copies of two parts, the parameters whole at the end."""
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2, 2))

    def cut(tensor: torch.Tensor) -> DTensor:
        return distribute_tensor(tensor, mesh, [Replicate(), Shard(0)])

    groups = groups_of(matrix, scale)
    for group in groups:
        group["params"] = [nn.Parameter(cut(group["params"][0].detach()))]
    optimizer = make_optimizer(groups, OptimizerSettings(kind="muon"))
    zero_moments(optimizer)
    found = moved(optimizer, [[cut(gradient) for gradient in both] for both in gradients], skip=1)
    steps = [optimizer.state[group["params"][0]]["step"].item() for group in optimizer.param_groups]
    return [tensor.full_tensor().tolist() for tensor in found], steps


def test_shards_of_a_matrix_are_moved_as_the_whole_is() -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = ((7, 20), (1,))  # parts of 4 and 3 rows; of a scale the second rank holds nothing
    matrix, scale = (torch.randn(shape, generator=generator) for shape in shapes)
    gradients = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(3)]
    whole = make_optimizer(groups_of(matrix, scale), OptimizerSettings(kind="muon"))
    zero_moments(whole)
    expected = moved(whole, gradients, skip=1)
    for found, steps in on_ranks(4, moved_in_parts, matrix, scale, gradients):
        assert steps == [2, 2]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.tensor(ours), theirs, atol=1e-6, rtol=1e-5)
