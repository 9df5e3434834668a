"""The working folder of wrong inputs, and command lines typed in this process."""

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from wrong_inputs_place import write_place

from yulanmini import cli


@pytest.fixture(scope="session")
def filled_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("wrong"))


@pytest.fixture
def place(filled_place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The rows' folder as the working folder; whatever a row leaves there fails it."""
    monkeypatch.chdir(filled_place)
    before = listing(filled_place)
    yield filled_place
    left = sorted(listing(filled_place) - before)
    for name in reversed(left):
        path = filled_place / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert not left, "a refused command must leave nothing behind"
    assert listing(filled_place) == before


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    """Run one command line in this process; returns exit code, stdout and stderr."""

    def run(line: str) -> SimpleNamespace:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["yulanmini", *shlex.split(line)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capfd.readouterr()
        return SimpleNamespace(code=stopped.value.code, stdout=captured.out, stderr=captured.err)

    return run


@pytest.fixture
def script_run(capfd: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    """Run a training script's main in this process; returns exit code, stdout and stderr without progress bars."""

    def run(main: Callable[[list[str]], int], arguments: list[str]) -> SimpleNamespace:
        capfd.readouterr()
        code = main(arguments)
        captured = capfd.readouterr()
        lines = [line.rpartition("\r")[2].strip() for line in captured.err.splitlines()]
        shown = "\n".join(line for line in lines if line and "?" not in line.partition("error: ")[0])
        return SimpleNamespace(code=code, stdout=captured.out, stderr=shown)

    return run
