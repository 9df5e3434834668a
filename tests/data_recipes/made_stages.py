"""Work for the executors' tests: each task writes the letters that fall to it, importable in any process."""

import time
from pathlib import Path

LETTERS = "abcdefghij"


def write_letters(folder: Path, rank: int, tasks: int, *, fail_at: str = "", slow: float = 0.0) -> None:
    for letter in LETTERS[rank::tasks]:
        if (folder / letter).exists():
            continue
        time.sleep(slow)
        if letter == fail_at and not (folder / "mended").exists():
            raise ValueError(f"no text for {letter}")
        (folder / letter).write_text(letter.upper())


def join_letters(folder: Path, rank: int, tasks: int) -> None:
    assert (rank, tasks) == (0, 1)
    (folder / "joined").write_text("".join((folder / letter).read_text() for letter in LETTERS))
