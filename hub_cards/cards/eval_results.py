"""`.eval_results/*.yaml`: scores in the form that the Hub shows on a model's page.

https://huggingface.co/docs/hub/eval-results. Each entry's notes give the protocol and the hash of the file it is from.
"""

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from data_recipes.errors import nearest
from data_recipes.manifest import sha256_file
from eval.scores import SEPARATOR, finest, is_share
from hub_cards.cards.evidence import load

FOLDER = ".eval_results"
ENTRY_KEYS: dict[str, tuple[str, ...]] = {
    "": ("dataset", "value", "verifyToken", "date", "source", "notes"),
    "dataset": ("id", "task_id", "revision"),
    "source": ("url", "name", "user", "org"),
}


def write_eval_results(scores: Path, folder: Path, *, dataset_id: str, source_url: str) -> None:
    """Write a file for each task of a scores.json below `folder`/.eval_results: an entry for each of its finest groups.

    Shares are given in percent.
    """
    digest = sha256_file(scores)
    entries: dict[str, list[EvalResultEntry]] = {}
    for row in finest(load(scores)["rows"]):
        unit, value = (" in percent", round(100 * row["value"], 2)) if is_share(row) else ("", round(row["value"], 4))
        how = ", ".join([row["measure"] + unit, *filter(None, [row.get("protocol")]), f"count {row['count']}"])
        entry = EvalResultEntry(
            dataset_id=dataset_id,
            task_id="-".join(row["group"].replace(SEPARATOR, " ").split()),
            value=value,
            source_url=source_url,
            source_name="scores.json",
            notes=f"{how}; scores.json sha256 {digest}",
        )
        entries.setdefault(row["task"], []).append(entry)
    for task, results in entries.items():
        path = folder / FOLDER / f"{task}.yaml"
        path.parent.mkdir(exist_ok=True)
        text = yaml.safe_dump(eval_result_entries_to_yaml(results), sort_keys=False, allow_unicode=True)
        path.write_text(text, encoding="utf-8")


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
