"""lm-eval's task objects for a benchmark, from the few files that define it.

`TaskManager()` reads 14,000 definitions in 19 s; here it is shown one folder. Data sets are taken from local folders
where the user has them: DIR/<owner>/<name> in place of the Hub's <owner>/<name>.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from data_recipes.errors import first_line
from eval.errors import EvalError
from eval.harness.benchmark import BENCHMARKS, Benchmark
from eval.harness.data_folder import load_local

INSTALL = "the published benchmarks run on lm-evaluation-harness: pip install 'yulanmini[eval]'"
OWN = "own"  # the folder of a benchmark whose definition is ours begins with it


@cache
def import_harness() -> Any:
    """The package `lm_eval`, its own messages turned off, its templates unable to reach into Python.

    `EvalError` where it is not installed.
    """
    try:
        import lm_eval.utils
    except ImportError as error:
        raise EvalError(f"{INSTALL} ({first_line(error)}).") from error
    from jinja2.sandbox import SandboxedEnvironment

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # A prompt template is text from a file or a data set's card; lm-eval's environment would let it run any code.
    plain = lm_eval.utils.env
    sandbox = SandboxedEnvironment(loader=plain.loader, undefined=plain.undefined, keep_trailing_newline=True)
    sandbox.filters.update(plain.filters)
    # It compiles a template anew for every document that is put into it: most of the time before a model is asked.
    sandbox.from_string = lru_cache(maxsize=256)(sandbox.from_string)  # type: ignore[assignment]
    lm_eval.utils.env = sandbox
    return lm_eval


def definition_folder(benchmark: Benchmark) -> Path:
    """Where the definition of a benchmark's task lies."""
    top, _, rest = benchmark.folder.partition("/")
    if top == OWN:
        return BENCHMARKS / "tasks" / rest
    return Path(import_harness().__file__).parent / "tasks" / benchmark.folder


@contextlib.contextmanager
def local_data(data: Path | None, revisions: Mapping[str, str]) -> Iterator[None]:
    """While lm-eval makes its tasks: those whose data set is a folder below `data` read it there, others from the Hub,
    of the revision that is given by repo."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    download = ConfigurableTask.download

    def read(task: Any, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        repo = task.DATASET_PATH
        if data is None or not repo or task.config.custom_dataset is not None or not (data / repo).is_dir():
            revision = {"revision": revisions[repo]} if repo in revisions else {}
            download(task, {**(dataset_kwargs or {}), **revision}, **kwargs)
            return
        data_files = (dataset_kwargs or {}).get("data_files")
        task.dataset = load_local((data / repo).resolve(), task.DATASET_NAME, data_files=data_files)

    ConfigurableTask.download = read
    bars = datasets.are_progress_bars_disabled()
    if data is not None:  # a bar for each split of each of MMLU's 57
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        ConfigurableTask.download = download
        if not bars:
            datasets.enable_progress_bars()


def load_tasks(
    name: str,
    benchmark: Benchmark,
    *,
    data: Path | None,
    metadata: Mapping[str, Any] | None = None,
    given: Any | None = None,
) -> dict[str, Any]:
    """What `TaskManager.load` gives of a benchmark ("tasks", "groups"), its settings applied and its data read.

    `data`: the folder with local data sets, None for the Hub. `metadata` goes to tasks that make their own data.
    `given`: the `GivenTasks` of a user, in place of the benchmark's folder.
    """
    import_harness()
    import datasets
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import TaskIndex

    folder = definition_folder(benchmark) if given is None else given.folder
    values = given.configs if given is not None else None
    manager = TaskManager(
        include_path=str(folder) if values is None else None, include_defaults=False, metadata=dict(metadata or {})
    )
    if values is not None:
        for path, config in values.items():
            if "task" in config or "group" in config:
                TaskIndex.process_cfg(dict(config), path, manager.task_index)
        for entry in manager.task_index.values():
            entry.yaml_path = None  # the values are taken as they were checked; the file is not read again
    if benchmark.task not in manager.task_index:
        raise EvalError(f"{name}: {folder} defines no task '{benchmark.task}'.")
    revisions = {source.repo: source.revision for source in benchmark.data if source.revision}
    try:
        with local_data(data, revisions):
            loaded = manager.load([benchmark.task])
    except EvalError:  # of a task that makes its own data
        raise
    except (OSError, datasets.exceptions.DatasetsError, ValueError) as error:  # not on the disk, no network
        how = f"Where there is a network, `yulanmini eval fetch {name} --out DIR` lays it out; then give --data DIR."
        by_hand = [source.by_hand for source in benchmark.data if source.by_hand]
        raise EvalError(
            f"{name}: its data cannot be read ({first_line(error)}). {by_hand[0] if by_hand else how}"
        ) from error
    except Exception as error:  # whatever a definition does not fit
        raise EvalError(f"{name}: its definition in {folder} does not fit its data ({error!r:.300}).") from error
    for task in loaded["tasks"].values():
        for step in ("build_all_requests", "process_results"):
            setattr(task, step, _naming_data(name, task, getattr(task, step)))
        task.set_config("num_fewshot", benchmark.shots)
        task.set_config("repeats", benchmark.samples)
        if benchmark.generation and task.OUTPUT_TYPE == "generate_until":
            task.set_config("generation_kwargs", dict(benchmark.generation), update=True)
    return dict(loaded)


def _naming_data(name: str, task: Any, step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of a task that puts documents into its definition: `EvalError` where one of them does not fit."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            return step(*args, **kwargs)
        except EvalError:
            raise
        except Exception as error:
            data = " ".join(str(part) for part in (task.DATASET_PATH, task.DATASET_NAME) if part)
            raise EvalError(f"{name}: a document of {data} does not fit the definition ({error!r:.300}).") from error

    return checked
