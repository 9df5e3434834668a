"""Data that does not fit a multiple-choice benchmark: one sentence that names it, no traceback of a template."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from choice_oracle import RandomModel

from eval.errors import EvalError
from eval.harness.benchmark import all_benchmarks
from eval.harness.scoring import BenchmarkTask

FIXTURES = Path(__file__).parents[2] / "data" / "benchmarks"
ARC = "allenai/ai2_arc/ARC-Easy/test.jsonl"
ANATOMY = "cais/mmlu/anatomy/"


@pytest.mark.parametrize(
    ("name", "file", "rows", "message"),
    [
        ("arc-easy", ARC, lambda rows: [*rows[:-1], rows[-1] | {"answerKey": "Z"}], "ARC-Easy does not fit .*'Z'"),
        ("arc-easy", ARC, lambda rows: [{"question": "Q"}], "arc-easy: .*does not fit its data"),
        ("mmlu-text", ANATOMY + "dev.jsonl", lambda rows: rows[:3], "cais/mmlu anatomy does not fit .*exceeds the 3"),
        ("mmlu-text", ANATOMY + "test.jsonl", lambda rows: [], "mmlu-text: "),
        (
            "hellaswag",
            "Rowan/hellaswag/default/validation.jsonl",
            lambda rows: [row | {"label": ""} for row in rows],
            "hellaswag: its data cannot be read",
        ),
        (
            "gpqa",
            "Idavidrein/gpqa/gpqa_main/train.jsonl",
            lambda rows: [*rows[:-1], rows[-1] | {"Correct Answer": None}],
            "gpqa: .*does not fit",
        ),
    ],
)
def test_what_does_not_fit_is_named(name: str, file: str, rows: Any, message: str, tmp_path: Path) -> None:
    repo = "/".join(file.split("/")[:2])
    shutil.copytree(FIXTURES / repo, tmp_path / repo)
    path = tmp_path / file
    changed = rows([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(row) + "\n" for row in changed))
    with pytest.raises(EvalError, match=message):
        BenchmarkTask(label=name, benchmark=all_benchmarks()[name]).score_with(RandomModel(), tmp_path)
