"""From a YAML file and `--set key=value` to a checked `PretrainConfig`, and back to the run's `config.yaml`."""

import re
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import DataError
from data_recipes.recipes.yaml_schema import read_yaml, validate
from train.config import PretrainConfig
from train.errors import TrainError

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def load_config(path: Path, overrides: list[str] | None = None) -> PretrainConfig:
    """Read `path`, apply `key.key=value` overrides (values are YAML), check. TrainError names file and key."""
    try:
        value = read_yaml(Path(path))
        if isinstance(value, dict):
            if overrides and isinstance(value.get("heldout"), str):  # the short form, so that its keys can be set
                value["heldout"] = {"dir": value["heldout"]}
            for override in overrides or []:
                apply_override(value, override)
        return validate(PretrainConfig, value, where=str(path))
    except DataError as error:
        raise TrainError(str(error)) from error


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set what `--set key.key=value` says; the value is YAML, and 1e-3 a number. TrainError for anything else."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise TrainError(f"--set {override}: expected key=value, such as optimizer.lr=0.003.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TrainError(f"--set {override}: the value is not valid YAML.") from error
    if isinstance(value, str) and _EXPONENT.fullmatch(value):  # text to YAML 1.1
        value = float(value)
    try:
        set_key(values, dotted, value)
    except TrainError as error:
        raise TrainError(f"--set {override}: {error}") from error


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
