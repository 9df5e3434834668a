"""Make `accelerate launch --cpu --num_processes N` mean N ranks.

accelerate starts one process on a CPU whatever `--num_processes` is, unless MPI is there. The only traces are
MASTER_ADDR without a RANK, and its command line. From these the ranks are started here, one process each.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate.commands.config.config_args import default_config_file, load_config_from_file
from accelerate.commands.launch import launch_command_parser

from train.errors import TrainError

# The word before accelerate's options: `accelerate launch`, `accelerate-launch`, `python -m ...` and our own.
LAUNCHERS = ("launch", "accelerate-launch", "accelerate.commands.launch", "accelerate_main.py")


def start_missing_ranks(check: Callable[[int], None]) -> int | None:
    """Run this command on as many ranks as accelerate was asked for; rank 0's exit code, or None if all are there.

    `check` is called with that number first, and raises if so many ranks are not possible.
    """
    if "RANK" in os.environ or "MASTER_ADDR" not in os.environ or "ACCELERATE_MIXED_PRECISION" not in os.environ:
        return None
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" or not torch.cuda.is_available()
    if not on_cpu or any(name.startswith(("OMPI_", "PMI_", "MPI_", "MV2_")) for name in os.environ):
        return None
    count = _requested_ranks(psutil.Process(os.getppid()).cmdline())
    if count is None:
        raise TrainError(
            "accelerate was asked for several processes on a CPU but started one. "
            f"Use `torchrun --standalone --nproc_per_node N {sys.argv[0]} CONFIG` instead."
        )
    if count == 1:
        return None
    check(count)
    return _run_ranks(count)


def _run_ranks(count: int) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    ranks = [
        subprocess.Popen([sys.executable, *sys.argv], env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]

    def pass_on(number: int, frame: Any) -> None:
        for process in ranks:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    # A Ctrl-C at the terminal reaches the ranks by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pass_on)
    codes = [process.poll() for process in ranks]
    while None in codes and not any(codes):
        time.sleep(0.1)
        codes = [process.poll() for process in ranks]
    if any(codes):  # the others wait for the lost rank in a collective, or are about to end in the same way
        _end_the_rest(ranks)
    code = next((code for code in (process.wait() for process in ranks) if code), 0)
    first = ranks[0].returncode or code
    if first < 0:
        print(
            f"error: a rank was ended by signal {-first}; the same command resumes from the last checkpoint.",
            file=sys.stderr,
        )
        return 128 - first
    return first


def _end_the_rest(ranks: list[subprocess.Popen[bytes]], patience: float = 5.0) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(process.poll() is None for process in ranks):
        time.sleep(0.1)
    for process in ranks:
        if process.poll() is None:
            process.kill()


def _requested_ranks(command_line: list[str]) -> int | None:
    """`num_processes` of accelerate's own command line, read by its own parser, or of the file that it names."""
    names = [Path(word).name for word in command_line]
    launcher = next((at for at, name in enumerate(names) if name in LAUNCHERS), None)
    if launcher is None:
        return None
    asked = launch_command_parser().parse_args(command_line[launcher + 1 :])
    if asked.config_file is None and (asked.cpu or not Path(default_config_file).is_file()):
        return asked.num_processes
    file = load_config_from_file(asked.config_file)
    if asked.cpu and str(file.distributed_type).endswith("FSDP"):
        raise TrainError(
            f"accelerate: with --cpu it leaves the FSDP answers of {asked.config_file} out without a word. Put "
            "`use_cpu: true` into the file and leave --cpu away, or leave the file away."
        )
    return asked.num_processes if asked.num_processes is not None else file.num_processes
