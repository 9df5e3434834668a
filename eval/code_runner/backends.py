"""The ways to isolate a program, best first: each is a command line around the interpreter that runs it.

What none of them holds by itself (limits of a process, system calls, the last rights) the guest takes away before the
program begins (`guest.py`), and what is counted over all processes is watched from outside (`watch.py`).
"""

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

FOLDER = Path(__file__).resolve().parent
WORK = "/box"  # the program's own folder, where mounts are possible
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/alternatives")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PYTHON = ("-s", "-S", "-P", "-B")  # no site (its .pth files run code), no current folder, no bytecode written
# Users that systemd gives to services for as long as these run. As root a program gets one, so that the kernel counts
# its processes apart from all others.
FIRST_USER, LAST_USER = 61184, 65519


@dataclass(frozen=True)
class Space:
    """What a program may hold: bytes and files in its own folder, processes and threads together."""

    bytes: int = 2**26
    files: int = 4096
    processes: int = 64


def packages() -> list[str]:
    """The folders of installed packages, without what their .pth files add."""
    paths = sysconfig.get_paths()
    folders = [paths["purelib"], paths["platlib"], *(path for path in sys.path if path == site.getusersitepackages())]
    return list(dict.fromkeys(os.path.realpath(path) for path in folders if os.path.isdir(path)))


def interpreter() -> str:
    """The interpreter itself, not the link to it that a virtual environment has."""
    return os.path.realpath(sys.executable)


def readable_paths() -> list[str]:
    """System folders, the interpreter and its packages; of a prefix only its libraries, for it may be a home."""
    own = [interpreter(), *packages()]
    own += [os.path.join(sys.base_prefix, name) for name in ("lib", "lib64")]
    outside = [os.path.realpath(path) for path in own if os.path.exists(path)]
    return [*SYSTEM, *dict.fromkeys(path for path in outside if not path.startswith("/usr/"))]


def as_root() -> bool:
    """Whether this process can take another user's identity for a program."""
    return sys.platform == "linux" and os.geteuid() == 0 and _is_mapped(LAST_USER)


def _is_mapped(user: int) -> bool:
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= user < first + count:
            return True
    return False


def environment(folder: str) -> dict[str, str]:
    """All that a program finds in its environment. One thread a library, few arenas: both cost address space."""
    return {
        "HOME": folder,
        "TMPDIR": folder,
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }


class Backend:
    """One way to isolate.

    `hosts_files`: the program's folder lies on this machine's disk, so the caller makes, watches and removes it;
    otherwise it is memory of a fixed size that goes with the program. `own_processes`: the kernel counts the program's
    processes by themselves, in a user namespace or as a user of its own; elsewhere a limit would count all that the
    caller runs, and would not hold root at all.
    """

    name: ClassVar[str]
    hosts_files: ClassVar[bool] = False
    own_processes: ClassVar[bool] = True

    def missing(self) -> str | None:
        """What this machine lacks, as far as can be told without trying; None when nothing is known to be missing."""
        raise NotImplementedError

    def command(self, guest: Sequence[str], folder: str, space: Space) -> list[str]:
        """The command that runs `guest` isolated. It keeps descriptors 0 to 2 and ends when its parent does."""
        raise NotImplementedError


class Bubblewrap(Backend):
    """bubblewrap's namespaces: no network, own processes, a root of a few read-only folders, files in memory."""

    name = "bubblewrap"

    def missing(self) -> str | None:
        if not shutil.which("bwrap"):
            return "bwrap is not installed (package bubblewrap)"
        if not _bubblewrap_has_sizes():
            return "bwrap is older than 0.8 (it cannot limit the size of a folder)"
        return None

    def command(self, guest: Sequence[str], folder: str, space: Space) -> list[str]:
        command = [shutil.which("bwrap") or "bwrap", "--die-with-parent"]
        command += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        if as_root():
            # The guest takes an ordinary user's identity: the limit of processes does not hold root.
            command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
        else:
            command += ["--unshare-user"]
        for path in _parents([*readable_paths(), *DEVICES]):
            command += ["--perms", "0755", "--dir", path]  # else readable only for the caller's own user
        for path in readable_paths():
            if os.path.islink(path):
                command += ["--symlink", os.readlink(path), path]
            else:
                command += ["--ro-bind-try", path, path]
        for path in DEVICES:
            command += ["--dev-bind", path, path]
        command += ["--perms", "1777", "--size", str(space.bytes), "--tmpfs", folder, "--symlink", folder, "/dev/shm"]
        # bubblewrap's own root is memory without a limit that an ordinary user would own.
        return [*command, "--remount-ro", "/", "--", *guest]


def _parents(paths: Sequence[str]) -> list[str]:
    """All folders above the paths, from the root down."""
    return sorted({str(parent) for path in paths for parent in Path(path).parents} - {"/"})


def _folders_of(package: str) -> list[str]:
    found = find_spec(package)
    return list(found.submodule_search_locations or ()) if found else []


@cache
def _bubblewrap_has_sizes() -> bool:
    shown = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)
    return "--size BYTES" in shown.stdout + shown.stderr


class Namespaces(Backend):
    """The same made by a script of ours, for machines without bubblewrap; it limits the number of files as well."""

    name = "namespaces"

    def missing(self) -> str | None:
        limit = Path("/proc/sys/user/max_user_namespaces")
        if not as_root() and limit.is_file() and limit.read_text().strip() == "0":
            return "user namespaces are turned off (/proc/sys/user/max_user_namespaces is 0)"
        return None

    def command(self, guest: Sequence[str], folder: str, space: Space) -> list[str]:
        request = {
            "readable": readable_paths(),
            "folder": folder,
            "bytes": space.bytes,
            "files": space.files,
            "root": as_root(),
        }
        return [interpreter(), *PYTHON, str(FOLDER / "enter_namespaces.py"), json.dumps(request), *guest]


class Sandlock(Backend):
    """sandlock: Landlock rules for files and signals, and a supervisor that counts processes. Nothing is hidden, all is
    forbidden; files lie on disk, so their sum is watched and not limited."""

    name = "sandlock"
    hosts_files = True
    own_processes = False

    def missing(self) -> str | None:
        if not _folders_of("sandlock"):
            return "sandlock is not installed (pip install 'yulanmini[eval]')"
        return None

    def command(self, guest: Sequence[str], folder: str, space: Space) -> list[str]:
        request = {
            "readable": [*readable_paths(), *DEVICES],
            "folder": folder,
            "environment": environment(folder),
            "processes": space.processes,
            "path": [os.path.dirname(path) for path in _folders_of("sandlock")],
        }
        return [interpreter(), *PYTHON, str(FOLDER / "enter_sandlock.py"), json.dumps(request), *guest]


BACKENDS: tuple[Backend, ...] = (Bubblewrap(), Namespaces(), Sandlock())
