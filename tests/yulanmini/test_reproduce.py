"""`yulanmini reproduce` as a user meets it: killed in any stage it ends with equal weights; bad input is reported."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train.tuning.checkpoints import METRICS_FILE, work_folder
from yulanmini.reproduce.stages import STAGES
from yulanmini.run_layout import MERGED, MODELS

YULANMINI = [sys.executable, "-m", "yulanmini.cli"]


def command(out: Path, *more: str) -> list[str]:
    return [*YULANMINI, "reproduce", "--scale", "smoke", "--phases", "1-2", "--threads", "1", "--out", str(out), *more]


def weights(out: Path) -> dict[str, str]:
    """SHA-256 of every file of weights and of every packed row below a run."""
    paths = [*out.rglob("*.safetensors"), *(out / "03-data").rglob("*.arrow")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "04-pretrain" / "metrics.jsonl").read_text().splitlines()]


def kill_in_stage(out: Path, stage: str, progress: Path | None) -> None:
    """Start a run, and kill it with SIGKILL when it has announced `stage` and, if given, `progress` has a line."""
    process = subprocess.Popen(command(out), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if f"] {stage}:" in line and "done before" not in line:
            while progress is not None and process.poll() is None and not (progress.exists() and progress.read_text()):
                time.sleep(0.01)
            process.kill()
            break
    process.stderr.close()
    process.wait()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_killed_in_every_stage_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    subprocess.run(command(undisturbed), check=True, capture_output=True)
    progress = {
        "pretrain": killed / "04-pretrain" / "metrics.jsonl",
        **{
            stage: work_folder(killed / folder) / METRICS_FILE
            for stage, (folder, _) in MODELS.items()
            if folder != MERGED
        },
    }
    for stage in STAGES:
        kill_in_stage(killed, stage.name, progress.get(stage.name))
    subprocess.run(command(killed), check=True, capture_output=True)
    assert weights(killed) == weights(undisturbed)
    assert losses(killed) == losses(undisturbed)
    assert (killed / "report.html").stat().st_size > 50_000


def test_ctrl_c_ends_with_130_and_one_message_and_leaves_no_process_behind(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(out),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test runner in the background of a shell ignores SIGINT, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "] pretrain:" in line:
            break
    time.sleep(3)
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait() == 130
    assert "the same command resumes" in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale", "huge"], "no scale 'huge'"),
        (["--phases", "3-5"], "training starts at phase 1"),
        (["--corpus", "/nonexistent"], "/nonexistent"),
    ],
)
def test_bad_requests_get_one_message_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [*YULANMINI, "reproduce", "--scale", "smoke", "--out", str(tmp_path / "run"), *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = subprocess.run(command(tmp_path / "file" / "run"), capture_output=True, text=True)
    assert done.returncode == 2
    assert "file" in done.stderr
    assert "Traceback" not in done.stderr


def test_dry_run_lists_the_stages_and_writes_nothing(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path / "run", "--dry-run"), capture_output=True, text=True)
    assert done.returncode == 0
    assert all(stage.name in done.stderr for stage in STAGES)
    assert not (tmp_path / "run").exists()
