"""Score a model on the tasks of suites, and write what came out, with what it was made from, as scores.json.

Own tasks (`eval/tasks`) and published benchmarks (`eval/benchmarks`, through lm-eval) are run alike. Every finished one
is in the file at once, so that the same command after a kill goes on with the next.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm

from data_recipes.errors import DataError, nearest
from data_recipes.files import only_process, write_whole
from data_recipes.machine import this_machine
from data_recipes.manifest import claim_folder, fingerprint_of, folder_state, package_versions, sha256_file
from data_recipes.recipes.yaml_schema import validate
from data_recipes.registry import named_subclasses
from eval.corpus_folder import data_fingerprint
from eval.errors import EvalError
from eval.harness.benchmark import Benchmark, all_benchmarks, all_suites
from eval.harness.given_tasks import GivenTasks
from eval.harness.scoring import BenchmarkTask
from eval.harness.served import ServedModel, find_served
from eval.model_loading import LoadedModel, load_model
from eval.ranks import enter_ranks, from_main
from eval.scores import KIND, SCHEMA_VERSION, SCORES_NAME, read_scores
from eval.tasks.base import Task, TaskResult

PACKAGES = ("yulanmini", "torch", "transformers", "tokenizers", "datasets", "lm-eval", "accelerate")
DEFAULT_SUITE = "quick"
LOCK_FILE = ".lock"
INNER = {"benchmark", "label", "given"}  # of a benchmark's task; the user sets the others


def names_of(suites: Sequence[str], given: GivenTasks | None = None) -> list[str]:
    """The tasks and benchmarks of suites, each once, in their order. `EvalError` for what is none of them."""
    singles = [*named_subclasses(Task), *all_benchmarks(), *(given.benchmarks if given else ())]
    names: dict[str, None] = {}
    for suite in suites:
        if suite in all_suites():
            names |= dict.fromkeys(all_suites()[suite].benchmarks)
        elif suite in singles:
            names[suite] = None
        else:
            raise EvalError(f"no suite or task '{suite}'.{nearest(suite, [*all_suites(), *singles])}")
    return list(names)


def benchmarks_of(suites: Sequence[str]) -> list[Benchmark]:
    """The published benchmarks among what suites name. `EvalError` where there are none."""
    found = [all_benchmarks()[name] for name in names_of(suites) if name in all_benchmarks()]
    if not found:
        raise EvalError(f"{', '.join(suites)}: only tasks of our own, which are scored on a corpus folder.")
    return found


def make_tasks(suite: str | Sequence[str], settings: Mapping[str, Any], given: GivenTasks | None = None) -> list[Task]:
    """The tasks of suites; each takes the settings that it knows. `EvalError` for one that none of them knows.

    `given`: benchmarks of the user beside the published ones.
    """
    suites = [suite] if isinstance(suite, str) else list(suite)
    kinds = named_subclasses(Task)
    own = given.benchmarks if given else {}
    names = names_of(suites, given)
    known = {name: set((kinds.get(name) or BenchmarkTask).model_fields) - INNER for name in names}
    for key in settings:
        if not any(key in fields for fields in known.values()):
            listed = set().union(*known.values())
            raise EvalError(f"no task of '{', '.join(suites)}' has a setting '{key}'.{nearest(key, sorted(listed))}")
    tasks = []
    for name in names:
        values = {key: value for key, value in settings.items() if key in known[name]}
        if name not in kinds:
            values |= {"benchmark": own.get(name) or all_benchmarks()[name], "label": name}
            values["given"] = given if name in own else None
        tasks.append(validate(kinds.get(name, BenchmarkTask), values, where=f"task {name}"))
    return tasks


def prepare(
    data: Path | None,
    suite: str | Sequence[str],
    settings: Mapping[str, Any] | None,
    out: Path | None,
    given: GivenTasks | None = None,
) -> list[tuple[Task, Any]]:
    """The tasks of a suite with their inputs. Raises what `run_suite` raises before it loads a model."""
    tasks = make_tasks(suite, settings or {}, given)
    if out is not None:
        folder_state(Path(out), kind=KIND)
    for task in tasks:
        if isinstance(task, BenchmarkTask):
            task.check_machine()
        elif data is None:
            raise EvalError(f"{task.name}: is scored on a corpus folder; give one with --data.")
    return [(task, None if data is None else task.read(Path(data))) for task in tasks]


def run_suite(
    model: str | Path,
    *,
    data: Path | None = None,
    suite: str | Sequence[str] = DEFAULT_SUITE,
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    endpoint: str | None = None,
    tokenizer: str | None = None,
    given: GivenTasks | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a model; returns the scores and writes them to `out`/scores.json if given, task by task.

    `data`: a corpus folder for own tasks, and what `yulanmini eval fetch` laid out for benchmarks, which are read from
    the Hub without it. Keys of the result: "rows" of all tasks, "samples", "notes", "missing" tasks that are still to
    be run, "provenance". The same files and batch size give the same scores on the same machine. With an `endpoint`,
    `model` is what it calls the model, and `tokenizer` the model's folder or Hub id. `given`: a user's own benchmarks.

    Several processes started together (`accelerate launch`) share the documents of benchmarks; rank 0 writes, and
    returns the scores.

    Before a model is loaded: `EvalError` or `DataError` for settings or data that cannot be scored, `DataError` for an
    `out` that holds anything but scores of the same model, data and settings. What is scored there already is kept.
    """
    tasks = prepare(data, suite, settings, out, given)
    world = None if endpoint else enter_ranks(device)
    loaded: LoadedModel | ServedModel
    if endpoint is not None:
        loaded = find_served(str(model), endpoint, tokenizer, trust_remote_code=trust_remote_code)
    else:
        device = str(world.device) if world else device
        loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
        loaded = replace(loaded, world=world)
    for task, _ in tasks:
        task.check_model(loaded)
    scores = new_scores(loaded, tasks, data, suite)
    made_from = {
        "model": loaded.provenance["fingerprint"] or [loaded.provenance["name"], loaded.provenance["revision"]],
        "dtype": loaded.provenance["dtype"],
        "data": scores["provenance"]["data"],
        "settings": scores["provenance"]["settings"],
        "benchmarks": {task.name: task.model_dump() for task, _ in tasks if isinstance(task, BenchmarkTask)},
        "given": given.fingerprint if given else None,
    }
    is_main = world is None or world.is_main
    out = Path(out) if out is not None and is_main else None
    with written_to(out, made_from):
        if out is not None and (out / SCORES_NAME).is_file():
            scores = read_scores(out)
        left = from_main(world, list(scores["missing"]))
        for number, (task, inputs) in enumerate(tasks, 1):
            if task.name not in left or not (is_main or isinstance(task, BenchmarkTask)):
                continue
            if progress and is_main:
                tqdm.write(f"[{number}/{len(tasks)}] {task.name}", file=sys.stderr)
            began = perf_counter()
            result = task.score(loaded, inputs, progress=progress and is_main)
            if is_main:
                add_result(scores, task.name, result, seconds=perf_counter() - began)
            if out is not None:
                keep(scores, out, task.name, result.log)
    return scores


def new_scores(
    loaded: LoadedModel | ServedModel, tasks: Sequence[tuple[Task, Any]], data: Path | None, suite: str | Sequence[str]
) -> dict[str, Any]:
    """A score file before its first task."""
    own = [task for task, _ in tasks if not isinstance(task, BenchmarkTask)]
    settings: dict[str, Any] = {"suite": suite if isinstance(suite, str) else ", ".join(suite)}
    for task in own:
        settings |= task.model_dump()
    benchmarks = [task.benchmark for task, _ in tasks if isinstance(task, BenchmarkTask)]
    repos = sorted({source.repo for benchmark in benchmarks for source in benchmark.data})
    described: dict[str, Any] = {"fingerprint": data_fingerprint(Path(data)) if own and data is not None else None}
    if repos and data is not None:
        described["datasets"] = {repo: files_fingerprint(Path(data) / repo) for repo in repos}
    return {
        "schema_version": SCHEMA_VERSION,
        "model": loaded.provenance["name"],
        "rows": [],
        "samples": [],
        "notes": [],
        "missing": [task.name for task, _ in tasks],
        "provenance": {
            "model": loaded.provenance,
            "data": described,
            "settings": settings,
            "decoding": "greedy",
            "benchmarks": {},
            "packages": package_versions(PACKAGES),
            "machine": machine(loaded),
            "seconds": {},
        },
    }


def add_result(scores: dict[str, Any], name: str, result: TaskResult, *, seconds: float) -> None:
    """Take a finished task into the scores. `EvalError` for a score that is no number."""
    for row in result.rows:
        if not math.isfinite(row["value"]):
            raise EvalError(
                f"{name}: {row['measure']} of '{row['group']}' is {row['value']}; the model's outputs are no numbers. "
                "Did its training diverge, or is the dtype too narrow?"
            )
    scores["rows"] += [{"task": name, **row} for row in result.rows]
    scores["samples"] += result.samples
    scores["notes"] += result.notes
    scores["missing"].remove(name)
    if result.details:
        scores["provenance"]["benchmarks"][name] = result.details
    scores["provenance"]["seconds"][name] = round(seconds, 2)


def keep(scores: Mapping[str, Any], out: Path, name: str, log: Sequence[Mapping[str, Any]]) -> None:
    """Write the log of a task, then the scores that count it as done."""
    if log:
        lines = (json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in log)
        write_whole(out / f"samples-{name}.jsonl", "".join(lines))
    write_whole(out / SCORES_NAME, json.dumps(scores, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def written_to(out: Path | None, made_from: Mapping[str, Any]) -> Iterator[None]:
    """Hold a folder of scores, for this process alone. `DataError` where it is another's, or of something else."""
    if out is None:
        yield
        return
    claim_folder(Path(out), kind=KIND, made_from=made_from)
    busy = DataError(f"{out}: another process is scoring into it. Wait for that, or choose another place.")
    with only_process(Path(out) / LOCK_FILE, busy):
        yield


def files_fingerprint(folder: Path) -> str:
    """A hash of the names and contents of a data set's files."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return fingerprint_of({path.relative_to(folder).as_posix(): sha256_file(path) for path in files})


def machine(loaded: LoadedModel | ServedModel) -> dict[str, Any]:
    """What the scores were computed on; another kind of machine gives other last digits."""
    import torch

    found = this_machine() | {"processes": 1, "threads": torch.get_num_threads()}
    if isinstance(loaded, ServedModel):
        return found | {"processor": "behind an endpoint"}
    if loaded.device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(loaded.device)
    return found | ({"processes": loaded.world.size} if loaded.world else {})
