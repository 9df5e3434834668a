"""From a YAML file and `--set key=value` to a checked config, and back to the run's `config.yaml`: for every script.

One rule for paths: what a file says counts from the file's folder, as in a recipe, and what is typed (`--set`) from the
current one. The configs that come with this package (`tiny`, `sft-lora`, ...) have no place of the user's: theirs
count from the current folder too. A run's own config.yaml is written so that it holds wherever the run is moved.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_recipes.errors import DataError, nearest
from data_recipes.manifest import outermost_stage_folder
from data_recipes.recipes.yaml_schema import read_yaml, validate
from train.config import ModelPlace, Settings
from train.errors import TrainError

Config = TypeVar("Config", bound=Settings)

CONFIGS = Path(__file__).with_name("configs")
TUNING_SCRIPTS = ("sft", "dpo", "on-policy", "select")
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def load_config(kind: type[Config], typed: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a file, or a config of this package by its name, apply `key.key=value` overrides (values are YAML), check.

    Paths of the result hold from the current folder. TrainError names file and key.
    """
    path = find_config(typed)
    try:
        values = read_yaml(path)
        keys = [apply_override(values, override) for override in overrides] if isinstance(values, dict) else []
        config = validate(kind, values, where=str(path))
    except DataError as error:
        raise TrainError(str(error)) from error
    folder = Path.cwd() if path.resolve() in {own.resolve() for own in configs().values()} else path.parent.resolve()
    return kind.model_validate(_located(config.model_dump(exclude_unset=True), folder, typed=keys))


def configs() -> dict[str, Path]:
    """The configs that come with this package, by name: the file's without `.yaml`."""
    return {path.stem: path for path in sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("instruct/*.yaml")])}


def script_of(name: str) -> str:
    """Which script a config of this package is for: `sft-tiny` for sft, those without such a word for pretrain."""
    return next((script for script in TUNING_SCRIPTS if name.startswith(f"{script}-")), "pretrain")


def find_config(typed: str | Path) -> Path:
    """A file where there is one, else the config of that name; TrainError with the nearest names."""
    path, known = Path(typed).expanduser(), configs()
    if path.exists() and not path.is_dir():
        return path
    if str(typed) in known:
        return known[str(typed)]
    beside = [str(file) for file in sorted(path.parent.glob("*.y*ml"))] if path.suffix else []
    near = nearest(str(typed), beside) if beside else nearest(path.stem, known)
    raise TrainError(f"{typed}: no such file, and no config of that name comes with this package.{near}")


def apply_override(values: dict[str, Any], override: str) -> str:
    """Set the key that `--set key.key=value` names, and return it; the value is YAML, and 1e-3 a number.

    TrainError if it cannot be set.
    """
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise TrainError(f"--set {override}: expected key=value, such as optimizer.lr=0.003.")
    try:
        value = yaml.safe_load(text)
        if isinstance(value, str) and _EXPONENT.fullmatch(value):  # text to YAML 1.1
            value = float(value)
        set_key(values, dotted, value)
        return dotted
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


def resolved(config: Settings, folder: Path) -> dict[str, Any]:
    """The config as plain values for a file in `folder`, every default written out.

    What lies inside the run is written relative to `folder`, so that the run can be moved; the rest, which stays where
    it is, absolute. The run is the outermost of the folders around `folder` that stages have made: with `yulanmini
    reproduce` that of all stages.
    """
    folder = folder.resolve()
    return _plain(config.model_dump(), folder, outermost_stage_folder(folder))


def settings_text(values: Mapping[str, Any]) -> str:
    """Plain values as YAML, in their order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def located(path: Path, folder: Path) -> Path:
    """A path of a file in `folder`, as it is called from the current folder."""
    place, here = Path(os.path.normpath(folder / path.expanduser())), Path.cwd()
    return place.relative_to(here) if place != here and place.is_relative_to(here) else place


def movable(path: Path, folder: Path, run: Path) -> str:
    """`path` as a file in `folder` should call it: relative where it lies inside `run`, else absolute."""
    for place in (path.resolve(), path.parent.resolve() / path.name):  # a link inside the run counts as inside
        if place.is_relative_to(run):
            return os.path.relpath(place, folder)
    return str(path.absolute())


def _located(value: Any, folder: Path, *, typed: list[str], key: str = "") -> Any:
    """The same values with every path as it is called from the current folder; those of the keys in `typed` count from
    there already."""
    if isinstance(value, Path):
        is_typed = any(key == name or key.startswith(f"{name}.") for name in typed)
        place = located(value, Path.cwd() if is_typed else folder)
        if isinstance(value, ModelPlace):
            return value if not place.exists() and value.hub_id else ModelPlace(place)
        return place
    if isinstance(value, dict):
        dot = "." if key else ""
        return {name: _located(item, folder, typed=typed, key=f"{key}{dot}{name}") for name, item in value.items()}
    return value


def _plain(value: Any, folder: Path, run: Path) -> Any:
    if isinstance(value, Path):
        return str(value) if isinstance(value, ModelPlace) and value.hub_id else movable(value, folder, run)
    if isinstance(value, dict):
        return {key: _plain(item, folder, run) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, folder, run) for item in value]
    return value
