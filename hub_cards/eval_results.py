"""`.eval_results/*.yaml`: scores in the form that the Hub shows on a model's page.

https://huggingface.co/docs/hub/eval-results. Each entry's notes give the protocol and the hash of the file it is from.
"""

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from data_recipes.manifest import sha256_file
from hub_cards.figures import load
from hub_cards.vocabulary import nearest

FOLDER = ".eval_results"
ENTRY_KEYS: dict[str, tuple[str, ...]] = {
    "": ("dataset", "value", "verifyToken", "date", "source", "notes"),
    "dataset": ("id", "task_id", "revision"),
    "source": ("url", "name", "user", "org"),
}


def problem_entries(scores: Path, *, dataset_id: str, source_url: str) -> list[EvalResultEntry]:
    """One entry for each kind, level and language of generated problems in a scores.json."""
    digest = sha256_file(scores)
    return [
        EvalResultEntry(
            dataset_id=dataset_id,
            task_id=f"{problem['kind']}-level{problem['level']}-{problem['language']}",
            value=round(100 * problem["exact_match"], 2),
            source_url=source_url,
            source_name="scores.json",
            notes=(
                f"exact match in percent, greedy, {problem['count']} generated problems that are in no training data; "
                f"scores.json sha256 {digest}"
            ),
        )
        for problem in load(scores).get("problems", [])
    ]


def write_eval_results(entries: list[EvalResultEntry], path: Path) -> None:
    """Write entries as one file of `.eval_results/`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def shape_problems(content: Any) -> list[str]:
    """What is wrong with the content of an `.eval_results` file; empty when nothing is."""
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
            problems += [f"{where}: unknown key '{key}'{nearest(key, known)}" for key in part if key not in known]
        dataset = entry.get("dataset")
        missing = [key for key in ("id", "task_id") if not isinstance(dataset, dict) or not dataset.get(key)]
        problems += [f"[{index}]: no dataset.{key}" for key in missing]
        if isinstance(entry.get("value"), bool) or not isinstance(entry.get("value"), int | float):
            problems.append(f"[{index}]: the value {entry.get('value')!r} is not a number")
        source = entry.get("source")
        if isinstance(source, dict) and source and not source.get("url"):
            problems.append(f"[{index}]: a source needs its url")
    return problems
