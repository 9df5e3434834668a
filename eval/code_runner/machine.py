"""What this machine offers for isolating programs, and how it stands against the attacks."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eval.code_runner.attacks import ATTACKS
from eval.code_runner.backends import BACKENDS, Backend, as_root
from eval.code_runner.runner import backend_named, usable
from eval.code_runner.scene import Finding, carry_out
from eval.code_runner.syscalls import filter_program

LANDLOCK_CREATE_RULESET, ONLY_VERSION = 444, 1
ALL = "all"


def described() -> dict[str, Any]:
    """Kernel, what of it isolates, and which backends work; `chosen` is the one that `run_program` uses, or None."""
    found, missing = usable()
    return {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "user": "root, so programs run as another user" if as_root() else f"user {os.geteuid()}",
        "landlock": _landlock_version(),
        "seccomp": Path("/proc/sys/kernel/seccomp").is_dir() and filter_program() is not None,
        "user_namespaces": _number("/proc/sys/user/max_user_namespaces"),
        "bubblewrap": _bubblewrap_version(),
        "backends": {backend.name: missing.get(backend.name, "works") for backend in BACKENDS},
        "chosen": found[0].name if found else None,
    }


def chosen_backends(isolation: str | None) -> list[Backend]:
    """The backends to attack: the one in use, one by its name, or all that work. `EvalError` for an unknown name."""
    found = usable()[0]
    if isolation == ALL:
        return found
    return found[:1] if isolation is None else [backend_named(isolation)]


def attacked(backends: Sequence[Backend], *, told: Callable[[], object] = lambda: None) -> list[tuple[str, Finding]]:
    """Every attack in every backend, one after another; `told` is called after each."""
    findings = []
    for backend in backends:
        for attack in ATTACKS:
            findings.append((backend.name, carry_out(attack, backend)))
            told()
    return findings


def _landlock_version() -> int | None:
    if sys.platform != "linux":
        return None
    version = ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ONLY_VERSION)
    return version if version > 0 else None


def _number(path: str) -> int | None:
    return int(Path(path).read_text()) if Path(path).is_file() else None


def _bubblewrap_version() -> str | None:
    if not shutil.which("bwrap"):
        return None
    return subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False).stdout.strip()
