"""Only the phases at hand are on the disk: later ones are added, finished ones deleted, and nothing else changes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pretrain_miniature import TOTAL_STEPS, metrics, pretrain, same_weights, write_inputs, write_run_config

SHARED: dict[str, Any] = {"heldout": None, "monitors": {"names": ["loss_by_source"], "interval": 3}}
TAIL = {"warmup_steps": 4, "annealing": {"start": 26, "floor": 0.005, "steps": 6}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def undisturbed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with all phases there at all times."""
    config = write_run_config(inputs, tmp_path_factory.mktemp("undisturbed") / "config.yaml", schedule=TAIL, **SHARED)
    assert pretrain(config) == 0
    return config.parent / "run"


class Place:
    """A run whose phases lie in a folder of its own; `config` names all three from the beginning."""

    def __init__(self, inputs: Path, folder: Path, **changes: Any) -> None:
        self.source, self.data, self.run = inputs / "data", folder / "data", folder / "run"
        self.data.mkdir()
        data = {"dir": str(self.data), "phases": [1, 2, 26]}
        self.config = write_run_config(
            inputs, folder / "config.yaml", **{"schedule": TAIL, "data": data} | SHARED | changes
        )

    def add(self, phase: str, *, as_name: str | None = None) -> None:
        shutil.copytree(self.source / f"phase-{phase}", self.data / f"phase-{as_name or phase}")

    def delete(self, phase: str) -> None:
        shutil.rmtree(self.data / f"phase-{phase}")

    def train(self, *arguments: str) -> int:
        return pretrain(self.config, *arguments)


@pytest.fixture
def place(inputs: Path, tmp_path: Path) -> Place:
    return Place(inputs, tmp_path)


def test_a_run_whose_phases_come_and_go_equals_one_with_all_of_them(
    place: Place, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add("01")
    assert place.train() == 0
    told = capsys.readouterr().err
    assert f"goes to the end of phase 1 (step 6): phase 2 is not in {place.data}, after it 26. Build it" in told
    assert len(metrics(place.run)) == 6

    place.add("02")
    place.delete("01")  # finished; the checkpoint is at its end
    assert place.train("--set", "max_steps=8") == 0  # in the middle of phase 2
    assert place.train() == 0
    place.delete("02")
    assert place.train() == 0  # nothing to do, and nothing lost
    assert len(metrics(place.run)) == 12

    place.add("26")
    assert place.train("--dry-run") == 0
    assert place.train() == 0
    assert metrics(place.run) == metrics(undisturbed)
    assert same_weights(place.run, undisturbed)
    assert len(metrics(place.run)) == TOTAL_STEPS
    manifest = json.loads((place.run / "manifest.json").read_text())
    assert manifest["counts"]["phases"] == ["1", "2", "26"]


def test_a_finished_phase_that_was_changed_is_refused_by_name(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.add("01")
    assert place.train() == 0
    place.add("02")
    manifest = place.data / "phase-01" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"fingerprint": "other"}))
    capsys.readouterr()
    for more in ((), ("--dry-run",)):
        assert place.train(*more) == 2
        told = capsys.readouterr().err
        assert "phase 1.data: was" in told
        assert "phase 2" not in told


def test_another_phase_of_the_same_name_is_refused_before_it_is_begun(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add("01")
    place.add("02")
    assert place.train("--set", "max_steps=6") == 0
    place.delete("02")
    place.add("01", as_name="02")
    assert place.train() == 2
    assert "phase 2.data: was" in capsys.readouterr().err
    place.delete("02")  # later: it may go again
    assert place.train() == 0


def test_a_phase_deleted_half_way_is_asked_for(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.add("01")
    place.add("02")
    assert place.train("--set", "max_steps=8") == 0
    place.delete("02")
    assert place.train() == 2
    assert "phase 2: its rows are needed, but not in data.dir any more" in capsys.readouterr().err
    place.add("02")
    assert place.train() == 0


def test_phases_left_out_or_put_before_trained_ones_are_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add("01")
    place.add("02")
    assert place.train("--set", "max_steps=8") == 0
    assert place.train("--set", "data.phases=[1, 26]") == 2
    assert "phase 2: was trained, is not in data.phases" in capsys.readouterr().err
    assert place.train("--set", "data.phases=[2, 1]") == 2
    assert "phase 1.first_step: was 0, is 6" in capsys.readouterr().err


def test_a_tail_to_the_end_waits_for_the_last_phase(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to_the_end = {"warmup_steps": 4, "annealing": {"start": 2, "shape": "linear"}}
    place = Place(inputs, tmp_path, schedule=to_the_end)
    place.add("01")
    assert place.train() == 0
    place.add("02")
    assert place.train() == 2
    assert "the tail from phase 2 goes to the run's end, which is not known while phase 26" in capsys.readouterr().err
    place.add("26")
    assert place.train("--set", "max_steps=8") == 0
    place.delete("26")  # its facts are in the checkpoint now
    assert place.train() == 0
    rates = [line["lr"] for line in metrics(place.run)]
    assert rates[6:] == pytest.approx([3e-3 * (1 - done / 12) for done in range(6)])
    assert place.train("--set", "data.phases=[1, 2]") == 2  # the tail would be another, and is begun
    assert "schedule.annealing: the tail (first step, steps) was [6, 12], is [6, 6]" in capsys.readouterr().err
