"""User-facing errors of this package, and what makes messages everywhere: nearest names, one error in three lines."""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

MAX_LINES = 3
# A full disk in the words of libraries that raise no OSError: safetensors, torch.save.
FULL_DISK_WORDS = ("No space left on device", "Disk quota exceeded", "File too large", "PytorchStreamWriter failed")
# A message that begins with a path and says this gets the nearest path to it.
ABSENT = re.compile(r"no such|missing|not there|cannot be read|not a finished folder", re.IGNORECASE)
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DataError(ValueError):
    """Bad recipe, source, corpus or built folder. Says what was found, what was expected, what to do."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its class's name where there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message: the nearest known word (`Did you mean 'X'?`), or the known ones where none is near."""
    known = list(known)
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(known[:30])}{', ...' if len(known) > 30 else ''}."


def listed(items: Sequence[str], most: int = 4) -> str:
    """Several things that are wrong, in one line of a message: the first few, and how many more there are."""
    more = f" (and {len(items) - most} more)" if len(items) > most else ""
    return "; ".join(items[:most]) + more


def near_path(path: str | os.PathLike[str]) -> str:
    """The end of a message about a path that is not there: what is nearest to it on the disk, or nothing."""
    path = Path(path)
    try:
        parents = [path, *path.parents]
        index = next(number for number, place in enumerate(parents) if place.is_dir())
        missing = parents[index - 1] if index else path
        names = os.listdir(parents[index])
    except (OSError, ValueError, StopIteration):
        return ""
    near = get_close_matches(missing.name, names, n=1, cutoff=0.5)
    if not near or near[0] == missing.name:
        return ""
    return f" Did you mean '{missing.with_name(near[0]) / path.relative_to(missing)}'?"


def is_full_disk(error: BaseException) -> bool:
    """Whether an error, of the system or of a library, is that of a full disk."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL_DISK
    return any(words in str(error) for words in FULL_DISK_WORDS)


def full_disk_message(path: str | os.PathLike[str]) -> str:
    """What to say of it."""
    return f"{path}: no space left on the disk. Make room and give the same command again."


@contextmanager
def naming_full_disk(path: str | os.PathLike[str]) -> Iterator[None]:
    """A full disk in here is an OSError that names `path`, whichever library finds it and whatever it names itself."""
    try:
        yield
    except Exception as error:
        if not is_full_disk(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def error_line(error: BaseException | str) -> str:
    """The message of an error for its user: at most three lines, with the nearest path to one that is not there."""
    if isinstance(error, OSError) and error.strerror:
        if is_full_disk(error):
            message = full_disk_message(error.filename or os.getcwd())
        else:
            message = f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror
    else:
        message = str(error).strip() or type(error).__name__
    head, colon, _ = message.partition(": ")
    if colon and ABSENT.search(message) and "Did you mean" not in message and not os.path.lexists(head):
        message += near_path(head)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if len(lines) > MAX_LINES:  # of a library: what happened comes first, what to do last
        lines = [lines[0], listed(lines[1:-1], 2), lines[-1]]
    return "\n".join(lines)
