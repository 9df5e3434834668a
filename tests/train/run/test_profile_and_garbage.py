"""`--profile` writes a trace of the steps asked for; Python's garbage is collected at set steps."""

import gc
import gzip
import json
from pathlib import Path

import pytest
import torch
from pretrain_miniature import metrics, pretrain, write_inputs, write_run_config

from train.errors import TrainError
from train.launch.world import World
from train.run.garbage import GarbageCollection
from train.run.profile import StepProfiler, steps_to_profile


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def test_a_trace_holds_the_steps_asked_for_and_the_run_is_the_same(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"data": {"dir": str(inputs / "data"), "phases": [1]}, "schedule": {"warmup_steps": 4}, "heldout": None}
    plain = write_run_config(inputs, tmp_path / "plain" / "config.yaml", **changes)
    traced = write_run_config(inputs, tmp_path / "traced" / "config.yaml", **changes, collect_garbage_every=2)
    assert pretrain(plain, "--set", "max_steps=5") == 0
    assert pretrain(traced, "--set", "max_steps=5", "--profile", "3-4") == 0
    run = traced.parent / "run"
    (trace,) = (run / "profile").iterdir()
    assert trace.name == "steps-3-4.json.gz"
    assert str(trace) in capsys.readouterr().err
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = {event.get("name", "") for event in events}
    assert {"step 3", "step 4"} <= names
    assert not {"step 2", "step 5"} & names
    assert any(name.startswith("aten::") for name in names)
    assert metrics(run) == metrics(plain.parent / "run")
    assert gc.isenabled()
    # Given again, as a queue does: the steps are behind it.
    assert pretrain(traced, "--set", "max_steps=6", "--profile", "3-4") == 0
    assert len(list((run / "profile").iterdir())) == 1
    assert pretrain(traced, "--set", "max_steps=6", "--profile", "7") == 2
    assert "step 7 is asked for, but the run ends at step 6" in capsys.readouterr().err


def test_other_ranks_write_no_trace(tmp_path: Path) -> None:
    profiler = StepProfiler(range(1, 2), tmp_path, World(torch.device("cpu"), 1, 2), last_step=5)
    profiler.begin(1)
    assert profiler.end(1) is None
    assert not list(tmp_path.iterdir())


def test_steps_are_one_or_some() -> None:
    assert steps_to_profile("20") == range(20, 21)
    assert steps_to_profile("20-22") == range(20, 23)
    for text in ("0", "22-20", "x", "1-2-3", "-3", ""):
        with pytest.raises(TrainError, match="expected a step such as 20"):
            steps_to_profile(text)


class Cycle:
    def __init__(self, freed: list[int]) -> None:
        self.myself, self.freed = self, freed

    def __del__(self) -> None:
        self.freed.append(1)


def test_garbage_goes_at_the_set_steps_only() -> None:
    freed: list[int] = []
    collection = GarbageCollection(3)
    try:
        for step in range(1, 7):
            Cycle(freed)
            junk = [[] for _ in range(3000)]  # enough for Python to collect on its own, if it did
            del junk
            collection.after(step)
            assert len(freed) == step // 3 * 3
        assert not gc.isenabled()
    finally:
        collection.close()
    assert gc.isenabled()
