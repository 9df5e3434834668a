"""What `run_program` says of ordinary programs, how fast it is, and that it refuses where nothing isolates."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from eval.code_runner import run_program, run_programs, runner
from eval.code_runner.backends import BACKENDS
from eval.code_runner.runner import run_isolated, usable
from eval.code_runner.syscalls import ARCHITECTURES, CLONE, CLONE3, DENIED, IGNORED, ONLY_ITSELF, SOCKETPAIR
from eval.errors import EvalError

WORKING = usable()[0]
pytestmark = pytest.mark.skipif(not WORKING, reason=f"nothing isolates here: {usable()[1]}")
each_way = pytest.mark.parametrize("backend", WORKING, ids=lambda backend: backend.name)

ADD = "def add(a, b):\n    return a + b\n"


@each_way
@pytest.mark.parametrize(
    ("source", "tests", "status"),
    [
        (ADD, "assert add(1, 2) == 3", "passed"),
        (ADD, "assert add(1, 2) == 4", "failed"),
        (ADD, "", "passed"),
        ("", "", "passed"),
        ("x = 1", "assert __name__ == '__main__' and x == 1", "passed"),
        ("raise SystemExit", "", "failed"),
        ("x = 1", "raise KeyboardInterrupt", "failed"),
        ("def f(:", "", "failed"),
        ("x = 'a\0b'", "", "failed"),
        ("x = '\ud800'", "", "failed"),
        ("f = lambda: f()", "f()", "failed"),
        ("import os; os.abort()", "", "killed"),
        ("while True: pass", "", "timeout"),
        ("import sys; sys.stdout = sys.stderr = None", "x = 1", "passed"),
        ("import asyncio", "assert asyncio.run(asyncio.sleep(0, 7)) == 7", "passed"),
        (
            "from concurrent.futures import ThreadPoolExecutor as P",
            "assert sum(P(8).map(abs, range(9))) == 36",
            "passed",
        ),
        ("import multiprocessing as m", "assert m.get_context('fork').Pool is not None", "passed"),
        ("import subprocess", "assert subprocess.check_output(['echo', 'a']) == b'a\\n'", "passed"),
        ("import tempfile, shutil", "shutil.copy(tempfile.NamedTemporaryFile(delete=False).name, 'copy')", "passed"),
        ("import numpy", "assert numpy.linalg.det(numpy.eye(9)) == 1", "passed"),
        (
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    a: int",
            "import pickle; pickle.dumps(A(1))",
            "passed",
        ),
    ],
    ids=range(21),
)
def test_status(backend, source, tests, status):
    result = run_isolated(backend, source, tests=tests, seconds=1.0 if status == "timeout" else 10.0)
    assert (result.status, result.isolation) == (status, backend.name), result
    assert bool(result.reason) == (status != "passed")


@each_way
def test_streams_are_the_program_s(backend):
    result = run_isolated(
        backend, "import sys\nprint(input())\nsys.stderr.write(sys.stdin.read())", stdin="één\n" + "x" * 9
    )
    assert (result.status, result.stdout, result.stderr) == ("passed", "één\n", "x" * 9)
    large = run_isolated(backend, "import sys; print(len(sys.stdin.read()))", stdin="x" * 5_000_000, seconds=10.0)
    assert large.stdout == "5000000\n"


@each_way
def test_output_is_cut_at_the_limit_and_ends_the_program(backend):
    result = run_isolated(backend, "print('x' * 1001)", output_bytes=1000)
    assert (result.status, result.stdout) == ("killed", "x" * 1000)
    assert "1,000" in result.reason
    assert run_isolated(backend, "print('x' * 999)", output_bytes=1000).status == "passed"


@each_way
def test_a_failing_test_is_shown_as_python_shows_it(backend):
    result = run_isolated(backend, ADD, tests="\n\nassert add(1, 1) == 3, 'no sum'")
    assert 'File "tests.py", line 3' in result.stderr
    assert "assert add(1, 1) == 3" in result.stderr
    assert "guest" not in result.stderr
    assert result.reason == "AssertionError: no sum"


@each_way
def test_memory_is_limited_to_what_was_asked(backend):
    source = "held = bytearray({} * 2**20)"
    assert run_isolated(backend, source.format(200), memory_bytes=2**27, seconds=10.0).reason == "MemoryError"
    assert run_isolated(backend, source.format(200), memory_bytes=2**29, seconds=10.0).status == "passed"


@each_way
def test_the_same_program_gives_the_same_output(backend):
    source = "print({str(n) for n in range(99)}, hash('a'))"
    assert run_isolated(backend, source).stdout == run_isolated(backend, source).stdout


@each_way
def test_nothing_is_kept_between_programs(backend):
    assert run_isolated(backend, "open('kept', 'w').write('x')").status == "passed"
    assert run_isolated(backend, "open('kept')").status == "failed"


@each_way
def test_set_up_costs_less_than_a_tenth_of_a_second(backend):
    """Over starting Python alone; the best of several, because other tests share the machine."""
    if backend is not WORKING[0]:
        pytest.skip("only the way that is in use has to be fast")

    def fastest(run) -> float:
        times = []
        for _ in range(12):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        return min(times)

    python = fastest(lambda: subprocess.run([sys.executable, "-S", "-c", ADD], check=True))
    assert fastest(lambda: run_isolated(backend, ADD, tests="assert add(1, 1) == 2")) - python < 0.1


def _square(number: int) -> str:
    return run_program(f"print({number} ** 2)", seconds=20.0).stdout


def test_many_at_once_from_threads_and_processes():
    wanted = [f"{number**2}\n" for number in range(12)]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(_square, range(12))) == wanted
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert list(processes.map(_square, range(12))) == wanted


def test_a_batch_keeps_its_order_whatever_fails():
    programs = [{"source": f"x = {n}", "tests": "assert x % 2 == 0", "seconds": 20.0} for n in range(6)]
    assert [result.status for result in run_programs(programs, workers=3)] == ["passed", "failed"] * 3


def _alive(name: str) -> int:
    count = 0
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            count += path.read_text().strip() == name and ") Z" not in (path.parent / "stat").read_text()
        except OSError:
            continue
    return count


STRAYS = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.prctl(15, b'{name}', 0, 0, 0)
libc.prctl(1, 0, 0, 0, 0)  # no signal when the parent ends
for _ in range(2):
    os.fork()
while True:
    pass
"""


@each_way
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_and_its_children_end_with_the_caller(backend, number, tmp_path):
    name = f"stray-{os.getpid() % 10**6}"
    call = f"run_isolated(backend_named({backend.name!r}), {STRAYS.format(name=name)!r}, seconds=60.0)"
    call = "from eval.code_runner.runner import backend_named, run_isolated\n" + call
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    caller = subprocess.Popen([sys.executable, "-c", call], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60.0
    while _alive(name) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    caller.send_signal(number)
    caller.wait()
    while _alive(name) or any(tmp_path.iterdir()):
        assert time.monotonic() < deadline, "the program or its folder outlived the caller"
        time.sleep(0.05)


@pytest.mark.parametrize("home", ["/", "/usr/sbin", "/nonexistent", "/tmp"])
def test_any_home_will_do(home):
    """Those of users of containers and services too: a trial that asks for the wrong files would refuse everything."""
    code = "from eval.code_runner.runner import usable; print([backend.name for backend in usable()[0]])"
    environment = os.environ | {"HOME": home}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([backend.name for backend in WORKING])


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"seconds": 0.0}, "seconds 0.0: expected a number above 0"),
        ({"seconds": float("nan")}, "seconds nan"),
        ({"seconds": float("inf")}, "seconds inf"),
        ({"memory_bytes": 1000}, "memory_bytes 1,000: Python itself needs"),
        ({"output_bytes": -1}, "output_bytes -1"),
    ],
)
def test_a_limit_that_is_none_is_refused(limit, message):
    with pytest.raises(EvalError, match=message):
        run_program("x = 1", **limit)


def test_a_start_that_fails_is_tried_again(monkeypatch):
    real, failures = runner.run_isolated, iter([OSError("out of processes")])

    def flaky(backend, source, **limits):
        for error in failures:
            return runner.ProgramResult("refused", "", "", 0.0, "none", str(error))
        return real(backend, source, **limits)

    monkeypatch.setattr(runner, "run_isolated", flaky)
    assert run_program("x = 1").status == "passed"


def test_where_nothing_isolates_nothing_is_run(monkeypatch, tmp_path):
    missing = {backend.name: "not here" for backend in BACKENDS}
    monkeypatch.setattr(runner, "usable", lambda: ([], missing))
    result = run_program(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert (result.status, result.isolation, result.seconds) == ("refused", "none", 0.0)
    assert "bubblewrap: not here" in result.reason
    assert not (tmp_path / "ran").exists()


def test_a_backend_that_does_not_isolate_is_not_used():
    class Open(runner.Backend):
        name = "open"
        own_processes = False

        def missing(self):
            return None

        def command(self, guest, folder, space):
            # The guest alone, in a folder that exists: it takes rights away but hides nothing.
            return [part.replace('os.chdir(job["folder"])', "os.chdir('/tmp')") for part in guest]

    assert "can be read" in runner.what_is_missing(Open())


@pytest.mark.parametrize(
    ("target", "value", "message"),
    [
        ("sys.platform", "darwin", "parts of Linux; this is darwin"),
        ("platform.machine", lambda: "riscv64", "processor"),
    ],
)
def test_other_systems_and_processors_are_refused(monkeypatch, target, value, message):
    monkeypatch.setattr(target, value)
    usable.cache_clear()
    try:
        (result,) = run_programs([{"source": "x = 1"}])
    finally:
        usable.cache_clear()
    assert result.status == "refused"
    assert message in result.reason


def test_a_backend_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "bwrap is not installed" in BACKENDS[0].missing()


def test_system_calls_are_numbered_as_in_the_kernel_s_header():
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.is_file():
        pytest.skip("the kernel's headers are not installed")
    lines = (line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_"))
    numbers = {words[1].removeprefix("__NR_"): int(words[2]) for words in lines}
    column = ARCHITECTURES["x86_64"][1]
    named = DENIED | IGNORED | ONLY_ITSELF | {"clone": CLONE, "clone3": CLONE3, "socketpair": SOCKETPAIR}
    newer = {name for name in named if name not in numbers}
    assert newer <= {
        "fchmodat2",
        "setxattrat",
        "removexattrat",
        "file_setattr",
        "process_mrelease",
        "quotactl_fd",
        "memfd_secret",
        "open_tree_attr",
    }
    assert {name: named[name][column] for name in named if name not in newer} == {
        name: numbers[name] for name in named if name not in newer
    }
