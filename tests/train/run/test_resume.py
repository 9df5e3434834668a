"""A run that was stopped, killed or moved to another number of ranks equals one that was not."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from pretrain_miniature import (
    REPOSITORY,
    SCRIPT,
    TOTAL_STEPS,
    environment,
    launch_ranks,
    launched,
    lose_a_rank,
    metrics,
    pretrain,
    ranks_command,
    run_until,
    same_weights,
    weights,
    write_inputs,
    write_run_config,
)

from train.checkpoints.sharded import read_trainer
from train.run.log import RunLog


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def undisturbed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run that the others are compared with."""
    config = write_run_config(inputs, tmp_path_factory.mktemp("undisturbed") / "config.yaml")
    assert pretrain(config) == 0
    return config.parent / "run"


def assert_same_run(run: Path, other: Path) -> None:
    assert same_weights(run, other)
    assert metrics(run) == metrics(other)
    assert metrics(run, "heldout.jsonl") == metrics(other, "heldout.jsonl")


def test_the_undisturbed_run_logs_every_step_once_and_learns(undisturbed: Path) -> None:
    lines = metrics(undisturbed)
    assert [line["step"] for line in lines] == list(range(1, TOTAL_STEPS + 1))
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    scores = {(line["step"], line["domain"]): line["bits_per_byte"] for line in metrics(undisturbed, "heldout.jsonl")}
    assert sorted({step for step, _ in scores}) == [0, 6, 12, 18]
    assert scores[18, "code"] < scores[0, "code"]


# Before the first periodic checkpoint, in the middle, at a phase's edge, in the annealing tail.
@pytest.mark.parametrize("lines", [2, 7, 12, 15])
def test_killed_and_started_again_equals_undisturbed(
    inputs: Path, undisturbed: Path, tmp_path: Path, lines: int
) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml")
    assert run_until(config, tmp_path / "run", lines, signal.SIGKILL) == -signal.SIGKILL
    assert not (tmp_path / "run" / "manifest.json").exists()
    assert pretrain(config) == 0
    assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 0)])
def test_a_stop_signal_saves_the_step_and_goes_on_from_it(
    inputs: Path, undisturbed: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml", checkpoint={})
    assert run_until(config, tmp_path / "run", 3, number) == code
    saved = max(int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == len(metrics(tmp_path / "run")) >= 3
    assert pretrain(config) == 0
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_launcher_that_is_ended_takes_the_run_along_which_saves_first(
    inputs: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml", checkpoint={})
    run = tmp_path / "run"
    launcher = subprocess.Popen(
        ranks_command(config, 1), env=environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while len(metrics(run)) < 3 and launcher.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    (script,) = psutil.Process(launcher.pid).children(recursive=True)
    launcher.terminate()
    launcher.wait()
    script.wait(timeout=60)
    saved = max(int(path.name[5:]) for path in (run / "checkpoints").iterdir())
    assert saved == len(metrics(run)) < TOTAL_STEPS
    assert pretrain(config) == 0
    assert_same_run(run, undisturbed)


def test_a_run_stopped_at_every_step_equals_undisturbed(inputs: Path, undisturbed: Path, tmp_path: Path) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml")
    for step in (1, 5, 6, 7, 11, 13, 17):
        assert pretrain(config, "--set", f"max_steps={step}") == 0
    assert pretrain(config) == 0
    assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.slow  # in processes of their own: this one may not have started a second thread when it forks
def test_with_two_threads_a_run_gone_on_with_equals_undisturbed_too(inputs: Path, tmp_path: Path) -> None:
    model = yaml.safe_load(write_run_config(inputs, tmp_path / "config.yaml").read_text())["model"]
    # Wide enough that sums and products are shared by the threads.
    changes = {"threads": 2, "model": model | {"hidden_size": 128, "intermediate_size": 320}}
    for name in ("undisturbed", "stopped"):
        config = write_run_config(inputs, tmp_path / name / "config.yaml", **changes)
        if name == "stopped":
            assert launch_ranks(config, 1, "--set", "max_steps=9").returncode == 0
        assert launch_ranks(config, 1).returncode == 0
    assert_same_run(tmp_path / "stopped" / "run", tmp_path / "undisturbed" / "run")


def test_a_finished_run_started_again_changes_nothing(inputs: Path, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.safetensors")}
    assert pretrain(write_run_config(inputs, tmp_path / "config.yaml")) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert_same_run(tmp_path / "run", undisturbed)


@pytest.fixture(scope="module")
def two_ranks(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by `accelerate launch` with a file of FSDP2 for two ranks, every checkpoint kept."""
    folder = tmp_path_factory.mktemp("two")
    config = write_run_config(inputs, folder / "config.yaml", checkpoint={"every_steps": 4, "keep_last": 9})
    file = REPOSITORY / "train" / "configs" / "accelerate" / "cpu.yaml"
    done = launched(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file), str(SCRIPT), str(config)]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


def test_two_ranks_equal_one_rank(undisturbed: Path, two_ranks: Path) -> None:
    trainer = json.loads((two_ranks / "checkpoints" / "step-00000018" / "trainer.json").read_text())
    assert trainer["ranks"] == 2
    one, two = metrics(undisturbed), metrics(two_ranks)
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], abs=2e-5)
    assert [line["grad_norm"] for line in two] == pytest.approx([line["grad_norm"] for line in one], rel=1e-3)
    for name, tensor in weights(undisturbed).items():
        torch.testing.assert_close(weights(two_ranks)[name], tensor, rtol=0, atol=2e-3)


def test_a_run_begun_on_two_ranks_goes_on_with_one(
    inputs: Path, undisturbed: Path, two_ranks: Path, tmp_path: Path
) -> None:
    shutil.copytree(two_ranks, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if int(path.name[5:]) > 8:
            shutil.rmtree(path)
    assert pretrain(write_run_config(inputs, tmp_path / "config.yaml")) == 0
    one, moved = metrics(undisturbed), metrics(tmp_path / "run")
    assert [line["step"] for line in moved] == [line["step"] for line in one]
    assert [line["loss"] for line in moved] == pytest.approx([line["loss"] for line in one], abs=2e-5)


@pytest.mark.slow
# The survivor's own message where that is rank 0, which speaks for all; else that of the process that started both.
@pytest.mark.parametrize(
    ("rank", "message"),
    [(1, "error: another rank was lost."), pytest.param(0, "ended by signal 9;", marks=pytest.mark.slow)],
)
def test_a_rank_that_is_killed_ends_the_other_with_a_message_and_costs_no_finished_work(
    inputs: Path, undisturbed: Path, two_ranks: Path, tmp_path: Path, rank: int, message: str
) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml", checkpoint={"every_steps": 4, "keep_last": 9})
    done = lose_a_rank(config, tmp_path / "run", rank=rank, lines=7)
    assert done.returncode != 0
    assert message in done.stderr
    assert "resumes from the last checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
    kept = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert {path.name for path in kept} >= {f"step-{step:08d}" for step in (0, 4, 6)}
    assert all(read_trainer(path)["ranks"] == 2 for path in kept)
    if rank == 1:
        assert pretrain(config) == 0  # as on the machine that is left
        one, moved = metrics(undisturbed), metrics(tmp_path / "run")
        assert [line["loss"] for line in moved] == pytest.approx([line["loss"] for line in one], abs=2e-5)
    else:
        assert launch_ranks(config, 2).returncode == 0
        assert_same_run(tmp_path / "run", two_ranks)


def test_accumulation_over_four_micro_batches_equals_one(inputs: Path, undisturbed: Path, tmp_path: Path) -> None:
    config = write_run_config(
        inputs,
        tmp_path / "config.yaml",
        micro_batch_rows=3,
        stages=[
            {"phases": "1-25", "rope_theta": 10_000},
            {"phases": "26-27", "rope_theta": 490_000, "document_mask": True, "micro_batch_rows": 1},
        ],
    )
    assert pretrain(config) == 0
    one, four = metrics(undisturbed), metrics(tmp_path / "run")
    assert [line["loss"] for line in four] == pytest.approx([line["loss"] for line in one], abs=2e-5)
    assert [line["grad_norm"] for line in four] == pytest.approx([line["grad_norm"] for line in one], rel=1e-3)


def test_a_log_is_cut_after_a_step_and_at_a_half_line(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in range(1, 6)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 6, "lo')
    RunLog(tmp_path / "metrics.jsonl").cut_after(3)
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == lines[:3]
