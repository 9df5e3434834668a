"""What `eval fetch` lays out for a benchmark is what its task reads: every configuration, every split."""

from collections.abc import Iterator
from typing import Any

import pytest

from eval.harness.benchmark import all_benchmarks
from eval.harness.definitions import definition_folder, import_harness


def leaves(name: Any, index: dict[str, Any], more: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The definitions of a task or of the tasks of a group, with all that they include and override."""
    from lm_eval.tasks._factory import GROUP_FIELD_NAMES
    from lm_eval.tasks._yaml_loader import load_yaml

    if isinstance(name, dict):
        key = name.get("task") if isinstance(name.get("task"), str) else name.get("group")
        if key not in index:  # defined where it is named
            if isinstance(name.get("task"), list):
                for child in name["task"]:
                    yield from leaves(child, index, more)
            else:
                yield more | name
            return
        name, more = key, more | {part: value for part, value in name.items() if part not in ("task", "group")}
    entry = index[name]
    config = load_yaml(entry.yaml_path, resolve_func=False) if entry.yaml_path else dict(entry.cfg or {})
    if entry.yaml_path is None and entry.tags:
        for member in sorted(entry.tags):
            yield from leaves(member, index, more)
    elif isinstance(config.get("task"), list):
        inherited = {part: value for part, value in config.items() if part not in GROUP_FIELD_NAMES}
        for child in config["task"]:
            yield from leaves(child, index, inherited | more)
    else:
        yield config | more


def splits_read(config: dict[str, Any]) -> set[str]:
    """Those that are scored, and those that examples are taken from."""
    fewshot = config.get("fewshot_config") or {}
    asked = config.get("test_split") or config["validation_split"]
    shown = fewshot.get("split") or config.get("fewshot_split")
    if shown is None and "samples" not in fewshot:
        shown = config.get("training_split") or config.get("validation_split") or config.get("test_split")
    return {asked, shown} - {None}


@pytest.mark.parametrize("name", all_benchmarks())
def test_what_is_fetched_is_what_is_read(name):
    import_harness()
    from lm_eval.tasks import TaskManager

    benchmark = all_benchmarks()[name]
    index = TaskManager(include_path=str(definition_folder(benchmark)), include_defaults=False).task_index
    read: dict[tuple[str, str | None], set[str]] = {}
    for config in leaves(benchmark.task, index, {}):
        if config.get("dataset_path") and not config.get("custom_dataset"):
            key = config["dataset_path"], config.get("dataset_name")
            read.setdefault(key, set()).update(splits_read(config))
    sources = [one for source in benchmark.data for one in source.each()]
    fetched = {(source.repo, source.config): set(source.splits) for source in sources}
    for (repo, config), splits in read.items():
        known = [found for place, found in fetched if place == repo]
        # Of one alone, no name is its name.
        if len(known) == 1 and (config is None or (config == "default" and known[0] is None)):
            config = known[0]
        assert (repo, config) in fetched, f"{name} reads {repo}, {config}; fetched is {sorted(fetched, key=str)}"
        assert splits <= fetched[repo, config], f"{name} reads {splits} of {repo}, {config}"
