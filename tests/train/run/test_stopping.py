"""SIGTERM in the middle of a step: all ranks drop it, save the last whole one within seconds, and a resume is exact."""

import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from pretrain_miniature import STEPS_PER_PHASE, metrics, pretrain, write_inputs, write_run_config

from train.checkpoints.sharded import read_trainer
from train.curriculum import batches

# One row at a time, and steps between two looks at the log, as on a GPU.
SLOW_STEPS: dict[str, Any] = {
    "heldout": None,
    "micro_batch_rows": 1,
    "monitors": {"names": [], "flush_every": 10},
    "checkpoint": {"asynchronous": True},
    "data": {"phases": [1]},
    "schedule": {"warmup_steps": 4},
    "stages": [],
}
SECONDS_A_MICRO_BATCH = 1.0  # 6 of them a step on 2 ranks


def run_config(inputs: Path, folder: Path, **changes: Any) -> Path:
    data = {"dir": str(inputs / "data"), "phases": [1]}
    return write_run_config(inputs, folder / "config.yaml", **(SLOW_STEPS | {"data": data} | changes))


def start_ranks(config: Path, count: int, *, slow_from: int | None = None) -> list[Any]:
    """Forks that train on `count` ranks over gloo; from step `slow_from` (from 0) each micro-batch takes a while."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(rank: int) -> None:
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        ranks |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        os.environ |= {name: str(value) for name, value in ranks.items()}
        if slow_from is not None:
            make_slow(slow_from, config.with_name(f"reached-{rank}"))
        os._exit(pretrain(config))

    processes = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in range(count)]
    for process in processes:
        process.start()
    return processes


def make_slow(first: int, reached: Path) -> None:
    """Each micro-batch from step `first` on comes late; `reached` is there once the second of them is waited for."""
    original = batches.StepReader.get

    def late(self: Any, plan: Any, following: Any) -> Any:
        rows = original(self, plan, following)
        return SlowRows(rows) if plan.step >= first else rows

    class SlowRows:
        def __init__(self, rows: Any) -> None:
            self.targets = rows.targets
            self.micro_batches = SlowList(rows.micro_batches)

    class SlowList(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            for index, batch in enumerate(super().__iter__()):
                if index == 1:
                    reached.touch()
                time.sleep(SECONDS_A_MICRO_BATCH)
                yield batch

    batches.StepReader.get = late  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def undisturbed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = run_config(inputs, tmp_path_factory.mktemp("undisturbed"))
    for process in start_ranks(config, 2):
        process.join(60)
        assert process.exitcode == 0
    return config.parent / "run"


def test_a_signal_to_one_rank_between_micro_batches_drops_the_step_on_all_and_saves(
    inputs: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = run_config(inputs, tmp_path)
    run, done = tmp_path / "run", 3
    ranks = start_ranks(config, 2, slow_from=done)
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"reached-{rank}").exists() for rank in (0, 1)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert metrics(run) == []  # nothing of the three steps before has been brought to the host
    sent = time.time()
    os.kill(ranks[1].pid, signal.SIGTERM)
    for process in ranks:
        process.join(30)
    assert [process.exitcode for process in ranks] == [143, 143]
    saved = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert saved == ["step-00000000", f"step-{done:08d}"]
    assert read_trainer(run / "checkpoints" / saved[-1])["ranks"] == 2
    # The rest of the step alone would have taken longer.
    assert (run / "checkpoints" / saved[-1] / "trainer.json").stat().st_mtime - sent < 5 * SECONDS_A_MICRO_BATCH
    assert [line["step"] for line in metrics(run)] == [1, 2, 3]
    for process in start_ranks(config, 2):
        process.join(60)
        assert process.exitcode == 0
    assert metrics(run) == metrics(undisturbed)
    assert len(metrics(run)) == STEPS_PER_PHASE
    ours, theirs = (path / "models" / "phase-01" / "model.safetensors" for path in (run, undisturbed))
    assert ours.read_bytes() == theirs.read_bytes()
