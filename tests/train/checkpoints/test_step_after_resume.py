"""The step after a resume is AdamW's with what the config says now, computed by hand in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_miniature import pretrain, write_inputs, write_run_config

from train.checkpoints.tensors import CheckpointEntries
from train.config import PretrainConfig
from train.config_file import load_config
from train.launch.world import enter_world
from train.model_setup.parameter_groups import matrix_kind
from train.monitors.base import Monitor
from train.pretrain import update
from train.run.resume import start_or_resume
from train.run.run import Run

BEFORE = {"lr": 3e-3, "betas": [0.9, 0.95], "eps": 1e-15, "weight_decay": 0.1}
AFTER = {"lr": 7e-3, "betas": [0.8, 0.9], "eps": 1e-4, "weight_decay": 0.4}
SHARED: dict[str, Any] = {"heldout": None, "schedule": {}, "checkpoint": {}}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 3 steps, its inputs beside it."""
    inputs = write_inputs(tmp_path_factory.mktemp("inputs"))
    config = write_run_config(inputs, inputs / "before.yaml", optimizer=BEFORE, **SHARED)
    assert pretrain(config, "--set", "max_steps=3") == 0
    return inputs


class Gradients(Monitor):
    """Copies the clipped gradients of a step, in float64."""

    def before_update(self, record: dict[str, Any]) -> None:
        self.found = {name: parameter.grad.double() for name, parameter in self.model.named_parameters()}


def by_hand(entries: CheckpointEntries, name: str, gradient: torch.Tensor, said: dict[str, Any]) -> torch.Tensor:
    """The weights after the update that follows a checkpoint."""
    at = f"optimizer.state.{name}"
    weight = entries.read(f"model.{name}").double()
    first, second = (entries.read(f"{at}.{moment}").double() for moment in ("exp_avg", "exp_avg_sq"))
    count, (beta1, beta2) = float(entries.read(f"{at}.step")) + 1, said["betas"]
    first, second = beta1 * first + (1 - beta1) * gradient, beta2 * second + (1 - beta2) * gradient.square()
    step = first / (1 - beta1**count) / ((second / (1 - beta2**count)).sqrt() + said["eps"])
    is_matrix = matrix_kind(name) is not None
    rate = said["lr"] * (said["matrix_factor"] if is_matrix else 1)
    decay = said["weight_decay"] if is_matrix or said["on"] == "everything" else 0.0
    return weight - rate * decay * weight - rate * step


@pytest.mark.parametrize("how", ["--force", "init.optimizer"])
@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"weight_decay_on": "matrices"}},
        {"optimizer": AFTER, "parametrization": {"base_width": 32, "overrides": {"matrix_lr": "1/(2*n_layers)"}}},
    ],
    ids=["weight_decay_on", "all else"],
)
def test_the_config_s_optimizer_settings_win(stopped: Path, tmp_path: Path, change: dict[str, Any], how: str) -> None:
    optimizer = BEFORE | change["optimizer"]
    said = optimizer | {"matrix_factor": 0.25 if "parametrization" in change else 1.0}
    said["on"] = optimizer.get("weight_decay_on", "everything")
    assert_next_step(stopped, tmp_path, said, SHARED | change | {"optimizer": optimizer}, how=how)


def test_groups_made_in_another_way_get_their_moments_by_name(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another version of the program: one group for each parameter."""
    from train.model_setup import parameter_groups

    grouped = parameter_groups.parameter_groups

    def one_each(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        return [group | {"params": [p]} for group in reversed(grouped(*args, **kwargs)) for p in group["params"]]

    monkeypatch.setattr("train.run.run.parameter_groups", one_each)
    said = BEFORE | {"matrix_factor": 1.0, "on": "everything"}
    assert_next_step(stopped, tmp_path, said, SHARED | {"optimizer": BEFORE}, how="init.optimizer")


def assert_next_step(inputs: Path, place: Path, said: dict[str, Any], settings: dict[str, Any], *, how: str) -> None:
    checkpoint = inputs / "run" / "checkpoints" / "step-00000003"
    if how == "--force":
        folder = {"output_dir": str(inputs / "run")}
    else:
        folder = {"output_dir": str(place / "run"), "init": {"path": str(checkpoint), "optimizer": True}}
    config = load_config(PretrainConfig, write_run_config(inputs, place / "config.yaml", **settings, **folder))
    run = Run(config, enter_world(config))
    try:
        start_or_resume(run, force=how == "--force")
        assert run.step == (3 if how == "--force" else 0)
        gradients = Gradients(run.model, run.optimizer, run.world, config)
        run.monitors = {"gradients": gradients}
        plan = run.curriculum.at(run.step)
        run.enter_phase(plan)
        update(run, plan)
        entries = CheckpointEntries(checkpoint)
        other = said | {"lr": BEFORE["lr"] * 1.01}
        for name, parameter in run.model.named_parameters():
            expected = by_hand(entries, name, gradients.found[name], said)
            torch.testing.assert_close(parameter.detach().double(), expected, rtol=2e-6, atol=2e-7, msg=name)
            if matrix_kind(name):  # the comparison would notice a rate that is 1 % off
                assert not torch.allclose(expected, by_hand(entries, name, gradients.found[name], other), atol=2e-7)
    finally:
        run.close()
        run.world.close()
