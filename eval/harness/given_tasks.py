"""A user's own task definitions in lm-eval's YAML. Such a file can be a program; here it is read as data.

lm-eval runs what a definition names: `!function`, `class`, prompts and metrics fetched by name. So a file is read here
with a safe loader, with all that it includes, and what would run code is refused; lm-eval gets the plain values. Only
with the user's word (`allow_code`) does lm-eval read the files itself.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import nearest
from data_recipes.manifest import fingerprint_of, sha256_file
from data_recipes.recipes.yaml_schema import read_yaml
from eval.errors import EvalError
from eval.harness.benchmark import Benchmark, all_benchmarks, all_suites
from eval.harness.definitions import import_harness

FLAG = "--allow-task-code"
PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge", "timestamp")
}
MOST_NODES = 100_000
# Of a file, beside the fields of lm-eval's TaskConfig.
FILE_KEYS = {"include", "group", "group_alias", "task_list", "aggregate_metric_list"}
# Each of these makes lm-eval run code, or fetch and run it.
CODE_KEYS = ("class", "custom_dataset", "use_prompt", "unsafe_code")


DEFAULT_METRICS = {
    "generate_until": "exact_match",
    "loglikelihood": "perplexity",
    "loglikelihood_rolling": "word_perplexity",
}


@dataclass(frozen=True)
class GivenTasks:
    """The definitions of a folder by file, as plain values; None where lm-eval may read them itself."""

    folder: Path
    configs: dict[Path, dict[str, Any]] | None
    benchmarks: dict[str, Benchmark]

    @property
    def fingerprint(self) -> str:
        """A hash of what the tasks are: the checked values, or every definition and program of the folder."""
        if self.configs is not None:
            return fingerprint_of(json.dumps([self.configs[path] for path in sorted(self.configs)], default=str))
        files = [path for path in sorted(self.folder.rglob("*")) if path.suffix in (".yaml", ".py")]
        return fingerprint_of({path.relative_to(self.folder).as_posix(): sha256_file(path) for path in files})


def read_given(folder: Path, *, allow_code: bool = False) -> GivenTasks:
    """The tasks that the YAML files of a folder define. `EvalError` names the file and what is wrong."""
    folder = Path(folder)
    if not folder.is_dir():
        raise EvalError(f"{folder}: no such folder of task definitions.")
    paths = sorted(folder.rglob("*.yaml"))
    if not paths:
        raise EvalError(f"{folder}: no *.yaml; expected task definitions as lm-evaluation-harness has them.")
    import_harness()
    if allow_code:
        from lm_eval.tasks._yaml_loader import load_yaml

        configs = {path: load_yaml(path, resolve_func=False) for path in paths}
    else:
        configs = {path: checked(path) for path in paths}
    benchmarks = {}
    for path, config in configs.items():
        name = config.get("task")
        if not isinstance(name, str):
            continue
        if name in benchmarks or name in all_benchmarks() or name in all_suites():
            where = "another of these files" if name in benchmarks else "the published benchmarks or suites"
            raise EvalError(f"{path}: '{name}' is a name in {where} as well. Give the task another.")
        benchmarks[name] = as_benchmark(name, path, config)
    if not benchmarks:
        raise EvalError(f"{folder}: none of its files defines a task (a key 'task' with a name).")
    return GivenTasks(folder, None if allow_code else configs, benchmarks)


def as_benchmark(name: str, path: Path, config: Mapping[str, Any]) -> Benchmark:
    """A definition as an entry: its own settings, and that they are its own."""
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise EvalError(f"{path}: task '{name}': expected letters, digits, '-', '_' and '.' in its name.")
    metrics = [str(entry.get("metric")) for entry in config.get("metric_list") or [] if isinstance(entry, Mapping)]
    filters = [str(entry.get("name")) for entry in config.get("filter_list") or [] if isinstance(entry, Mapping)]
    output = str(config.get("output_type", "generate_until"))
    where = path.name
    return Benchmark(
        title=str(config.get("task_alias") or name),
        task=name,
        folder=path.parent.name,
        shots=int(config.get("num_fewshot") or 0),
        formulation=output.replace("_", " "),
        metric=metrics or [DEFAULT_METRICS.get(output, "acc")],
        filter=filters[0] if filters else "none",
        samples=int(config.get("repeats") or 1),
        minimum_context=1,
        source=dict.fromkeys(("shots", "formulation", "metric", "filter", "samples"), where),
    )


def checked(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A definition with what it includes, as plain values; nothing of it is run."""
    path = path.expanduser().resolve()
    if path in including:
        raise EvalError(f"{path}: includes itself, by way of {including[-1].name}.")
    refuse_tags(path)
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise EvalError(f"{path}: expected a mapping of keys, as a task definition is.")
    check_keys(path, config)
    includes = config.pop("include", None) or []
    merged: dict[str, Any] = {}
    for name in includes if isinstance(includes, list) else [includes]:
        included = path.parent / str(name)
        if not included.is_file():
            raise EvalError(f"{path}: include: {included}: no such file.")
        merged |= checked(included, (*including, path))
    merged.pop("task_list", None)
    return merged | config


def refuse_tags(path: Path) -> None:
    """`EvalError` for any value with a tag that is not plain data, wherever it stands, before it is made."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise EvalError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    left = [root] if root is not None else []
    seen = 0
    while left:
        node = left.pop()
        seen += 1
        if seen > MOST_NODES:
            raise EvalError(f"{path}: more than {MOST_NODES:,} values with all its aliases; too many for a definition.")
        if node.tag not in PLAIN_TAGS:
            raise EvalError(
                f"{path}, line {node.start_mark.line + 1}: '{node.tag}' runs code when the harness reads the file. "
                f"Read that code; if you trust it, give {FLAG}."
            )
        if isinstance(node, yaml.MappingNode):
            left += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value


def check_keys(path: Path, config: Mapping[str, Any]) -> None:
    """`EvalError` for a key that lm-eval does not know, or that makes it run or fetch code."""
    from lm_eval.api import metrics as _  # noqa: F401  (fills the registry)
    from lm_eval.api.registry import metric_registry
    from lm_eval.config.task import TaskConfig

    known = {field.name for field in fields(TaskConfig)} | FILE_KEYS
    trust = f"Read it; if you trust it, give {FLAG}."
    for key in config:
        if key not in known and key not in CODE_KEYS:
            raise EvalError(f"{path}: '{key}': unknown key.{nearest(str(key), sorted(known))}")
    for key, value in walk(config):
        if key in CODE_KEYS and value not in (None, False):
            raise EvalError(f"{path}: '{key}' makes the harness run code. {trust}")
        if key == "hf_evaluate" and value:
            raise EvalError(f"{path}: 'hf_evaluate' fetches a metric's program and runs it. {trust}")
        if key == "metric" and value not in metric_registry:
            raise EvalError(
                f"{path}: metric '{value}' is not one of the harness, which would fetch a program of that name and "
                f"run it.{nearest(str(value), sorted(metric_registry))} {trust}"
            )
        if key == "trust_remote_code" and value:
            raise EvalError(f"{path}: 'trust_remote_code' lets a data set run code. {trust}")
        if key == "dataset_path" and (str(value).endswith(".py") or (path.parent / f"{value}.py").is_file()):
            raise EvalError(f"{path}: dataset_path '{value}' is a program. {trust}")


def walk(value: Any) -> list[tuple[str, Any]]:
    """Every (key, value) in nested mappings and lists."""
    found: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            found += [(str(key), inner), *walk(inner)]
    elif isinstance(value, list):
        for inner in value:
            found += walk(inner)
    return found
