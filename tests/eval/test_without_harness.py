"""What needs no extra runs without it and starts fast: nothing of lm-eval is imported for the suite quick."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
sys.modules["lm_eval"] = None  # as if it were not installed
sys.modules["sandlock"] = None
sys.argv = ["yulanmini", "eval", "run", *sys.argv[1:]]
from yulanmini.cli import main
main()
"""


def run(*arguments):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_quick_needs_no_extra_and_the_others_say_which(model_folder, corpus):
    small = ["--set", "per_kind=1", "--set", "bytes_per_domain=300", "--data", corpus]
    quick = run(model_folder, "--suite", "quick", *small)
    assert quick.returncode == 0, quick.stderr
    base = run(model_folder, "--suite", "arc-easy", "--dry-run")
    assert base.returncode == 2
    assert "pip install 'yulanmini[eval]'" in base.stderr
    assert "Traceback" not in base.stderr
