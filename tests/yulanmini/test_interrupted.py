"""Ctrl-C at any moment: exit code 130 and one line, no traceback; while the libraries load, and in the middle of work.

Times count from when Python runs: what comes before, the start of the interpreter, is not ours to catch.
"""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, sys
script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
os.write(int(os.environ.pop("READY")), b"x")
if script == "yulanmini":
    from yulanmini.cli import main
    main()
else:
    from runpy import run_path
    run_path(script, run_name="__main__")
"""
COMMANDS = (
    "yulanmini model params model",
    "yulanmini model merge model new",
    "yulanmini train export run/checkpoints/step-00000002 new",
    "yulanmini train lr-transfer --run reproduction --out new",
    "yulanmini eval run llama --data corpus --suite heldout",
    "yulanmini chat llama --prompt Hello",
    f"{REPOSITORY / 'train' / 'sft.py'} sft.yaml",
    f"{REPOSITORY / 'train' / 'pretrain.py'} pretrain.yaml",
)


def started(line: str, folder: Path) -> subprocess.Popen[str]:
    """The command in a process of its own, once its Python runs."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *line.split()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "READY": str(writing)},
        pass_fds=[writing],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert select.select([reading], [], [], 60)[0]
    os.close(reading)
    return process


def check_interrupted(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    assert "error" not in stderr.lower()
    assert process.returncode == 130, stderr
    if "chat" not in process.args:  # nothing of a conversation is kept
        assert "the same command resumes" in stderr


@pytest.mark.parametrize("seconds", [0.1, 0.6])
@pytest.mark.parametrize("line", COMMANDS)
def test_an_interruption_while_python_starts_is_one_line(line, seconds, place) -> None:
    process = started(line, place)
    time.sleep(seconds)
    check_interrupted(process)


@pytest.mark.slow
def test_an_interruption_in_the_middle_of_a_study_is_one_line(place, tmp_path) -> None:
    out = tmp_path / "study"
    options = "--widths 64 --columns standard --steps 100 --seeds 1"
    process = started(f"yulanmini train lr-transfer --run reproduction --out {out} {options}", place)
    deadline = time.monotonic() + 100
    while not list(out.glob("*/run/metrics.jsonl")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    check_interrupted(process)
