"""Where the records of a run go: JSON-lines files, which reports read, and trackers such as TensorBoard."""

import atexit
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers

from data_recipes.files import write_whole
from train.errors import TrainError


class RunLog:
    """`metrics.jsonl`, `heldout.jsonl`, ... : one JSON object a line, each with its `step`, in the order of the steps.

    A run that resumes from a checkpoint cuts them back to the checkpoint's step.
    """

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
        """Write the lines in one go, so that a reader hardly ever sees half of them."""
        if self._active and lines:
            with self.path.open("a") as file:
                file.write("".join(json.dumps(_finite(line)) + "\n" for line in lines))

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines."""
        if not self.path.exists():
            return []
        found = []
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                try:
                    found.append(json.loads(text))
                except ValueError:
                    break
        return found


class Trackers:
    """TensorBoard, trackio, Weights & Biases and the like, through accelerate's trackers (`monitors.trackers`).

    They get all numbers of every record, nested ones as `name/key` and layers as `name/00`, at their step.
    """

    def __init__(self, names: Sequence[str], project: str, folder: Path, settings: str, *, active: bool) -> None:
        known = {str(name): kind for name, kind in LOGGER_TYPE_TO_CLASS.items()}
        self._trackers = []
        for name in names if active else ():
            if name not in known:
                raise TrainError(f"monitors.trackers: no tracker '{name}'. Known: {', '.join(sorted(known))}.")
            if not filter_trackers([name], folder):
                raise TrainError(f"monitors.trackers: '{name}' is not installed. Install it or leave it out.")
            needs_folder = known[name].requires_logging_directory
            tracker = known[name](project, *([folder] if needs_folder else []))
            if hasattr(tracker, "start"):
                tracker.start()
            # The values are one string: TensorBoard takes no nested ones, and the whole config is what one looks for.
            tracker.store_init_configuration({"config": settings})
            atexit.register(tracker.finish)
            self._trackers.append(tracker)

    def finish(self) -> None:
        """Close them before the process ends, so that their files can be copied."""
        for tracker in self._trackers:
            atexit.unregister(tracker.finish)
            tracker.finish()
        self._trackers = []

    def log(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in records if self._trackers else ():
            numbers = flattened(record)
            for tracker in self._trackers:
                tracker.log(numbers, step=record["step"])


def flattened(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a record by their path; text and missing values are left out."""
    numbers: dict[str, float] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, list):
            value = {f"{index:02d}": item for index, item in enumerate(value)}
        if isinstance(value, Mapping):
            numbers |= flattened(value, f"{name}/")
        elif isinstance(value, int | float):
            numbers[name] = value
    return numbers


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
    """JSON has no NaN: a value that is not finite is written as null, at any depth."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
