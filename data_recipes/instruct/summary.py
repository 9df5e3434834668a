"""What became of every dialogue, in `summary.json`: the filters' summary, and categories, tokens, answers, pairs."""

from pathlib import Path
from typing import Any

import orjson

from data_recipes.cleaning.pipeline.summary import read_summary
from data_recipes.instruct.config import InstructConfig
from data_recipes.instruct.gather import Gathered
from data_recipes.instruct.write import Written


def summarise(
    config: InstructConfig, filtered: Path, gathered: list[Gathered], counts: Written, pairs: dict[str, Any] | None
) -> dict[str, Any]:
    """Keys beside those of the cleaning summary: `counts`, `of_sources`, `of_categories`, `judge`, `pairs`."""
    summary = read_summary(filtered)
    found: dict[str, Any] = {"read": sum(one.dialogues for one in gathered), "dialogues": counts.dialogues}
    if counts.tokens is not None:
        found["tokens"] = counts.tokens
    if pairs is not None:
        found |= {"pairs": pairs["pairs"], "hard_prompts": pairs["hard_prompts"]}
    return {
        **summary,
        "counts": found,
        "of_sources": [_source_row(config, one, counts) for one in gathered],
        "of_categories": _categories(config, counts),
        "judge": _asked(filtered / "work" / "answers" / "judge"),
        "pairs": pairs,
    }


def _source_row(config: InstructConfig, one: Gathered, counts: Written) -> dict[str, Any]:
    source = config.sources[one.name]
    row = {
        "source": one.name,
        "from": source.public_label,
        "category": source.category,
        "language": source.language,
        "licence": source.licence,
        "revision": one.revision,
        "read": one.dialogues,
        "unread": one.unread,
        "kept": counts.of_source[one.name],
    }
    return row if counts.tokens is None else {**row, "tokens": counts.tokens_of_source[one.name]}


def _categories(config: InstructConfig, counts: Written) -> list[dict[str, Any]]:
    """Each category's dialogues and share, beside the share that was asked for."""
    shares = config.settings.shares or {}
    names = list(shares) or sorted({source.category for source in config.sources.values()})
    rows = []
    for name in names:
        row = {
            "category": name,
            "dialogues": counts.of_category[name],
            "share": counts.of_category[name] / counts.dialogues,
            "asked": shares.get(name),
        }
        rows.append(row if counts.tokens is None else {**row, "tokens": counts.tokens_of_category[name]})
    return rows


def _asked(folder: Path) -> dict[str, int] | None:
    """The judge's answers and tokens, as they were kept: those of stopped runs and other thresholds too."""
    if not folder.is_dir():
        return None
    total = {"answers": 0, "prompt_tokens": 0, "completion_tokens": 0}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                answer = orjson.loads(line)
            except ValueError:
                continue
            total["answers"] += 1
            for key in ("prompt_tokens", "completion_tokens"):
                total[key] += answer.get(key) or 0
    return total
