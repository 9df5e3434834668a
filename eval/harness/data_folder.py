"""Data sets as local folders: DIR/<owner>/<name>/<config>/<split>.*, and a README.md that lists the configurations.

`datasets.load_dataset(FOLDER, name=...)` could read them, but it parses that list again for each of MMLU's 57 and keeps
what it read under the list alone: a second folder with the same list, or a file that has changed, gives the rows of the
first. So it is given files by name here, and a cache that lasts as long as the process.
"""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from data_recipes.errors import nearest
from data_recipes.files import write_whole
from eval.errors import EvalError

DEFAULT_CONFIG = "default"
FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
Patterns = Mapping[str, Sequence[str]]  # of files below the folder, by split


def local_folder(data: Path, repo: str, by_hand: str | None = None) -> Path:
    """The folder of a data set below the user's; `EvalError` names the command that makes it, or says what to do."""
    folder = data / repo
    if not folder.is_dir():
        how = f"Where there is a network, `yulanmini eval fetch SUITE --out {data}` lays it out."
        raise EvalError(f"{folder}: no such data set. {by_hand or how}")
    return folder.resolve()


def describe_files(folder: Path, files: Mapping[str, Mapping[str, str]]) -> None:
    """Write the README.md: {configuration: {split: file below the folder}}."""
    configs = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": path} for split, path in splits.items()],
            **({"default": True} if config == DEFAULT_CONFIG else {}),
        }
        for config, splits in files.items()
    ]
    text = yaml.safe_dump({"configs": configs}, sort_keys=False)
    write_whole(
        folder / "README.md", f"---\n{text}---\nLaid out for reading without a network; see docs/evaluation.md.\n"
    )


def load_local(folder: Path, config: str | None, *, data_files: Mapping[str, str | Sequence[str]] | None = None) -> Any:
    """A `DatasetDict` of the splits of a configuration, None for the only or the default one.

    `data_files` ({split: pattern or patterns below the folder}) stands in the place of the README's.
    """
    import datasets

    if data_files is not None:
        patterns: Patterns = {
            split: [given] if isinstance(given, str) else given for split, given in data_files.items()
        }
    else:
        patterns = _patterns(folder, config)
    files = {split: _files(folder, given) for split, given in patterns.items()}
    suffixes = {path.suffix for paths in files.values() for path in paths}
    if len(suffixes) != 1 or not suffixes <= FORMATS.keys():
        raise EvalError(f"{folder}: expected files of one kind ({', '.join(FORMATS)}), found {sorted(suffixes)}.")
    reader = getattr(
        datasets.Dataset, f"from_{FORMATS[suffixes.pop()]}"
    )  # `load_dataset` reports each load to a server
    return datasets.DatasetDict(
        {
            split: reader([str(path) for path in paths], split=datasets.NamedSplit(split), cache_dir=_cache().name)
            for split, paths in files.items()
        }
    )


@cache
def _cache() -> TemporaryDirectory[str]:
    """Removed at exit."""
    return TemporaryDirectory(prefix="yulanmini-eval-")


def _patterns(folder: Path, config: str | None) -> Patterns:
    readme = folder / "README.md"
    configs = _readme_configs(readme, readme.stat().st_mtime_ns if readme.exists() else 0)
    if config is None:
        config = DEFAULT_CONFIG if DEFAULT_CONFIG in configs else next(iter(configs))
    if config not in configs:
        raise EvalError(f"{folder}: its README.md names no configuration '{config}'.{nearest(config, configs)}")
    return configs[config]


@lru_cache(maxsize=64)
def _readme_configs(readme: Path, changed: int) -> dict[str, Patterns]:
    """What a README lists as `configs`, in the forms that the Hub allows. `changed` keeps the cache honest."""
    try:
        _, front, _ = readme.read_text(encoding="utf-8").split("---\n", 2)
        found = yaml.load(front, Loader=yaml.CSafeLoader)
        return {entry["config_name"]: _by_split(entry["data_files"]) for entry in found["configs"]}
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise EvalError(
            f"{readme}: expected the `configs` of a data set, each with config_name and data_files, between "
            "two lines of ---, as `yulanmini eval fetch` writes them."
        ) from error


def _by_split(given: Any) -> Patterns:
    if isinstance(given, str):
        return {"train": [given]}
    if all(isinstance(item, str) for item in given):
        return {"train": given}
    return {item["split"]: [path] if isinstance(path := item["path"], str) else path for item in given}


def _files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    for pattern in patterns:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise EvalError(f"{folder}: '{pattern}' leads out of the data set's folder; name files below it.")
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not found:
        raise EvalError(f"{folder}: no file {' or '.join(patterns)}. Was the fetch interrupted?")
    return found
