"""Names and forms of what a built phase's folder holds beside the manifest."""

import json
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError

SOURCES_NAME = "sources.json"


def shard_name(number: int) -> str:
    """`rows-00012.arrow`."""
    return f"rows-{number:05d}.arrow"


def read_file_tables(folder: Path) -> list[dict[str, Any]]:
    """The sources by number, each `{"name", "files"}`; `DataError` when the file is gone or damaged."""
    path = folder / SOURCES_NAME
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: missing or damaged. Check with 'yulanmini data verify {folder}'.") from error
