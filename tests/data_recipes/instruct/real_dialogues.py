"""A mixture of dialogues on real text of this machine, with one planted dialogue for each filter, and its config.

Questions are about functions of Python's library, answers are their documentation; arithmetic with answers; Chinese
questions on a reference work of some entries. `PLANTED` says of each planted dialogue which step drops it and why.
"""

import inspect
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from endpoint_server import last
from sft_miniature import write_llama, write_tokenizer

MODULES = "textwrap shutil statistics random heapq bisect difflib gzip json os.path string tempfile glob fnmatch"
USELESS = "It does things with data."
MUTE = "Nobody can say what this function is good for, and so the judge will not either."

REFERENCE = [
    ("李白", "李白，字太白，唐代诗人，著有《将进酒》《静夜思》，与杜甫并称。生于701年。"),
    ("杜甫", "杜甫，字子美，唐代诗人，著有《春望》《登高》，生于712年。"),
    ("长城", "长城是中国古代的军事防御工程，秦始皇时连接各段，明代重修，东起山海关。"),
    ("故宫", "故宫位于北京，旧称紫禁城，建成于1420年，是明清两代的皇宫。"),
]


def pair(question: Any, answer: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **more}


@cache
def documented() -> tuple[tuple[str, str], ...]:
    """Names and documentation of functions of the standard library, of some length and each ending in a sentence."""
    from importlib import import_module

    found = {}
    for module in MODULES.split():
        for name, member in inspect.getmembers(import_module(module), inspect.isfunction):
            text = re.sub(r"\s+", " ", inspect.getdoc(member) or "").strip()
            if 120 <= len(text) <= 700 and text.endswith(".") and text.isascii():
                found.setdefault(text[:60], (f"{member.__module__}.{name}", text))
    return tuple(sorted(found.values()))


def docs() -> list[dict[str, Any]]:
    return [pair(f"What does the function {name} do?", text) for name, text in documented()]


def sums(count: int = 24) -> list[dict[str, str]]:
    return [
        {
            "problem": f"A shop sells {number} pens and then {number * 7} pens. How many pens are these?",
            "solution": f"First {number}, then {number * 7}. Together these are \\boxed{{{number * 8}}} pens.",
            "gold": str(number * 8),
        }
        for number in range(3, 3 + count)
    ]


def chinese() -> list[dict[str, str]]:
    return [
        {"instruction": "李白写过哪些有名的诗？", "output": "李白是唐代诗人，写过《将进酒》和《静夜思》，与杜甫并称。"},
        {"instruction": "故宫是什么时候建成的？", "output": "故宫旧称紫禁城，建成于1420年，位于北京。"},
        {"instruction": "怎样把鸡蛋煮得嫩一些？", "output": "水开以后放入鸡蛋，中火煮六分钟，再放进冷水里。"},
    ]


def planted() -> dict[str, tuple[str, dict[str, Any], tuple[str, str]]]:
    """By name: the source, the row, and the step and reason that drop it."""
    name, text = max(documented(), key=lambda one: len(one[1]))
    other, long_text = documented()[5]
    chatter = " ".join(text for _, text in documented())[:9000]
    wrong = {**sums(30)[-1], "solution": "Altogether these are \\boxed{17} pens."}
    return {
        "no text": ("docs", pair("What is this?", None), ("dialogue", "content is not text")),
        "too long": ("docs", pair("Tell me everything.", chatter + "."), ("dialogue", "more than 4,000 tokens")),
        "copy": (
            "docs",
            pair(f"What does the function {name} do?", text.replace(" the ", " ", 1)),
            ("near-duplicates", "near duplicate of another document"),
        ),
        "unfinished": (
            "docs",
            pair(f"And what of {other}, briefly?", f"{long_text[:100]} and of the"),
            ("dialogue-rules", "an unfinished answer"),
        ),
        "filler": ("docs", pair("Which module packs files?", "Sure!"), ("dialogue-rules", "a filler for an answer")),
        "refusal": (
            "docs",
            pair("Which module unpacks files?", "As an AI language model, I have no opinion on modules."),
            ("dialogue-rules", "an answer that speaks as another model, or refuses"),
        ),
        "wrong answer": ("sums", wrong, ("verified-answer", "wrong answer")),
        "useless": ("docs", pair("What does os.walk do?", USELESS), ("judge", "judged below 3")),
        "mute": ("docs", pair("What does os.fwalk do?", MUTE), ("judge", "no grades in the judge's answers")),
        "unknown names": (
            "chinese",
            {"instruction": "杜甫写过哪些有名的诗？", "output": "杜甫写过《悲惨世界》，生于1802年，住在巴黎。"},
            ("entities", "names that the reference does not bear out"),
        ),
        "too complex": (
            "docs",
            pair("And what do all of these do?", f"{' '.join(text for _, text in documented()[7:])[:3000]}."),
            ("complexity", "complexity above 7.5"),
        ),
    }


def grade(body: dict[str, Any]) -> str:
    """What the judge on the server says: bad grades for one planted dialogue, none for another, good ones else."""
    question = last(body)
    if MUTE in question:
        return "I would give it a 5."
    mark = 2 if USELESS in question else 4
    return json.dumps({"instruction_following": mark, "informativeness": mark, "truthfulness": mark + 1})


def write_lines(path: Path, rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def write_mixture(folder: Path, url: str | None, *, plants: bool = True, **changes: Any) -> Path:
    """Sources, models and a config with every filter; returns the config."""
    rows: dict[str, list[Any]] = {"docs": docs(), "sums": sums(), "chinese": chinese()}
    for source, row, _ in planted().values() if plants else ():
        rows[source].append(row)
    for name, lines in rows.items():
        write_lines(folder / f"{name}.jsonl", lines)
    write_lines(folder / "baike.jsonl", [{"title": title, "text": text} for title, text in REFERENCE])
    write_tokenizer(write_llama(folder / "base"))
    config = {
        "endpoint": url,
        "sources": {
            "docs": {"path": "docs.jsonl", "category": "code", "language": "en", "licence": "PSF"},
            "sums": {
                "path": "sums.jsonl",
                "category": "math",
                "columns": {"prompt": "problem", "completion": "solution", "answer": "gold"},
            },
            "chinese": {"path": "chinese.jsonl", "category": "general-zh", "language": "zh"},
        },
        "steps": [
            {"step": "dialogue", "tokenizer": "base", "max_tokens": 4000},
            {"step": "exact-duplicates"},
            {"step": "near-duplicates", "similarity": 0.9},
            {"step": "dialogue-rules"},
            {"step": "verified-answer", "only": {"category": "math"}},
            {"step": "entities", "reference": "baike.jsonl", "only": {"category": "general-zh"}},
            {"step": "judge", "model": "served", "at_least": 3, "attempts": 2, "patience": 1},
            {"step": "complexity", "model": "base", "at_most": 7.5, "batch_tokens": 1024},
        ],
        **changes,
    }
    path = folder / "mixture.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return path


LIGHT = [{"step": "dialogue"}, {"step": "judge", "model": "served", "at_least": 3, "attempts": 1, "patience": 1}]
"""Filters that load no model."""
