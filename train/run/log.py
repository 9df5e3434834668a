"""The run's JSON-lines files: appended in step order, cut back to a checkpoint's step when a run goes on from it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data_recipes.files import write_whole


class RunLog:
    """`metrics.jsonl`, `heldout.jsonl`, ... : one JSON object a line, each with its `step`."""

    def __init__(self, path: Path, *, active: bool = True) -> None:
        self.path = path
        self._active = active

    def cut_after(self, step: int) -> None:
        """Drop lines of later steps, and a last line that was cut short by a kill."""
        if not self._active or not self.path.exists():
            return
        kept = [json.dumps(line) + "\n" for line in self.lines() if line["step"] <= step]
        write_whole(self.path, "".join(kept))

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write the lines in one go, so that a reader never sees half of them in the ordinary case."""
        if self._active and lines:
            with self.path.open("a") as file:
                file.write("".join(json.dumps(_finite(line)) + "\n" for line in lines))

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines."""
        if not self.path.exists():
            return []
        found = []
        with self.path.open() as file:
            for text in file:
                try:
                    found.append(json.loads(text))
                except json.JSONDecodeError:
                    break
        return found


class PendingRecords:
    """Records of steps whose values may still be on the device; one synchronisation brings them all over."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: dict[str, Any]) -> None:
        self._records.append(record)

    def take(self) -> list[dict[str, Any]]:
        """The records with every tensor turned into a float (0-dim) or a list of floats, in order; empties this."""
        records, self._records = self._records, []
        places = [(record, key) for record in records for key, value in record.items() if torch.is_tensor(value)]
        if places:
            flat = torch.cat([record[key].detach().reshape(-1).float() for record, key in places]).tolist()
            for record, key in places:
                size = record[key].numel()
                values, flat = flat[:size], flat[size:]
                record[key] = values if record[key].ndim else values[0]
        return records


def _finite(value: Any) -> Any:
    """JSON has no NaN: a value that is not finite is written as null, however deep it lies."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
