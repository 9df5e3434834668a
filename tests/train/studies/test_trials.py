"""Trials: many at a time, resumed, run anew when what they are made from has changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pretrain_miniature import REPOSITORY
from test_studies import inputs, small_base  # noqa: F401 -- a fixture

from train.errors import TrainError
from train.studies.trials import Inputs, Job, Workers, run_job, settings_of


def lines_of(run: Path) -> dict[str, Any]:
    """What a study might make of a run, in the process that trained it."""
    return {"lines": len((run / "metrics.jsonl").read_text().splitlines()), "models": (run / "models").is_dir()}


def job(folder: Path, base: Path, inputs: Inputs, **changes: Any) -> Job:  # noqa: F811
    settings = settings_of(base, inputs, {"max_steps": 3, **{k.replace("__", "."): v for k, v in changes.items()}})
    return Job(folder, settings, after=lines_of)


@pytest.mark.slow
def test_many_jobs_give_what_one_gives_and_are_not_run_again(inputs: Inputs, tmp_path: Path) -> None:  # noqa: F811
    base = small_base(tmp_path, "proxy-wide")
    jobs = [job(tmp_path / "many" / f"seed{seed}", base, inputs, seed=seed) for seed in (0, 1, 2)]
    with Workers(2, progress=False) as workers:
        found = workers.run(jobs)
    alone = run_job(job(tmp_path / "alone", base, inputs, seed=1))
    assert found[1].losses == alone.losses
    assert found[0].losses != found[1].losses
    assert [trial.found for trial in found] == [{"lines": 3, "models": False}] * 3
    assert "3 steps done" in (tmp_path / "many" / "seed0.log").read_text()

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("many/*/run/metrics.jsonl")}
    shutil.rmtree(tmp_path / "many" / "seed2")
    with Workers(2, progress=False) as workers:
        again = workers.run(jobs)
    assert [trial.losses for trial in again] == [trial.losses for trial in found]
    touched = {path.parts[-3] for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert touched <= {"seed2"}


def test_a_trial_is_run_again_when_its_rows_or_its_beginning_have_changed(inputs: Inputs, tmp_path: Path) -> None:  # noqa: F811
    data = tmp_path / "data"
    shutil.copytree(inputs.data, data)
    own = Inputs(inputs.tokenizer, data)
    base = small_base(tmp_path, "proxy-wide")
    first = job(tmp_path / "trial", base, own)
    run_job(first)
    assert Job(first.folder, first.settings, made_from={"checkpoint": "other"}).identity != first.identity
    manifest = data / "phase-01" / "manifest.json"
    changed = json.loads(manifest.read_text()) | {"fingerprint": "of other rows"}
    manifest.write_text(json.dumps(changed))
    done = tmp_path / "trial" / "done.json"
    before = done.stat().st_mtime_ns
    run_job(job(tmp_path / "trial", base, own))
    assert done.stat().st_mtime_ns != before


@pytest.mark.slow
def test_a_trial_that_cannot_begin_stops_the_study_and_says_where_its_message_is(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
) -> None:
    wrong = job(tmp_path / "out" / "wrong", small_base(tmp_path, "proxy-wide"), inputs, attention="nonsense")
    with (
        pytest.raises(TrainError, match=r"the training did not run.*wrong\.log"),
        Workers(1, progress=False) as workers,
    ):
        workers.run([wrong])
    assert "nonsense" in (tmp_path / "out" / "wrong.log").read_text()


ENDLESS = """
import sys, time
from pathlib import Path
from train.studies import trials

def forever(job):
    Path(job).write_text(str(__import__("os").getpid()))
    time.sleep(600)

if __name__ == "__main__":
    with trials.Workers(1, progress=False) as workers:
        workers._pool.submit(forever, sys.argv[1]).result()
"""


@pytest.mark.slow
def test_workers_end_with_a_study_that_is_killed(tmp_path: Path) -> None:
    script, note = tmp_path / "endless.py", tmp_path / "pid"
    script.write_text(ENDLESS)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    study = subprocess.Popen([sys.executable, str(script), str(note)], env=environment)
    try:
        wait_until(note.is_file)
        wait_until(lambda: note.read_text() != "")
        worker = psutil.Process(int(note.read_text()))
        study.send_signal(signal.SIGKILL)
        study.wait()
        wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    finally:
        if study.poll() is None:
            os.kill(study.pid, signal.SIGKILL)


def wait_until(there: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.1)
