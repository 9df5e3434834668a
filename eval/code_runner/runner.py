"""`run_program`: a program that a model wrote, and its tests, run where neither can do harm (docs/code-runner.md)."""

import itertools
import marshal
import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from data_recipes.errors import nearest
from eval.code_runner.backends import (
    BACKENDS,
    FIRST_USER,
    LAST_USER,
    PYTHON,
    WORK,
    Backend,
    Space,
    as_root,
    environment,
    interpreter,
    packages,
    readable_paths,
)
from eval.code_runner.syscalls import filter_program
from eval.code_runner.watch import Ending, Watch, watched
from eval.errors import EvalError

Status = Literal["passed", "failed", "timeout", "killed", "refused"]
GUEST = Path(__file__).resolve().parent / "guest.py"
SPACE = Space()
OPEN_FILES, STACK_BYTES, NONCE_BYTES = 64, 2**23, 32
LEAST_MEMORY_BYTES = 2**26
START_ATTEMPTS = 3  # what worked in the trial may fail to start on a machine that is out of processes for a moment
_turn = itertools.count()

# What must hold before a backend is trusted with anything. The attacks (attacks.py) ask for far more.
TRIAL = """
import os, socket, subprocess, sys, threading
open("file", "w").write("x" * 1000)
threading.Thread(target=print).start()
assert subprocess.run([sys.executable, "-S", "-c", "print(1)"], capture_output=True).stdout == b"1\\n"
assert not set(os.environ) - set(NAMES), sorted(os.environ)
for path in FORBIDDEN:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).read()
    except OSError:
        continue
    raise AssertionError(path + " can be read")
try:
    socket.socket()
except OSError:
    pass
else:
    raise AssertionError("a socket can be opened")
"""


@dataclass(frozen=True)
class ProgramResult:
    """How a program ended.

    `status`: "passed" (the end of the last test was reached), "failed" (an error, or it left before), "timeout",
    "killed" (a signal or a limit ended it), "refused" (this machine cannot isolate it: nothing was run). `reason` says
    why in a sentence, empty where it passed. `stdout` and `stderr` hold at most the limit of output. `seconds` are
    those of the program, without those of setting up. `isolation` names the backend, "none" where it was refused.
    """

    status: Status
    stdout: str
    stderr: str
    seconds: float
    isolation: str
    reason: str = ""


def run_program(
    source: str,
    *,
    tests: str = "",
    stdin: str = "",
    seconds: float = 5.0,
    memory_bytes: int = 2**29,
    output_bytes: int = 2**16,
) -> ProgramResult:
    """Run Python source, then its tests in the same module, isolated from this machine.

    Args:
        source, tests: Python text. It passes when both run to the end; a failing test raises.
        stdin: what the program finds on its standard input.
        seconds: wall time of both together.
        memory_bytes: address space of a process, and resident memory of all that it starts.
        output_bytes: of each of stdout and stderr; a program that writes more is ended.

    Never raises for what the program does, but `EvalError` for limits that are none. Several threads and processes may
    call it at once.
    """
    check_limits(seconds, memory_bytes, output_bytes)
    found, missing = usable()
    if not found:
        reason = "; ".join(f"{name}: {what}" for name, what in missing.items())
        return ProgramResult("refused", "", "", 0.0, "none", f"this machine cannot isolate a program: {reason}.")
    for _ in range(START_ATTEMPTS):
        result = run_isolated(
            found[0],
            source,
            tests=tests,
            stdin=stdin,
            seconds=seconds,
            memory_bytes=memory_bytes,
            output_bytes=output_bytes,
        )
        if result.status != "refused":
            break
    return result


def check_limits(seconds: float, memory_bytes: int, output_bytes: int) -> None:
    """`EvalError` for a limit that would not limit, or that Python itself does not fit into."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise EvalError(f"seconds {seconds}: expected a number above 0.")
    if memory_bytes < LEAST_MEMORY_BYTES:
        raise EvalError(f"memory_bytes {memory_bytes:,}: Python itself needs {LEAST_MEMORY_BYTES:,}; ask for more.")
    if output_bytes < 0:
        raise EvalError(f"output_bytes {output_bytes}: expected 0 or more.")


def run_programs(programs: Iterable[Mapping[str, Any]], *, workers: int | None = None) -> Iterator[ProgramResult]:
    """`run_program` for many, in order; each is the arguments of one: `{"source": ..., "tests": ...}`.

    `workers` run at once, by default one a core. Limits of time are wall time: more workers than cores make
    programs slow that are not.
    """
    usable()  # tried once, not by each worker
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1  # elsewhere all are refused
    with ThreadPoolExecutor(workers or cores) as pool:
        yield from pool.map(lambda program: run_program(**program), programs)


def backend_named(name: str) -> Backend:
    """A backend by its name."""
    kinds = {backend.name: backend for backend in BACKENDS}
    if name not in kinds:
        raise EvalError(f"no isolation '{name}'.{nearest(name, kinds)}")
    return kinds[name]


@cache
def usable() -> tuple[list[Backend], dict[str, str]]:
    """The backends that isolate on this machine, best first, and what the others lack; tried once a process."""
    found, missing = [], {}
    for backend in BACKENDS:
        lacking = what_is_missing(backend)
        if lacking is None:
            found.append(backend)
        else:
            missing[backend.name] = lacking
    return found, missing


def what_is_missing(backend: Backend) -> str | None:
    """Why a backend cannot be used here, None when a program ran in it and was isolated."""
    if sys.platform != "linux":
        return f"isolation is made of parts of Linux; this is {sys.platform}"
    if filter_program() is None:
        return f"no list of system calls for this processor ({os.uname().machine})"
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        return "this kernel does not list a process's children (CONFIG_PROC_CHILDREN), so they could not be ended"
    lacking = backend.missing()
    if lacking is not None:
        return lacking
    names = [*environment(WORK), "LC_CTYPE", "PWD"]
    forbidden = ["/proc/self/environ", "/etc/passwd", str(Path(__file__).resolve()), *_some_of_home()]
    trial = run_isolated(backend, f"NAMES = {names!r}\nFORBIDDEN = {forbidden!r}\n{TRIAL}", seconds=20.0)
    if trial.status == "passed":
        return None
    lines = (trial.stderr.strip() or trial.reason).splitlines()
    return f"a trial {trial.status} ({lines[-1] if lines else 'without a message'})"


def _some_of_home() -> list[str]:
    """A few files and folders of the user's home that no program needs; none where it is no home but the system."""
    home = os.path.realpath(os.path.expanduser("~"))
    shown = readable_paths()
    if home == "/" or any(Path(home).is_relative_to(path) for path in shown):
        return []
    try:
        names = sorted(os.listdir(home))
    except OSError:
        return []
    paths = [os.path.join(home, name) for name in names]
    return [path for path in paths if not any(Path(one).is_relative_to(path) for one in shown)][:20]


def run_isolated(
    backend: Backend,
    source: str,
    *,
    tests: str = "",
    stdin: str = "",
    seconds: float = 5.0,
    memory_bytes: int = 2**29,
    output_bytes: int = 2**16,
) -> ProgramResult:
    """`run_program` in a backend of the caller's choice, whether or not it was tried."""
    limits = {
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": SPACE.bytes,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_STACK": STACK_BYTES,
    }
    if backend.own_processes:
        limits["RLIMIT_NPROC"] = SPACE.processes
    nonce = secrets.token_bytes(NONCE_BYTES)
    with _folder(backend) as folder:
        job = {
            "source": source,
            "tests": tests,
            "stdin": stdin.encode("utf-8", "surrogatepass"),
            "folder": folder,
            "limits": limits,
            "user": _user() if backend.own_processes and as_root() else None,
            "filter": filter_program(),
            "packages": packages(),
        }
        watch = Watch(
            seconds=seconds,
            memory_bytes=memory_bytes,
            output_bytes=output_bytes,
            space=SPACE,
            folder=Path(folder) if backend.hosts_files else None,
        )
        guest = [interpreter(), *PYTHON, "-c", GUEST.read_text(encoding="utf-8")]
        try:
            ending = watched(
                backend.command(guest, folder, SPACE), environment(folder), marshal.dumps(job), nonce, watch
            )
        except OSError as error:
            return ProgramResult("refused", "", "", 0.0, "none", f"{backend.name}: {error}")
    return _result(ending, backend, watch)


def _user() -> int:
    """A user that no other program at this time is likely to have."""
    return FIRST_USER + (os.getpid() * 61 + next(_turn)) % (LAST_USER - FIRST_USER + 1)


@contextmanager
def _folder(backend: Backend) -> Iterator[str]:
    """The program's folder, and its end whatever the program made of it."""
    if not backend.hosts_files:
        yield WORK
        return
    folder = tempfile.mkdtemp(prefix="program-")
    try:
        yield os.path.realpath(folder)
    finally:
        # Not shutil.rmtree: folders nested deeper than Python recurses, or without rights, would stay.
        subprocess.run(["chmod", "-R", "u+rwX", "--", folder], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", "--one-file-system", "--", folder], capture_output=True, check=False)


def _result(ending: Ending, backend: Backend, watch: Watch) -> ProgramResult:
    stdout, stderr = (
        bytes(stream[: watch.output_bytes]).decode("utf-8", "replace") for stream in (ending.stdout, ending.stderr)
    )
    if not ending.ready:
        lines = stderr.strip().splitlines()
        reason = lines[-1] if lines else "it did not start" if ending.timed_out else f"exit code {ending.code}"
        return ProgramResult("refused", "", stderr, 0.0, "none", f"{backend.name}: {reason}")
    status, reason = _verdict(ending, watch, stderr)
    return ProgramResult(status, stdout, stderr, ending.seconds, backend.name, reason)


def _verdict(ending: Ending, watch: Watch, stderr: str) -> tuple[Status, str]:
    if ending.stopped is not None:
        return "killed", f"it {ending.stopped}"
    if ending.passed:
        return "passed", ""
    if ending.timed_out:
        return "timeout", f"it ran longer than {watch.seconds:g} seconds"
    code = ending.code or 0
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if number:
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return "killed", f"it was ended by {name}"
    lines = stderr.strip().splitlines()
    return "failed", lines[-1] if lines and code else f"it ended with exit code {code} before its last test"
