"""Scores are made beside training: no step waits for them, the end does, and a killed run makes up for them."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pretrain_miniature import STEPS_PER_PHASE, TOTAL_STEPS, metrics, pretrain, write_inputs, write_run_config

# Waits until training is two steps beyond the phase's end, or for `go`, before it writes its scores.
SCORE = """
import json, os, sys, time
from pathlib import Path

model, scores = Path(sys.argv[1]), Path(sys.argv[2])
run = model.parents[1]
(run / f"scorer-{model.name}").write_text(str(os.getpid()))
begun = time.monotonic()
while not (run.parent / "go").exists():
    if len((run / "metrics.jsonl").read_text().splitlines()) >= 8 and WAITS_FOR_STEPS:
        break
    if time.monotonic() - begun > 60:
        sys.exit("training stands still")
    time.sleep(0.01)
scores.mkdir(parents=True)
(scores / "scores.json").write_text(json.dumps({"environment": dict(os.environ), "model": str(model)}))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def scored_config(inputs: Path, folder: Path, *, waits_for_steps: bool, **changes: Any) -> Path:
    script = folder / "score.py"
    script.write_text(SCORE.replace("WAITS_FOR_STEPS", str(waits_for_steps)))
    command = f"{{python}} '{script}' {{model}} {{scores}}"
    data = {"dir": str(inputs / "data"), "phases": [1, 2]}
    shared: dict[str, Any] = {"heldout": None, "monitors": {"names": []}, "schedule": {}, "data": data}
    return write_run_config(inputs, folder / "config.yaml", evaluation={"command": command}, **shared | changes)


def test_training_goes_on_while_a_model_is_scored(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    assert pretrain(scored_config(inputs, tmp_path, waits_for_steps=True)) == 0
    assert "warning" not in capsys.readouterr().err
    for phase in ("phase-01", "phase-02"):
        found = json.loads((tmp_path / "run" / "scores" / phase / "scores.json").read_text())
        assert found["model"] == str(tmp_path / "run" / "models" / phase)
        assert not {"RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"} & set(found["environment"])
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert "scores/phase-02/scores.json" in manifest["files"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped at the end"])
def test_a_run_that_ends_while_scoring_takes_the_scorer_along_and_scores_when_it_goes_on(
    inputs: Path, tmp_path: Path, number: signal.Signals
) -> None:
    config = scored_config(inputs, tmp_path, waits_for_steps=False, checkpoint={"every_steps": 1})
    run = tmp_path / "run"
    process = multiprocessing.get_context("fork").Process(target=lambda: os._exit(pretrain(config)))
    process.start()
    # All steps are done, and the run waits for the scores of its first phase.
    deadline = time.monotonic() + 60
    while len(metrics(run)) < 2 * STEPS_PER_PHASE and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    while not (run / "checkpoints" / "step-00000012").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    scorer = psutil.Process(int((run / "scorer-phase-01").read_text()))
    os.kill(process.pid or 0, number)
    process.join(30)
    assert process.exitcode == (-9 if number == signal.SIGKILL else 143)
    scorer.wait(10)
    assert not (run / "scores").exists()
    assert not (run / "manifest.json").exists()
    (tmp_path / "go").touch()
    assert pretrain(config) == 0
    assert sorted(path.name for path in (run / "scores").iterdir()) == ["phase-01", "phase-02"]
    assert len(metrics(run)) == 2 * STEPS_PER_PHASE < TOTAL_STEPS
