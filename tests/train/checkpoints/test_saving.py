"""Saving beside training: killed at any of its writes nothing is lost, and no second process may write there."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pretrain_miniature import TOTAL_STEPS, metrics, pretrain, same_weights, write_inputs, write_run_config

import train.pretrain
from train.checkpoints import sharded

SHARED: dict[str, Any] = {"heldout": None, "monitors": {"names": []}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def undisturbed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that saved without going on meanwhile."""
    config = write_run_config(inputs, tmp_path_factory.mktemp("undisturbed") / "config.yaml", **SHARED)
    assert pretrain(config) == 0
    return config.parent / "run"


def in_another_process(work: Callable[[], None]) -> Any:
    """A forked process that does `work`, started."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def train_until_killed_in(config: Path, place: Any, name: str, call: int) -> int:
    """Train in a process that kills itself when `place.name` is called for the `call`-th time; its exit code."""

    def work() -> None:
        original, calls = getattr(place, name), [0]

        def deadly(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(place, name, deadly)
        os._exit(pretrain(config))

    process = in_another_process(work)
    process.join(60)
    return process.exitcode


def test_killed_at_every_write_of_a_save_and_started_again_equals_undisturbed(
    inputs: Path, undisturbed: Path, tmp_path: Path
) -> None:
    checkpoint = {"every_steps": 1, "keep_last": 1, "asynchronous": True}
    config = write_run_config(inputs, tmp_path / "config.yaml", checkpoint=checkpoint, **SHARED)
    writes = [
        (sharded.torch, "save", 3),  # before anything is written
        (sharded.dcp, "save", 3),  # the random state is
        (sharded, "content_of", 7),  # all tensors are
        (sharded, "content_of", 8),
        (sharded, "write_trainer", 3),  # all but the file that completes it
        (sharded, "fsync_path", 8),  # before it gets its name
        (sharded, "fsync_path", 9),  # after it got its name
        (sharded.shutil, "rmtree", 2),  # in the middle of removing an old one
        (Path, "rename", 3),
    ]
    for place, name, call in writes:
        assert train_until_killed_in(config, place, name, call) == -signal.SIGKILL, name
        assert not (tmp_path / "run" / "manifest.json").exists()
    reached = len(metrics(tmp_path / "run"))
    assert 0 < reached < TOTAL_STEPS
    assert pretrain(config) == 0
    assert metrics(tmp_path / "run") == metrics(undisturbed)
    assert same_weights(tmp_path / "run", undisturbed)
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == [f"step-{step:08d}" for step in (6, 12, 17, 18)]


def test_a_second_process_in_the_same_folder_is_refused_and_changes_nothing(
    inputs: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml", **SHARED)
    run = tmp_path / "run"

    def work() -> None:
        once = train.pretrain.update

        def slow(run: Any, plan: Any, *more: Any) -> Any:
            if plan.step == 2:
                time.sleep(60)
            return once(run, plan, *more)

        train.pretrain.update = slow
        os._exit(pretrain(config))

    first = in_another_process(work)
    try:
        deadline = time.monotonic() + 60
        while len(metrics(run)) < 2 and first.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        for more in ((), ("--force",)):
            assert pretrain(config, *more) == 2
            assert f"error: {run}: another process is training here." in capsys.readouterr().err
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    finally:
        first.kill()
        first.join()
    assert pretrain(config) == 0  # the lock went with its holder
    assert metrics(run) == metrics(undisturbed)


def test_a_save_that_fails_is_told_and_leaves_the_earlier_ones(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml", checkpoint={"every_steps": 4}, **SHARED)
    content_of, calls = sharded.content_of, [0]

    def failing(path: Path) -> dict[str, Any]:
        calls[0] += 1
        if calls[0] > 3:  # the files of the first checkpoint are three
            raise OSError(28, "No space left on device", str(path))
        return content_of(path)

    monkeypatch.setattr(sharded, "content_of", failing)
    assert pretrain(config) == 2
    told = capsys.readouterr().err
    assert "could not be written" in told
    assert "No space left on device" in told
    assert [path.name for path in sorted((tmp_path / "run" / "checkpoints").glob("step-*"))] == ["step-00000000"]
    monkeypatch.undo()
    assert pretrain(config, "--set", "max_steps=5") == 0
