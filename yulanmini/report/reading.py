"""Reading a run folder that may be unfinished: what is absent is None, what is damaged is noted, nothing fails."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml


def finite(value: Any) -> Any:
    """The same value with NaN and infinities as None, which JSON can hold; numbers cut to 7 digits."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def relative_to(root: Path, value: Any) -> Any:
    """The same value with paths inside `root` written from there: a report may be shown to others."""
    if isinstance(value, str):
        for prefix in (root.resolve().as_posix(), root.as_posix()):
            if value == prefix or value.startswith(f"{prefix}/"):
                return value[len(prefix) + 1 :] or "."
    if isinstance(value, dict):
        return {key: relative_to(root, item) for key, item in value.items()}
    if isinstance(value, list):
        return [relative_to(root, item) for item in value]
    return value


class RunFolder:
    """The files of one run. `notes` collects what could not be read, for the reader of the report."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.notes: list[str] = []

    def _text(self, name: str) -> str | None:
        path = self.root / name
        if not path.is_file():
            return None
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.notes.append(f"{name}: could not be read ({error}); left out.")
            return None

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON object, or None."""
        return self._mapping(name, "JSON", json.loads)

    def yaml(self, name: str) -> dict[str, Any] | None:
        """A YAML mapping, or None."""
        return self._mapping(name, "YAML", yaml.safe_load)

    def _mapping(self, name: str, form: str, parse: Callable[[str], Any]) -> dict[str, Any] | None:
        content = self._text(name)
        if content is None:
            return None
        try:
            value = parse(content)
        except (json.JSONDecodeError, yaml.YAMLError) as error:
            self.notes.append(f"{name}: not valid {form} ({error}); left out.")
            return None
        return value if isinstance(value, dict) else None

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The objects of a JSON Lines file. A killed run can leave half a last line, which is no damage."""
        content = self._text(name)
        records: list[dict[str, Any]] = []
        for number, line in enumerate((content or "").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                if number <= content.count("\n"):  # type: ignore[union-attr]
                    self.notes.append(f"{name}: line {number} is not valid JSON; left out.")
                continue
            if isinstance(record, dict):
                records.append(record)
        return records

    def folders(self, pattern: str) -> list[str]:
        """Names, relative to the run, of the folders that match."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.glob(pattern) if path.is_dir())

    def safetensors_parameters(self, name: str) -> int | None:
        """Number of parameters in a folder's weights, from the files' headers alone."""
        from safetensors import SafetensorError, safe_open

        total = 0
        for path in sorted((self.root / name).glob("*.safetensors")):
            try:
                with safe_open(path, framework="numpy") as file:
                    total += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
            except (OSError, SafetensorError) as error:
                self.notes.append(f"{name}/{path.name}: could not be read ({error}); left out.")
                return None
        return total or None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is there, or None."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
