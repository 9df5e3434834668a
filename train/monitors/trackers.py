"""Send the records to TensorBoard, trackio, Weights & Biases and the like, through accelerate's trackers.

metrics.jsonl is always written and is what reports read; this is for watching. Config: `monitors.trackers`.
"""

import atexit
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers

from train.config_file import resolved
from train.errors import TrainError
from train.monitors.base import Monitor


class Trackers(Monitor):
    """All numbers of every record, nested ones as `name/key` and layers as `name/00`, at their step."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._trackers = self._open() if self.world.is_main else []
        for tracker in self._trackers:
            # The values are one string: TensorBoard takes no nested ones, and the whole config is what one looks for.
            tracker.store_init_configuration({"config": str(resolved(self.config))})
            atexit.register(tracker.finish)

    def _open(self) -> list[Any]:
        settings = self.config.monitors
        folder = self.config.output_dir / "trackers"
        known = {str(name): kind for name, kind in LOGGER_TYPE_TO_CLASS.items()}
        opened = []
        for name in settings.trackers:
            if name not in known:
                raise TrainError(f"monitors.trackers: no tracker '{name}'. Known: {', '.join(sorted(known))}.")
            if not filter_trackers([name], folder):
                raise TrainError(f"monitors.trackers: '{name}' is not installed. Install it or leave it out.")
            needs_folder = known[name].requires_logging_directory
            tracker = known[name](settings.project, *([folder] if needs_folder else []))
            if hasattr(tracker, "start"):
                tracker.start()
            opened.append(tracker)
        return opened

    def on_records(self, records: list[dict[str, Any]]) -> list[str]:
        for record in records:
            numbers = flattened(record)
            for tracker in self._trackers:
                tracker.log(numbers, step=record["step"])
        return []


def flattened(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a record by their path; text and missing values are left out."""
    numbers: dict[str, float] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            numbers |= flattened(value, f"{name}/")
        elif isinstance(value, list):
            numbers |= flattened({f"{index:02d}": item for index, item in enumerate(value)}, f"{name}/")
        elif isinstance(value, int | float):
            numbers[name] = value
    return numbers
