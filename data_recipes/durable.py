"""Files that a later run goes on from: flushed to the disk if they are large, checked by content if small.

Flushing hundreds of small files costs a build more than writing them; reading them again costs next to nothing.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_recipes.manifest import sha256_file

LARGE = 2**20


def said_of(path: Path) -> dict[str, Any]:
    """What a record keeps of a file: hash and size."""
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}


def put(partial: Path, path: Path) -> None:
    """Give a finished file its name; a large one is on the disk before it has it."""
    if partial.stat().st_size >= LARGE:
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    partial.replace(path)


def intact(path: Path, said: Mapping[str, Any]) -> bool:
    """Whether a file that an earlier run has left is what its record says."""
    if not path.is_file() or path.stat().st_size != said["bytes"]:
        return False
    return said["bytes"] >= LARGE or sha256_file(path) == said["sha256"]
