"""Programs that use up the machine, or report a success that they did not have; and what an attack is.

The other attacks, and the list of all, are in `attacks.py`.
"""

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True)
class Attack:
    """A program and what it tries. `ends_as`: the only endings that count as held, where more is known."""

    name: str
    tries: str
    source: str
    ends_as: tuple[str, ...] = ("failed", "killed", "timeout")
    tests: str = "reached = True\n"


def attack(name: str, tries: str, source: str, *ends_as: str, tests: str = Attack.tests) -> Attack:
    return Attack(name, tries, dedent(source).strip() + "\n", ends_as or Attack.ends_as, tests)


SYSTEM_CALL = """
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
def call(numbers, *values):
    result = libc.syscall(numbers[COLUMNS[platform.machine()]], *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""

EXHAUSTING = (
    attack(
        "fork-bomb",
        "start processes until the machine has no more",
        """
        import os, time
        for _ in range(2000):
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        """,
    ),
    attack(
        "doubling-fork-bomb",
        "start processes that all start processes",
        """
        import os
        for _ in range(64):
            try:
                os.fork()
            except OSError:
                pass
        while True:
            pass
        """,
    ),
    attack(
        "thread-bomb",
        "start threads until the machine has no more",
        """
        import threading, time
        threading.stack_size(32768)
        for _ in range(4000):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        """,
    ),
    attack(
        "output",
        "write 2 GB to standard output",
        """
        import os
        for _ in range(2048):
            os.write(1, b"x" * 2**20)
        """,
    ),
    attack(
        "error-output",
        "write 2 GB to standard error",
        """
        import os
        for _ in range(2048):
            os.write(2, b"x" * 2**20)
        """,
    ),
    attack(
        "disk",
        "fill the disk with 1 GB in its own folder",
        """
        for number in range(64):
            with open(f"file-{number}", "wb") as file:
                file.write(b"x" * 2**24)
        """,
    ),
    attack(
        "one-big-file",
        "write a file of 1 GB",
        """
        with open("file", "wb") as file:
            for _ in range(64):
                file.write(b"x" * 2**24)
        """,
    ),
    attack(
        "many-files",
        "make 200,000 files",
        """
        import os
        for number in range(200_000):
            os.close(os.open(f"file-{number}", os.O_CREAT | os.O_WRONLY))
        """,
    ),
    attack(
        "shared-memory",
        "fill /dev/shm, which no limit of a process counts",
        """
        for number in range(64):
            with open(f"/dev/shm/attack-{SCENE['token']}-{number}", "wb") as file:
                file.write(b"x" * 2**24)
        """,
    ),
    attack(
        "anonymous-files",
        "hold memory in files that have no name",
        """
        import os
        for number in range(64):
            os.write(os.memfd_create("x"), b"x" * 2**24)
        """,
    ),
    attack(
        "hides-deep",
        "hold 300 MB on disk where paths are too long to look",
        """
        import os, time
        for _ in range(24):
            os.mkdir("a" * 200)
            os.chdir("a" * 200)
        for number in range(20):
            with open(f"file-{number}", "wb") as file:
                file.write(b"x" * 2**24)
        time.sleep(0.3)
        """,
    ),
    attack(
        "hides-unreadable",
        "hold 300 MB on disk in a folder that nobody may list",
        """
        import os, time
        os.mkdir("hidden", 0o300)
        for number in range(20):
            with open(f"hidden/file-{number}", "wb") as file:
                file.write(b"x" * 2**24)
        time.sleep(0.3)
        """,
    ),
    attack(
        "hides-removed",
        "hold 300 MB on disk in files that are open but have no name",
        """
        import os, time
        held = []
        for number in range(20):
            held.append(open(f"file-{number}", "wb", buffering=0))
            os.remove(f"file-{number}")
            held[-1].write(b"x" * 2**24)
        time.sleep(0.3)
        """,
    ),
    attack(
        "hides-mapped",
        "hold 300 MB on disk in files that are mapped, but neither open nor named",
        """
        import ctypes, os, time
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_size_t
        for number in range(20):
            descriptor = os.open(f"file-{number}", os.O_CREAT | os.O_RDWR)
            os.write(descriptor, b"x" * 2**24)
            os.fsync(descriptor)
            shared = 1 + number % 2  # MAP_SHARED and MAP_PRIVATE in turn, one page: it holds the whole file
            assert libc.mmap(None, ctypes.c_size_t(4096), 1, shared, descriptor, ctypes.c_size_t(0)) != 2**64 - 1
            os.close(descriptor)
            os.remove(f"file-{number}")
        time.sleep(0.3)
        """,
    ),
    attack(
        "hides-in-flight",
        "hold 300 MB on disk in files that are open only in messages on their way",
        """
        import os, socket, time
        pairs = [socket.socketpair() for _ in range(5)]
        for number in range(20):
            descriptor = os.open(f"file-{number}", os.O_CREAT | os.O_RDWR)
            os.remove(f"file-{number}")
            os.write(descriptor, b"x" * 2**24)
            socket.send_fds(pairs[number % 5][0], [b"x"], [descriptor])
            os.close(descriptor)
        time.sleep(0.3)
        """,
    ),
    attack(
        "floods-runner",
        "write 2 GB to every file that the runner left open",
        """
        import os, stat
        for descriptor in range(3, 64):
            try:
                if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    continue
            except OSError:
                continue
            for _ in range(2048):
                os.write(descriptor, b"x" * 2**20)
        """,
    ),
    attack("memory", "take 2 GB of memory", "held = bytearray(2**31)"),
    attack(
        "memory-by-pieces",
        "take memory in small pieces for ever",
        """
        held = []
        while True:
            held.append(bytearray(2**16))
        """,
    ),
    attack(
        "memory-of-many",
        "take 300 MB in each of eight processes",
        """
        import os, time
        done, tell = os.pipe()
        for _ in range(8):
            if os.fork() == 0:
                held = bytearray(b"x") * (300 * 2**20)
                os.write(tell, b"x")
                time.sleep(60)
        for _ in range(8):
            os.read(done, 1)
        """,
    ),
    attack("endless-loop", "compute for ever", "while True: pass", "timeout"),
    attack("sleep", "wait for ever without computing", "import time; time.sleep(1e6)", "timeout"),
    attack("waits-for-input", "wait for input that never ends", "import os\nwhile True: os.read(0, 1)", "timeout"),
    attack(
        "stops-itself",
        "stop, so that it cannot end",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\nwhile True: pass",
        "timeout",
    ),
    attack(
        "signal-handlers",
        "ignore every signal that can be ignored, and go on",
        """
        import signal
        for number in range(1, signal.NSIG):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass
        """,
        "timeout",
    ),
    attack(
        "raises-its-limits",
        "lift the limits that were set for it",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))
        """,
    ),
)

FORGING = (
    attack("exit-0", "leave with exit code 0 before the tests", "import os; os._exit(0)", "failed"),
    attack("sys-exit-0", "leave by sys.exit(0) before the tests", "import sys; sys.exit(0)", "failed"),
    attack(
        "exits-late",
        "leave with exit code 0 when the tests fail",
        "import atexit, os; atexit.register(os._exit, 0); raise AssertionError",
        "failed",
    ),
    attack("becomes-true", "turn into a program that succeeds", "import os; os.execv('/bin/true', ['true'])", "failed"),
    attack(
        "kills-interpreter",
        "end the interpreter by a signal",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\nimport ctypes; ctypes.string_at(0)",
        "killed",
    ),
    attack(
        "prints-marker",
        "print what may look like success",
        "import os\nfor word in ('passed', 'confined', 'ok', '0' * 64): print(word)\nos._exit(0)",
        "failed",
    ),
    attack(
        "writes-to-all",
        "write what may look like success into every open file",
        """
        import os
        for descriptor in range(256):
            try:
                os.write(descriptor, b"confined" + b"\\0" * 32)
            except OSError:
                pass
        os._exit(0)
        """,
        "failed",
    ),
    attack(
        "closes-all",
        "close every open file, the runner's too",
        "import os; os.closerange(0, 256); os._exit(0)",
        "failed",
    ),
    attack(
        "answers-in-a-child",
        "let a child leave as if all had been well",
        "import os\nif os.fork() == 0: os._exit(0)\nos.wait()\nraise AssertionError",
        "failed",
    ),
    attack(
        "replaces-builtins",
        "replace what would run the tests",
        """
        import builtins, os
        builtins.exec = builtins.compile = builtins.eval = lambda *arguments, **named: None
        builtins.AssertionError = type("AssertionError", (BaseException,), {})
        os._exit = lambda code: None
        """,
        "failed",
        tests="assert False",
    ),
    attack(
        "replaces-marker",
        "replace what would report the end",
        "import os\nos.read = lambda descriptor, count: b'0' * count\nos._exit(0)",
        "failed",
    ),
    attack("syntax", "be no program at all", "def f(:", "failed"),
)
