"""What a result says of the machine it was made on, and of the memory that it took."""

import getpass
import json
import os
import platform
import socket
import subprocess
import sys

import numpy as np

from data_recipes.machine import peak_memory, this_machine


def test_a_machine_is_described_without_names_of_host_user_or_folder() -> None:
    found = this_machine()
    assert found["python"] == platform.python_version()
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert found["memory_bytes"] > 2**28
    text = json.dumps(found)
    assert os.getcwd() not in text
    for name in (socket.gethostname(), os.path.expanduser("~")):
        assert len(name) < 4 or name not in text
    assert len(getpass.getuser()) < 5 or getpass.getuser() not in text


def test_peak_memory_is_that_of_the_process_itself_and_not_of_the_one_that_started_it() -> None:
    np.ones(2**26)  # half a gibibyte
    shown = "from data_recipes.machine import peak_memory; print(peak_memory())"
    assert int(subprocess.check_output([sys.executable, "-c", shown], text=True)) < 2**29 < peak_memory()
