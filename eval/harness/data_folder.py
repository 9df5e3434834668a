"""Data sets as local folders that `datasets.load_dataset` reads like the Hub's: DIR/<owner>/<name>/<config>/<split>.*

A README.md with the list of configurations is what makes a folder be read in the same way.
"""

from collections.abc import Mapping
from pathlib import Path

import yaml

from data_recipes.files import write_whole
from eval.errors import EvalError

DEFAULT_CONFIG = "default"


def local_folder(data: Path, repo: str) -> Path:
    """The folder of a data set below the user's; `EvalError` names the command that makes it."""
    folder = data / repo
    if not (folder / "README.md").is_file():
        raise EvalError(
            f"{folder}: no such data set (a README.md and files). Where there is a network, "
            f"`yulanmini eval fetch SUITE --out {data}` lays it out."
        )
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
