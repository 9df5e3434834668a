"""The suites as a user runs them: on small data sets, with a random model, without a network."""

from pathlib import Path

import pytest

from eval.harness.benchmark import all_benchmarks, all_suites
from eval.suites import run_suite

FIXTURES = Path(__file__).resolve().parents[2] / "data" / "benchmarks"
TABLE_6 = [
    "math500-4shot-cot",
    "gsm8k-7shot-cot",
    "humaneval-0shot",
    "mbpp-3shot",
    "race-middle",
    "race-high",
    "ruler-4k",
]


def test_every_benchmark_of_the_suites_has_small_data_here():
    for suite in all_suites().values():
        for name in suite.benchmarks:
            for source in all_benchmarks()[name].data if name in all_benchmarks() else ():
                assert (FIXTURES / source.repo).is_dir(), name


@pytest.mark.slow
def test_table_6_runs_from_local_folders(roomy_model, tmp_path):
    assert {*TABLE_6[:-1]} <= {*all_suites()["base"].benchmarks}
    settings = {"limit": 1}
    scores = run_suite(roomy_model, data=FIXTURES, suite=TABLE_6, settings=settings, out=tmp_path / "scores")
    wholes = {(row["task"], row["measure"]): row for row in scores["rows"] if row["group"] == "all"}
    assert {task for task, _ in wholes} == {*TABLE_6}
    assert wholes["humaneval-0shot", "pass@10"]["value"] == 0
    assert wholes["ruler-4k", "recall"]["count"] == 13
    assert all(row["cut"] == 0 for (task, _), row in wholes.items() if task == "ruler-4k")
