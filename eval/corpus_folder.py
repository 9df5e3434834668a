"""What tasks read of a corpus folder: lines of JSON; and its fingerprint."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_recipes.manifest import MANIFEST_NAME, fingerprint_of, read_manifest, sha256_file
from eval.errors import EvalError


def read_lines(path: Path, *, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file, each with the given keys; `EvalError` names the line that is not."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise EvalError(f"{path}, line {number}: not JSON ({error.msg}).") from error
            missing = [key for key in keys if not isinstance(record, dict) or key not in record]
            if missing:
                raise EvalError(f"{path}, line {number}: no '{missing[0]}'; expected {', '.join(keys)}.")
            yield record


def data_fingerprint(folder: Path) -> str:
    """The fingerprint of a folder's manifest, or a hash of its JSON-lines files."""
    if (folder / MANIFEST_NAME).is_file():
        return str(read_manifest(folder)["fingerprint"])
    return fingerprint_of({path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*.jsonl")})
