"""From a YAML file and `--set key=value` to a checked `PretrainConfig`, and back to the run's `config.yaml`."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import DataError
from data_recipes.schema_errors import read_yaml, validate
from train.config import PretrainConfig
from train.errors import TrainError


def load_config(path: Path, overrides: list[str] | None = None) -> PretrainConfig:
    """Read `path`, apply `key.key=value` overrides (values are YAML), check. TrainError names file and key."""
    try:
        value = read_yaml(Path(path))
        if isinstance(value, dict):
            for override in overrides or []:
                _apply(value, override)
        return validate(PretrainConfig, value, where=str(path))
    except DataError as error:
        raise TrainError(str(error)) from error


def save_config(config: PretrainConfig, path: Path) -> None:
    """Write the resolved config, paths made absolute, so that it starts the same run from anywhere."""
    path.write_text(yaml.safe_dump(resolved(config), sort_keys=False, allow_unicode=True))


def resolved(config: PretrainConfig) -> dict[str, Any]:
    """The config as plain values, every default written out and every path absolute."""
    return _absolute(config)


def _absolute(value: Any) -> Any:
    if isinstance(value, PretrainConfig) or hasattr(value, "model_fields_set"):
        return {name: _absolute(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, dict):
        return {key: _absolute(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_absolute(item) for item in value]
    return value


def _apply(value: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise TrainError(f"--set {override}: expected key=value, such as optimizer.lr=0.003.")
    try:
        new = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TrainError(f"--set {override}: the value is not valid YAML.") from error
    if isinstance(new, str):  # YAML 1.1 reads 1e-3 as text
        with suppress(ValueError):
            new = float(new)
    *parents, key = dotted.split(".")
    section: Any = value
    for depth, name in enumerate(parents):
        if isinstance(section, list) and name.isdigit() and int(name) < len(section):
            section = section[int(name)]
            continue
        if isinstance(section.get(name), str) and name == "heldout":
            section[name] = {"dir": section[name]}
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict | list):
            raise TrainError(f"--set {override}: '{'.'.join(parents[: depth + 1])}' is a value, not a section.")
    if isinstance(section, list):
        if not key.isdigit() or int(key) >= len(section):
            raise TrainError(f"--set {override}: '{'.'.join(parents)}' is a list of {len(section)}; give an index.")
        section[int(key)] = new
    else:
        section[key] = new
