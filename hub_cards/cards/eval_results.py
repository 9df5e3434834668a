"""`.eval_results/*.yaml`: scores in the form that the Hub shows on a model's page.

https://huggingface.co/docs/hub/eval-results: only of data sets that the Hub has registered as benchmarks. The card's
tables have the rest. Each entry's notes give the protocol and the hash of the file it is from.
"""

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from data_recipes.errors import nearest
from data_recipes.manifest import sha256_file
from eval.harness.benchmark import all_benchmarks
from eval.scores import is_share
from hub_cards.cards.evidence import load
from hub_cards.repos.names import registered_benchmarks

FOLDER = ".eval_results"
ENTRY_KEYS: dict[str, tuple[str, ...]] = {
    "": ("dataset", "value", "verifyToken", "date", "source", "notes"),
    "dataset": ("id", "task_id", "revision"),
    "source": ("url", "name", "user", "org"),
}


def write_eval_results(scores: Path, folder: Path, *, source_url: str) -> None:
    """Write what the Hub shows of a scores.json below `folder`/.eval_results; nothing where it would show nothing."""
    for name, entries in results_of(scores, source_url=source_url).items():
        path = folder / FOLDER / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True), encoding="utf-8")


def results_of(scores: Path, *, source_url: str) -> dict[str, list[dict[str, Any]]]:
    """The content of each file: a score on all questions of a registered data set, in percent. A file for each way of
    asking, as the Hub wants it; our own tasks are registered nowhere."""
    digest = sha256_file(scores)
    files: dict[str, list[dict[str, Any]]] = {}
    for row in load(scores)["rows"]:
        registered = registered_for(row["task"])
        name = f"{row['task']}.yaml"
        if registered is None or name in files or not is_share(row):
            continue
        dataset_id, entry = registered
        if row["count"] != entry["questions"]:
            continue
        how = ", ".join(filter(None, [f"{row['measure']} in percent", row.get("protocol"), f"count {row['count']}"]))
        result = EvalResultEntry(
            dataset_id=dataset_id,
            task_id=entry["task_id"],
            value=round(100 * row["value"], 2),
            source_url=source_url,
            source_name="scores.json",
            notes=f"{how}; scores.json sha256 {digest}",
        )
        files[name] = eval_result_entries_to_yaml([result])
    return files


def registered_for(task: str) -> tuple[str, dict[str, Any]] | None:
    """The registered data set that a benchmark of ours reads as it is registered, and its entry; None for any other."""
    benchmark = all_benchmarks().get(task)
    for source in benchmark.data if benchmark else ():
        entry = registered_benchmarks().get(source.repo)
        if entry and (source.config, source.splits) == (entry["config"], [entry["split"]]):
            return source.repo, entry
    return None


def shape_problems(content: Any) -> list[str]:
    """What is wrong with the content of an `.eval_results` file."""
    if not isinstance(content, list) or not content:
        return ["expected a list of results"]
    problems = []
    for index, entry in enumerate(content):
        if not isinstance(entry, dict):
            problems.append(f"[{index}]: expected a mapping with 'dataset' and 'value'")
            continue
        for section, known in ENTRY_KEYS.items():
            part = entry if not section else entry.get(section, {})
            if not isinstance(part, dict):
                problems.append(f"[{index}].{section}: expected a mapping with the keys {', '.join(known)}")
                continue
            where = f"[{index}].{section}".rstrip(".")
            problems += [f"{where}: unknown key '{key}'.{nearest(str(key), known)}" for key in part if key not in known]
        dataset = entry.get("dataset")
        missing = [key for key in ("id", "task_id") if not isinstance(dataset, dict) or not dataset.get(key)]
        problems += [f"[{index}]: no dataset.{key}" for key in missing]
        if isinstance(entry.get("value"), bool) or not isinstance(entry.get("value"), int | float):
            problems.append(f"[{index}]: the value {entry.get('value')!r} is not a number")
        source = entry.get("source")
        if isinstance(source, dict) and source and not source.get("url"):
            problems.append(f"[{index}]: a source needs its url")
    return problems
