"""Output that is piped to a reader which ends early, such as `head`."""

import subprocess
import sys


def test_a_reader_that_ends_early_is_no_error() -> None:
    command = f"{sys.executable} -u -m yulanmini.cli recipe show 27 --json | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout == "{\n"
    assert done.stderr == ""
