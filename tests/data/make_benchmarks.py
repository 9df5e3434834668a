"""Write tests/data/benchmarks: a few items of our own making in the schema of each public benchmark.

`python tests/data/make_benchmarks.py`. The items stand in the modules `items_*.py` beside this file, each with
DATASETS = {"owner/name": {"config": {"split": [record, ...]}}}; "default" where the Hub's has one configuration only.
"""

import importlib
import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "benchmarks"


def write(folder: Path = FOLDER) -> None:
    """Every data set of every module, in place of what is there."""
    from eval.harness.data_folder import describe_files

    shutil.rmtree(folder, ignore_errors=True)
    sys.path.insert(0, str(HERE))
    for module in sorted(HERE.glob("items_*.py")):
        for repo, configs in importlib.import_module(module.stem).DATASETS.items():
            files: dict[str, dict[str, str]] = {}
            for config, splits in configs.items():
                for split, records in splits.items():
                    path = folder / repo / config / f"{split}.jsonl"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
                    path.write_text("".join(lines), encoding="utf-8")
                    files.setdefault(config, {})[split] = f"{config}/{split}.jsonl"
            describe_files(folder / repo, files)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))
    write()
