"""`transformers serve` for tests: one for all workers, started when a test first asks for it, gone when pytest is.

As a program (`python transformers_server.py WATCHED serve MODEL ...`) it is `transformers` itself, but ends with the
process WATCHED: a killed pytest leaves no server behind.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

START_SECONDS = 240  # on a busy machine, imports alone take a minute


@dataclass(frozen=True)
class ServedMiniature:
    """A running server. `model` is its name in requests, the folder that it was started with."""

    url: str
    model: str


def start_serving(model: Path, log: Path, program: list[str], *options: str) -> tuple[subprocess.Popen[bytes], str]:
    """`transformers serve MODEL` on a free port, started by `program` and answering; the process, and its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [*program, "serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return process, f"http://127.0.0.1:{port}/v1"
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise RuntimeError(f"{' '.join(command)} does not answer:\n{log.read_text(errors='replace')[-2000:]}")


def serve_once(model: Path, shared: Path) -> ServedMiniature:
    """The server of all workers, whose common folder is `shared`."""
    watched = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    address = shared / "transformers-serve.url"
    with (shared / "transformers-serve.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.is_file():
            program = [sys.executable, __file__, str(watched)]
            address.write_text(start_serving(model, shared / "transformers-serve.log", program)[1])
    return ServedMiniature(address.read_text(), str(model))


def end_with(watched: int) -> None:
    """End this process as Ctrl-C does soon after another one has ended."""
    while Path(f"/proc/{watched}").exists():
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    watched = int(sys.argv.pop(1))
    threading.Thread(target=end_with, args=(watched,), daemon=True).start()
    from transformers.cli.transformers import main

    main()
