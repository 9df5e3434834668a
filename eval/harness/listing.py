"""What the suites contain, for people and programs: settings with their sources."""

from collections.abc import Sequence
from typing import Any

from data_recipes.errors import nearest
from data_recipes.registry import named_subclasses
from eval.errors import EvalError
from eval.harness.benchmark import SOURCED, Benchmark, all_benchmarks, all_suites
from eval.harness.given_tasks import GivenTasks
from eval.tasks.base import Task


def describe(names: Sequence[str]) -> dict[str, Any]:
    """Of suites, their benchmarks; of benchmarks, their settings. Without names, all suites."""
    if not names:
        return {name: suite.model_dump() for name, suite in all_suites().items()}
    return {name: entry.model_dump() if isinstance(entry, Benchmark) else entry for name, entry in _members(names)}


def suite_lines() -> list[list[Any]]:
    return [[name, len(suite.benchmarks), suite.description] for name, suite in all_suites().items()]


def benchmark_lines(names: Sequence[str], given: GivenTasks | None = None) -> list[list[str]]:
    """A line a setting of each benchmark; one for a task of ours."""
    lines = []
    for name, entry in _members(names, given):
        if not isinstance(entry, Benchmark):
            lines.append([name, "", entry, "eval/tasks"])
            continue
        lines.append([name, "task", f"{entry.title}: {entry.task} ({entry.folder})", ""])
        for key in SOURCED:
            if key in entry.model_fields_set:
                lines.append(["", key, str(getattr(entry, key)), entry.source[key]])
        lines += [["", "data", f"{data.repo} {data.config or ''}".strip(), ""] for data in entry.data]
    return lines


def _members(names: Sequence[str], given: GivenTasks | None = None) -> list[tuple[str, Any]]:
    """(name, benchmark or the first sentences on a task of ours), each once."""
    own = {name: " ".join((kind.__doc__ or "").split()) for name, kind in named_subclasses(Task).items()}
    known: dict[str, Any] = {**own, **all_benchmarks(), **(given.benchmarks if given else {})}
    found: dict[str, Any] = {}
    for name in names:
        for member in all_suites()[name].benchmarks if name in all_suites() else [name]:
            if member not in known:
                raise EvalError(f"no suite, benchmark or task '{member}'.{nearest(member, [*all_suites(), *known])}")
            found[member] = known[member]
    return list(found.items())
