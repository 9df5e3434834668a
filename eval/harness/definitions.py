"""lm-eval's task objects for a benchmark, from the few files that define it.

`TaskManager()` reads 14,000 definitions in 19 s; here it is shown one folder. Data sets are taken from local folders
where the user has them: DIR/<owner>/<name> in place of the Hub's <owner>/<name>.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_recipes.errors import first_line
from eval.errors import EvalError
from eval.harness.benchmark import BENCHMARKS, Benchmark

INSTALL = "the published benchmarks run on lm-evaluation-harness: pip install 'yulanmini[eval]'"
OWN = "own"  # the folder of a benchmark whose definition is ours begins with it


def import_harness() -> Any:
    """The package `lm_eval`, its own messages turned off; `EvalError` where it is not installed."""
    try:
        import lm_eval
    except ImportError as error:
        raise EvalError(f"{INSTALL} ({first_line(error)}).") from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return lm_eval


def definition_folder(benchmark: Benchmark) -> Path:
    """Where the definition of a benchmark's task lies."""
    top, _, rest = benchmark.folder.partition("/")
    if top == OWN:
        return BENCHMARKS / "tasks" / rest
    return Path(import_harness().__file__).parent / "tasks" / benchmark.folder


def load_tasks(
    name: str, benchmark: Benchmark, *, data: Path | None, metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `TaskManager.load` gives of a benchmark ("tasks", "groups"), its settings applied and its data read.

    `data`: the folder with local data sets, None for the Hub. `metadata` goes to tasks that make their own data.
    """
    import_harness()
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._factory import TaskFactory

    class LocalData(TaskFactory):
        """Puts the user's folder in the place of a Hub id, in every definition before its data is read."""

        def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
            config = super()._load_full_config(entry, overrides)
            repo = config.get("dataset_path")
            if data is not None and repo and (data / repo).is_dir():
                config["dataset_path"] = str((data / repo).resolve())
            return config

    folder = definition_folder(benchmark)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    manager._factory = LocalData(meta=dict(metadata or {}))
    if benchmark.task not in manager.all_tasks:
        raise EvalError(f"{name}: {folder} defines no task '{benchmark.task}'.")
    try:
        loaded = manager.load([benchmark.task])
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # of `datasets`: not on the disk, no network
        raise EvalError(
            f"{name}: its data cannot be read ({first_line(error)}). Where there is a network, "
            f"`yulanmini eval fetch {name} --out DIR` lays it out; then give --data DIR."
        ) from error
    for task in loaded["tasks"].values():
        task.set_config("num_fewshot", benchmark.shots)
        task.set_config("repeats", benchmark.samples)
        if benchmark.generation and task.OUTPUT_TYPE == "generate_until":
            task.set_config("generation_kwargs", dict(benchmark.generation), update=True)
    return dict(loaded)
