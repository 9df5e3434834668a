"""What the tests of the runner share: each way of isolating, and being an ordinary user for a command."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from eval.code_runner.backends import readable_paths

REPOSITORY = Path(__file__).resolve().parents[3]
ORDINARY_USER = 12345
KEY = "a key of somebody"


def _closed_folder(path: str) -> str | None:
    """The first folder above a path that other users cannot enter."""
    for parent in reversed(Path(path).parents):
        if not parent.stat().st_mode & 0o001:
            return str(parent)
    return None


def _as_ordinary_user(command: Sequence[str], scratch: Path) -> list[str]:
    """The command as another user. A folder that is closed to others and above what must be read (an interpreter in
    root's home) is replaced, in a mount namespace of the command's own, by one with only what must be read."""
    needed = {os.path.realpath(path) for path in (*readable_paths(), sys.prefix, sys.base_prefix, REPOSITORY)}
    closed = {path: folder for path in needed if os.path.exists(path) and (folder := _closed_folder(path))}
    steps = ["set -e"]
    for number, folder in enumerate(sorted(set(closed.values()))):
        kept = scratch / f"kept-{number}"
        kept.mkdir(exist_ok=True)
        steps += [f"mount --bind {folder} {kept}", f"mount -t tmpfs -o mode=755 none {folder}"]
        for path in sorted(path for path, above in closed.items() if above == folder and os.path.isdir(path)):
            inside = kept / os.path.relpath(path, folder)
            steps.append(f"[ -e {path} ] || {{ mkdir -p {path}; mount --bind {inside} {path}; }}")
    become = ["setpriv", f"--reuid={ORDINARY_USER}", f"--regid={ORDINARY_USER}", "--clear-groups"]
    if not closed:
        return [*become, *command]
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip(f"other users cannot reach {', '.join(sorted(closed))}, and root may not mount here")
    steps.append(f'exec {" ".join(become)} "$@"')
    return ["unshare", "--mount", "sh", "-c", "\n".join(steps), "sh", *command]


Run = Callable[[Sequence[str]], subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def run_as_ordinary_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command as somebody who is not root, with a home that holds a key, which it can read: another user where
    the tests run as root, else the same."""
    scratch = tmp_path_factory.mktemp("scratch")
    # Not below pytest's own folder, which other users cannot enter.
    with tempfile.TemporaryDirectory(prefix="home-") as home:
        keys = Path(home) / ".ssh"
        keys.mkdir()
        (keys / "id_test").write_text(KEY)
        for path in (Path(home), keys):
            path.chmod(0o777)
        environment = {"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": "/tmp", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = str(REPOSITORY)

        def run(command: Sequence[str]) -> subprocess.CompletedProcess:
            if os.geteuid() == 0:
                command = _as_ordinary_user(command, scratch)
            return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=280)

        yield run
