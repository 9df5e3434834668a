"""Every multiple-choice benchmark against oracles: a planted model, a random one, and the rows of its data."""

from collections import Counter
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from choice_oracle import KNOWN, Known, PlantedModel, RandomModel, drawn, scored_rows, write_data

from eval.harness.benchmark import all_benchmarks
from eval.harness.scoring import BenchmarkTask

SUBJECTS = {"cais/mmlu": 57, "ceval/ceval-exam": 52, "haonan-li/cmmlu": 67}


def items(known: Known, total: int) -> int:
    return -(-total // SUBJECTS.get(known.repo, 1))


def whole(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["measure"]: row for row in rows if row["group"] == "all"}


@pytest.mark.parametrize("name", KNOWN)
def test_a_planted_model_gets_exactly_the_planted_accuracy(name: str, tmp_path: Path) -> None:
    known = KNOWN[name]
    rows = list(scored_rows(known, write_data(tmp_path, known.repo, items(known, 20))))

    def right(question: str) -> bool:
        return drawn(question) < 0.6

    model = PlantedModel(known, right)
    got = BenchmarkTask(label=name, benchmark=all_benchmarks()[name]).score_with(model, tmp_path)

    correct: dict[str, list[bool]] = {}
    for config, row in rows:
        correct.setdefault(config, []).append(right(known.question(row)))
    # The mean of the subjects, each the mean of its questions; one configuration is its own mean.
    expected = sum(sum(answers) / len(answers) for answers in correct.values()) / len(correct)
    for row in whole(got.rows).values():
        assert row["value"] == pytest.approx(expected, abs=1e-12), row["measure"]
        assert row["count"] == len(rows)
        assert row["chance"] == pytest.approx(sum(1 / len(known.answers(raw)) for _, raw in rows) / len(rows))
    # Every question once, each with all of its answers.
    asked = Counter(known.question(request.doc) for request in model.requests)
    twice = 2 if all_benchmarks()[name].metrics[0] == "acc_mutual_info" else 1
    assert asked == {known.question(row): twice * len(known.answers(row)) for _, row in rows}


@pytest.mark.parametrize("name", KNOWN)
def test_a_random_model_is_at_chance(name: str, tmp_path: Path) -> None:
    known = KNOWN[name]
    rows = list(scored_rows(known, write_data(tmp_path, known.repo, items(known, 400))))
    assert len(rows) >= 400
    got = BenchmarkTask(label=name, benchmark=all_benchmarks()[name]).score_with(RandomModel(), tmp_path)
    for row in whole(got.rows).values():
        error = sqrt(row["chance"] * (1 - row["chance"]) / row["count"])
        assert abs(row["value"] - row["chance"]) < 3.5 * error, row
        assert row["stderr"] == pytest.approx(error, rel=0.2)
