"""Programs that try to do harm. `yulanmini eval runner` and the tests run all of them; none may reach its end.

Each is a program that ends normally only where it did what it tries. It finds in `SCENE` what was laid out for it
(`scene.py`): the caller's process, a folder that anyone may write to, listeners, a secret. What it did outside is
looked at from outside.
"""

from dataclasses import dataclass
from textwrap import dedent

from eval.code_runner.syscalls import ARCHITECTURES, DENIED


@dataclass(frozen=True)
class Attack:
    """A program and what it tries. `ends_as`: the only endings that count as held, where more is known."""

    name: str
    tries: str
    source: str
    ends_as: tuple[str, ...] = ("failed", "killed", "timeout")
    tests: str = "reached = True\n"


def _attack(name: str, tries: str, source: str, *ends_as: str, tests: str = Attack.tests) -> Attack:
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
    _attack(
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
    _attack(
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
    _attack(
        "thread-bomb",
        "start threads until the machine has no more",
        """
        import threading, time
        threading.stack_size(32768)
        for _ in range(4000):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        """,
    ),
    _attack(
        "output",
        "write 2 GB to standard output",
        """
        import os
        for _ in range(2048):
            os.write(1, b"x" * 2**20)
        """,
    ),
    _attack(
        "error-output",
        "write 2 GB to standard error",
        """
        import os
        for _ in range(2048):
            os.write(2, b"x" * 2**20)
        """,
    ),
    _attack(
        "disk",
        "fill the disk with 1 GB in its own folder",
        """
        for number in range(64):
            with open(f"file-{number}", "wb") as file:
                file.write(b"x" * 2**24)
        """,
    ),
    _attack(
        "one-big-file",
        "write a file of 1 GB",
        """
        with open("file", "wb") as file:
            for _ in range(64):
                file.write(b"x" * 2**24)
        """,
    ),
    _attack(
        "many-files",
        "make 200,000 files",
        """
        import os
        for number in range(200_000):
            os.close(os.open(f"file-{number}", os.O_CREAT | os.O_WRONLY))
        """,
    ),
    _attack(
        "shared-memory",
        "fill /dev/shm, which no limit of a process counts",
        """
        for number in range(64):
            with open(f"/dev/shm/attack-{SCENE['token']}-{number}", "wb") as file:
                file.write(b"x" * 2**24)
        """,
    ),
    _attack(
        "anonymous-files",
        "hold memory in files that have no name",
        """
        import os
        for number in range(64):
            os.write(os.memfd_create("x"), b"x" * 2**24)
        """,
    ),
    _attack(
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
    _attack(
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
    _attack(
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
    _attack(
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
    _attack(
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
    _attack(
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
    _attack("memory", "take 2 GB of memory", "held = bytearray(2**31)"),
    _attack(
        "memory-by-pieces",
        "take memory in small pieces for ever",
        """
        held = []
        while True:
            held.append(bytearray(2**16))
        """,
    ),
    _attack(
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
    _attack("endless-loop", "compute for ever", "while True: pass", "timeout"),
    _attack("sleep", "wait for ever without computing", "import time; time.sleep(1e6)", "timeout"),
    _attack("waits-for-input", "wait for input that never ends", "import os\nwhile True: os.read(0, 1)", "timeout"),
    _attack(
        "stops-itself",
        "stop, so that it cannot end",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\nwhile True: pass",
        "timeout",
    ),
    _attack(
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
    _attack(
        "raises-its-limits",
        "lift the limits that were set for it",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))
        """,
    ),
)

WRITING = (
    _attack("delete", "delete a file outside", "import os; os.remove(SCENE['file'])"),
    _attack("overwrite", "overwrite a file outside", "open(SCENE['file'], 'w').write('harm')"),
    _attack("truncate", "empty a file outside without opening it", "import os; os.truncate(SCENE['file'], 0)"),
    _attack("create", "make a file outside", "open(SCENE['folder'] + '/harm', 'w').write('harm')"),
    _attack(
        "rights",
        "change the rights, the owner and the times of a file outside",
        """
        import os
        os.chmod(SCENE["file"], 0o777)
        os.utime(SCENE["file"], (0, 0))
        os.chown(SCENE["file"], 1, 1)
        assert os.stat(SCENE["file"]).st_mode & 0o777 == 0o777
        """,
    ),
    _attack(
        "symbolic-link",
        "write outside through a symbolic link in its own folder",
        """
        import os
        os.symlink(SCENE["file"], "link")
        open("link", "w").write("harm")
        """,
    ),
    _attack(
        "hard-link",
        "write outside through a hard link in its own folder",
        """
        import os
        os.link(SCENE["file"], "link")
        open("link", "w").write("harm")
        """,
    ),
    _attack("rename", "move a file outside into its own folder", "import os; os.rename(SCENE['file'], 'taken')"),
    _attack(
        "climbs-out",
        "write outside by a path of many ..",
        "open('../' * 40 + SCENE['file'].lstrip('/'), 'w').write('harm')",
    ),
    _attack(
        "poisons-python",
        "append to a module of the interpreter",
        "import os; open(os.__file__, 'a').write('harm')",
    ),
    _attack(
        "devices",
        "read the machine's memory or disks",
        """
        import os
        for name in ("mem", "kmem", "kmsg", "sda", "vda", "nvme0n1", "tty", "ptmx", "fuse", "kvm"):
            try:
                file = os.open("/dev/" + name, os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            break
        else:
            os.mknod("device", 0o20600, os.makedev(1, 1))
            os.read(os.open("device", os.O_RDONLY), 16)
        """,
    ),
)

READING = (
    _attack(
        "environment",
        "read the caller's environment out of its own",
        """
        import os
        print(os.environ)
        assert any(SCENE["secret_name"] in name for name in os.environ)
        """,
    ),
    _attack(
        "environment-of-caller",
        "read /proc/PARENT/environ of everything above it",
        """
        import os
        read = ""
        for process in {SCENE["caller"], SCENE["victim"], os.getppid(), os.getpid(), 1}:
            for name in ("environ", "cmdline", "maps", "root/etc/passwd"):
                try:
                    read += open(f"/proc/{process}/{name}", errors="replace").read()
                except OSError:
                    pass
        print(read)
        assert read
        """,
    ),
    _attack(
        "home",
        "read keys, tokens and settings in the user's home",
        """
        import os
        read = ""
        for name in (".ssh", ".gnupg", ".aws", ".cache/huggingface", ".netrc", ".bashrc", ".profile", ".gitconfig"):
            path = os.path.join(SCENE["home"], name)
            try:
                files = [os.path.join(path, inner) for inner in os.listdir(path)] if os.path.isdir(path) else [path]
            except OSError:
                continue
            for file in files:
                try:
                    read += open(file, errors="replace").read() + " "
                except OSError:
                    pass
        print(read)
        assert read
        """,
    ),
    _attack("secret", "read a file outside that anyone may read", "print(open(SCENE['secret_file']).read())"),
    _attack("passwords", "read the list of users", "print(open('/etc/passwd').read()); open('/etc/shadow').read()"),
    _attack(
        "memory-of-caller",
        "read the caller's memory",
        SYSTEM_CALL
        + """
for process in (SCENE["caller"], SCENE["victim"], os.getppid()):
    try:
        call(CALLS["process_vm_readv"], process, 0, 0, 0, 0, 0)
        break
    except OSError:
        pass
else:
    open(f"/proc/{os.getppid()}/mem", "rb").read(1)
""",
    ),
)

PROCESSES = (
    _attack(
        "kills-caller",
        "end the caller and all other processes",
        """
        import os, signal
        done = 0
        for process in (SCENE["victim"], SCENE["caller"], -SCENE["caller"]):
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.kill(process, number)
                    done += 1
                except OSError:
                    pass
        assert done
        """,
    ),
    _attack(
        "traces-caller",
        "attach to the caller as a debugger",
        SYSTEM_CALL
        + """
for process in (SCENE["victim"], SCENE["caller"], os.getppid()):
    try:
        call(CALLS["ptrace"], 16, process, 0, 0)
        break
    except OSError:
        pass
else:
    raise PermissionError
""",
    ),
    _attack(
        "starves-caller",
        "take the caller's limits away, so that it ends by itself",
        """
        import os, resource
        done = 0
        for process in (SCENE["victim"], SCENE["caller"]):
            for limit in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE):
                try:
                    resource.prlimit(process, limit, (1, 1))
                    done += 1
                except OSError:
                    pass
            try:
                os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))
                done += 1
            except OSError:
                pass
        assert done
        """,
    ),
    _attack(
        "daemon",
        "leave a process behind that goes on",
        """
        import os, time
        if os.fork() == 0:
            try:
                os.setsid()
            except OSError:
                pass
            if os.fork() == 0:
                for descriptor in range(3):
                    os.close(descriptor)
                time.sleep(600)
            os._exit(0)
        os.wait()
        os._exit(0)
        """,
    ),
    _attack(
        "own-namespace",
        "become root in a namespace of its own, where more of the kernel is open to it",
        """
        import ctypes, os
        assert ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0
        """,
    ),
    _attack(
        "own-namespace-by-clone",
        "the same by cloning",
        SYSTEM_CALL + "\nassert call(CALLS['clone'], 0x10000000 | 17, 0, 0, 0, 0) >= 0\n",
    ),
    _attack("becomes-root", "take the identity of root", "import os; os.setuid(0); os.setgid(0); open('/etc/shadow')"),
    _attack(
        "forbidden-calls",
        "make a system call that is forbidden",
        SYSTEM_CALL
        + """
made = []
for name, numbers in CALLS.items():
    if name == "clone":
        continue
    try:
        call(numbers, -1, 0, 0, 0, 0, 0)
    except PermissionError:
        continue
    except OSError:
        pass
    made.append(name)
print(made)
assert made
""",
    ),
)

NETWORK = (
    _attack(
        "tcp",
        "connect to a TCP port of this machine",
        "import socket; socket.create_connection(('127.0.0.1', SCENE['tcp']), 1).send(b'harm')",
    ),
    _attack(
        "udp",
        "send a UDP packet to a port of this machine",
        "import socket; socket.socket(2, 2).sendto(b'harm', ('127.0.0.1', SCENE['udp']))",
    ),
    _attack(
        "listens",
        "open a port for others",
        "import socket; held = socket.socket(); held.bind(('0.0.0.0', 0)); held.listen()",
    ),
    _attack(
        "unix-socket",
        "connect to a socket in a folder that anyone may use",
        "import socket; held = socket.socket(socket.AF_UNIX); held.connect(SCENE['unix']); held.send(b'harm')",
    ),
    _attack(
        "abstract-socket",
        "connect to a socket that has a name but no file",
        "import socket; held = socket.socket(socket.AF_UNIX); held.connect('\\0' + SCENE['abstract'])",
    ),
    _attack(
        "socket-pair",
        "send through one of a pair of sockets to another address",
        """
        import socket
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.sendto(b"harm", SCENE["unix_datagram"])
        """,
    ),
    _attack(
        "io-uring",
        "open a ring, through which sockets and files are reached without system calls",
        SYSTEM_CALL + "\ncall(CALLS['io_uring_setup'], 8, (ctypes.c_char * 256)())\n",
    ),
)

FORGING = (
    _attack("exit-0", "leave with exit code 0 before the tests", "import os; os._exit(0)", "failed"),
    _attack("sys-exit-0", "leave by sys.exit(0) before the tests", "import sys; sys.exit(0)", "failed"),
    _attack(
        "exits-late",
        "leave with exit code 0 when the tests fail",
        "import atexit, os; atexit.register(os._exit, 0); raise AssertionError",
        "failed",
    ),
    _attack(
        "becomes-true", "turn into a program that succeeds", "import os; os.execv('/bin/true', ['true'])", "failed"
    ),
    _attack(
        "kills-interpreter",
        "end the interpreter by a signal",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\nimport ctypes; ctypes.string_at(0)",
        "killed",
    ),
    _attack(
        "prints-marker",
        "print what may look like success",
        "import os\nfor word in ('passed', 'confined', 'ok', '0' * 64): print(word)\nos._exit(0)",
        "failed",
    ),
    _attack(
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
    _attack(
        "closes-all",
        "close every open file, the runner's too",
        "import os; os.closerange(0, 256); os._exit(0)",
        "failed",
    ),
    _attack(
        "answers-in-a-child",
        "let a child leave as if all had been well",
        "import os\nif os.fork() == 0: os._exit(0)\nos.wait()\nraise AssertionError",
        "failed",
    ),
    _attack(
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
    _attack(
        "replaces-marker",
        "replace what would report the end",
        "import os\nos.read = lambda descriptor, count: b'0' * count\nos._exit(0)",
        "failed",
    ),
    _attack("syntax", "be no program at all", "def f(:", "failed"),
)

GROUPS = {
    "using up the machine": EXHAUSTING,
    "writing outside": WRITING,
    "reading outside": READING,
    "other processes": PROCESSES,
    "network": NETWORK,
    "forging success": FORGING,
}
ATTACKS: tuple[Attack, ...] = tuple(attack for group in GROUPS.values() for attack in group)


def preamble(scene: dict[str, object]) -> str:
    """What stands before each attack: what it may know."""
    columns = {machine: column for machine, (_, column) in ARCHITECTURES.items()}
    calls = DENIED | {"clone": (56, 220)}
    return f"SCENE = {scene!r}\nCOLUMNS = {columns!r}\nCALLS = {calls!r}\n"
