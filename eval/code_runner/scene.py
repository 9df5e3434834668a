"""What attacks are carried out against: things outside that must stay as they are, and the look at them afterwards."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from eval.code_runner.attacks import Attack, preamble
from eval.code_runner.backends import Backend
from eval.code_runner.runner import ProgramResult, run_isolated

SECRET_NAME = "YULANMINI_ATTACK_SECRET"
UNTOUCHED = "untouched"
SECONDS = 1.5
SLACK_SECONDS = 20.0  # to start and to clear up, on a machine as busy as may be
SWELL_BYTES = 2**26  # by how much the caller may grow
NAME_OF_PROCESS = 15  # prctl's number; the kernel keeps 15 letters, children inherit them


@dataclass(frozen=True)
class Finding:
    """How an attack ended, and every harm that was seen; none where it was held."""

    attack: Attack
    result: ProgramResult
    harms: tuple[str, ...]
    seconds: float


class Scene:
    """Laid out afresh for each attack, with rights for anyone: not file modes but the isolation must hold."""

    def __init__(self, folder: Path, home: Path, stack: ExitStack) -> None:
        self.token = secrets.token_hex(4)
        self.secret = secrets.token_hex(16)
        self.file, self.secret_file = folder / "file", folder / "secret"
        self.folder, self.home = folder, home
        self.file.write_text(UNTOUCHED)
        self.secret_file.write_text(self.secret)
        self.file.chmod(0o666)
        self.secret_file.chmod(0o644)
        folder.chmod(0o777)
        self.status = self._status()
        self.listeners = {
            "tcp": self._listen(stack, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": self._listen(stack, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "unix": self._listen(stack, socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "stream")),
            "unix_datagram": self._listen(stack, socket.AF_UNIX, socket.SOCK_DGRAM, str(folder / "datagram")),
            "abstract": self._listen(stack, socket.AF_UNIX, socket.SOCK_STREAM, f"\0attack-{self.token}"),
        }
        self.victim = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        stack.callback(self._end_victim)

    def _listen(self, stack: ExitStack, family: int, kind: int, address: str | tuple[str, int]) -> socket.socket:
        listener = stack.enter_context(socket.socket(family, kind))
        listener.bind(address)
        if kind == socket.SOCK_STREAM:
            listener.listen()
        listener.setblocking(False)
        if isinstance(address, str) and not address.startswith("\0"):
            os.chmod(address, 0o777)
        return listener

    def _end_victim(self) -> None:
        self.victim.kill()
        self.victim.wait()

    def _status(self) -> tuple[float, ...]:
        found = self.file.stat()
        return found.st_mode, found.st_uid, found.st_gid, found.st_mtime

    def described(self) -> dict[str, object]:
        """What a program is told."""
        return {
            "token": self.token,
            "file": str(self.file),
            "folder": str(self.folder),
            "secret_file": str(self.secret_file),
            "secret_name": SECRET_NAME,
            "home": str(self.home),
            "caller": os.getpid(),
            "victim": self.victim.pid,
            "tcp": self.listeners["tcp"].getsockname()[1],
            "udp": self.listeners["udp"].getsockname()[1],
            "unix": str(self.folder / "stream"),
            "unix_datagram": str(self.folder / "datagram"),
            "abstract": f"attack-{self.token}",
        }

    def harms(self, result: ProgramResult) -> Iterator[str]:
        """What is not as it was."""
        if not self.file.is_file() or self.file.read_text() != UNTOUCHED or self._status() != self.status:
            yield "a file outside was changed"
        if {path.name for path in self.folder.iterdir()} != {"file", "secret", "stream", "datagram"}:
            yield "a folder outside was changed"
        if self.secret in result.stdout + result.stderr:
            yield "it read a secret"
        for name, listener in self.listeners.items():
            try:
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(16)
            except BlockingIOError:
                continue
            yield f"it reached {name}"
        if self.victim.poll() is not None:
            yield "another process of the same user was ended"
        if self.left_behind():
            yield "a process of it is still there"

    def left_behind(self) -> list[int]:
        """Processes that carry the name which the attack gave itself."""
        found = []
        for path in Path("/proc").glob("[0-9]*/comm"):
            try:
                if path.read_text().strip() == f"harm-{self.token}":
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found


@contextmanager
def laid_out(home: Path | None = None) -> Iterator[Scene]:
    """A scene, and a secret in the environment of this process, until both are cleared away."""
    with tempfile.TemporaryDirectory(prefix="attacked-") as folder, ExitStack() as stack:
        scene = Scene(Path(folder), home or Path.home(), stack)
        before = os.environ.get(SECRET_NAME)
        os.environ[SECRET_NAME] = scene.secret
        try:
            yield scene
        finally:
            if before is None:
                os.environ.pop(SECRET_NAME, None)
            else:
                os.environ[SECRET_NAME] = before
            for process in scene.left_behind():
                os.kill(process, signal.SIGKILL)


def carry_out(attack: Attack, backend: Backend, *, home: Path | None = None) -> Finding:
    """Run one attack in a backend and look at what it did."""
    with laid_out(home) as scene:
        named = f"import ctypes; ctypes.CDLL(None).prctl({NAME_OF_PROCESS}, b'harm-{scene.token}', 0, 0, 0)\n"
        resident = _resident_bytes()
        began = monotonic()
        result = run_isolated(
            backend, preamble(scene.described()) + named + attack.source, tests=attack.tests, seconds=SECONDS
        )
        seconds = monotonic() - began
        harms = list(scene.harms(result))
        if result.status == "passed":
            harms.insert(0, "it reached its end")
        elif result.status not in attack.ends_as:
            harms.insert(0, f"it ended as {result.status} ({result.reason}), not as {' or '.join(attack.ends_as)}")
        if seconds > SECONDS + SLACK_SECONDS:
            harms.append(f"it took {seconds:.1f} seconds")
        if _resident_bytes() - resident > SWELL_BYTES:
            harms.append(f"the caller grew by {(_resident_bytes() - resident) / 2**20:.0f} MiB")
    return Finding(attack, result, tuple(harms), seconds)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
