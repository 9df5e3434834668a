"""From a YAML file and `--set key=value` to a checked config, and back to the run's `config.yaml`: for every script."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_recipes.errors import DataError
from data_recipes.recipes.yaml_schema import read_yaml, validate
from train.config import Settings
from train.errors import TrainError

Config = TypeVar("Config", bound=Settings)

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def load_config(kind: type[Config], path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read `path`, apply `key.key=value` overrides (values are YAML), check. TrainError names file and key."""
    try:
        values = read_yaml(Path(path))
        if isinstance(values, dict):
            for override in overrides:
                apply_override(values, override)
        return validate(kind, values, where=str(path))
    except DataError as error:
        raise TrainError(str(error)) from error


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set the key that `--set key.key=value` names; the value is YAML, and 1e-3 a number. TrainError if it cannot."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise TrainError(f"--set {override}: expected key=value, such as optimizer.lr=0.003.")
    try:
        value = yaml.safe_load(text)
        if isinstance(value, str) and _EXPONENT.fullmatch(value):  # text to YAML 1.1
            value = float(value)
        set_key(values, dotted, value)
    except yaml.YAMLError as error:
        raise TrainError(f"--set {override}: the value is not valid YAML.") from error
    except TrainError as error:
        raise TrainError(f"--set {override}: {error}") from error


def changed_settings(path: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a config file with some keys (dotted) changed, for a program that writes configs."""
    values = read_yaml(path)
    for dotted, value in changes.items():
        set_key(values, dotted, value)
    return values


def set_key(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `optimizer.lr` or `stages.0.rope_theta` in nested mappings and lists; missing sections are made."""
    *parents, key = dotted.split(".")
    section: Any = values
    for depth, name in enumerate(parents):
        if isinstance(section, list):
            section = section[_index(section, name, parents[:depth])]
        else:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
        if not isinstance(section, dict | list):
            raise TrainError(f"'{'.'.join(parents[: depth + 1])}' is a value, not a section.")
    section[_index(section, key, parents) if isinstance(section, list) else key] = value


def _index(section: list[Any], name: str, path: list[str]) -> int:
    if not name.isdigit() or int(name) >= len(section):
        raise TrainError(f"'{'.'.join(path)}' is a list of {len(section)}; give an index below that.")
    return int(name)


def resolved(config: Settings) -> dict[str, Any]:
    """The config as plain values, every default written out and every path absolute: starts the same run anywhere."""
    return _absolute(config.model_dump())


def settings_text(values: Mapping[str, Any]) -> str:
    """Plain values as YAML, in their order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, dict):
        return {key: _absolute(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_absolute(item) for item in value]
    return value
