"""Write tests/data/benchmarks: a few items of our own making in the schema of each public benchmark.

`python tests/data/make_benchmarks.py`. The items stand in the modules `items_*.py` beside this file, each with
DATASETS = {"owner/name": {"config": {"split": [record, ...]}}}; "default" where the Hub's has one configuration only.
FILES = {"owner/name": {"file": text}} is data that is not on the Hub.
"""

import importlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "benchmarks"
Configs = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]


def write_data_set(folder: Path, repo: str, configs: Configs) -> None:
    """One data set as JSON lines, with the README that names its configurations."""
    from eval.harness.data_folder import describe_files

    files: dict[str, dict[str, str]] = {}
    for config, splits in configs.items():
        for split, records in splits.items():
            path = folder / repo / config / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            path.write_text("".join(lines), encoding="utf-8")
            files.setdefault(config, {})[split] = f"{config}/{split}.jsonl"
    describe_files(folder / repo, files)


def write(folder: Path = FOLDER) -> None:
    """Every data set of every module, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    sys.path.insert(0, str(HERE))
    for name in sorted(path.stem for path in HERE.glob("items_*.py")):
        module = importlib.import_module(name)
        for repo, configs in module.DATASETS.items():
            write_data_set(folder, repo, configs)
        for repo, texts in getattr(module, "FILES", {}).items():
            (folder / repo).mkdir(parents=True)
            for file, text in texts.items():
                (folder / repo / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))
    write()
