"""Published benchmarks through lm-eval: from a local folder without a network, scored, logged, listed."""

import json
from pathlib import Path

import pytest
import yaml
from test_eval_command import call

from data_recipes.errors import DataError
from data_recipes.recipes.yaml_schema import validate
from eval.harness.benchmark import Benchmark, all_benchmarks, all_suites
from eval.suites import make_tasks, run_suite

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "benchmarks"
ENTRY = yaml.safe_load("""
title: A
task: a
folder: a
shots: 0
formulation: generation
metric: acc
minimum_context: 8
source: {shots: "the report", formulation: "the report", metric: "not public, ours"}
""")


def test_every_suite_names_what_there_is_and_every_setting_its_source():
    for suite in all_suites():
        assert make_tasks(suite, {})
    for benchmark in all_benchmarks().values():
        assert {"shots", "formulation", "metric"} <= set(benchmark.source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrc": "acc"}, "metrc: unknown key. Did you mean 'metric'?"),
        ({"filter": "strict"}, "'filter' is set, but not where that is from"),
        ({"source": {**ENTRY["source"], "shot": "x"}}, "'shot' is no setting. Did you mean 'shots'?"),
        ({"shots": -1}, "shots: Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_entry_is_named(change, message):
    with pytest.raises(DataError) as caught:
        validate(Benchmark, ENTRY | change, where="file.yaml: a")
    assert message in str(caught.value)


def test_a_choice_and_a_written_benchmark_are_scored_from_local_folders(roomy_model, tmp_path, monkeypatch, capsys):
    out = tmp_path / "scores"
    names = ["--suite", "arc-easy", "--suite", "gsm8k-7shot-cot", "--limit", "2"]
    assert call(monkeypatch, "run", roomy_model, "--data", FIXTURES, "--out", out, "--json", *names) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores == json.loads((out / "scores.json").read_text())
    rows = {(row["task"], row["measure"]): row for row in scores["rows"]}
    assert rows["arc-easy", "accuracy"]["count"] == rows["gsm8k-7shot-cot", "exact match"]["count"] == 2
    asked = (FIXTURES / "allenai/ai2_arc/ARC-Easy/test.jsonl").read_text().splitlines()[:2]
    options = [len(json.loads(line)["choices"]["text"]) for line in asked]
    assert rows["arc-easy", "accuracy"]["chance"] == pytest.approx(sum(1 / count for count in options) / 2)
    assert rows["gsm8k-7shot-cot", "exact match"]["chance"] is None
    assert scores["missing"] == []
    for name in ("arc-easy", "gsm8k-7shot-cot"):
        details = scores["provenance"]["benchmarks"][name]
        assert details["settings"]["limit"] == 2
        assert details["benchmark"]["source"] == all_benchmarks()[name].source
        log = [json.loads(line) for line in (out / f"samples-{name}.jsonl").read_text().splitlines()]
        assert [record["doc_id"] for record in log] == [0, 1]
    assert all(record["prompt"].count("Question: ") == 8 for record in log)
    assert str(tmp_path) not in json.dumps(scores)


def test_what_is_scored_is_not_scored_again(roomy_model, tmp_path, monkeypatch):
    from eval.harness.scoring import BenchmarkTask

    once = run_suite(roomy_model, data=FIXTURES, suite="arc-easy", out=tmp_path / "scores")
    monkeypatch.setattr(BenchmarkTask, "score", lambda *args, **kwargs: pytest.fail("scored again"))
    assert run_suite(roomy_model, data=FIXTURES, suite="arc-easy", out=tmp_path / "scores") == once


def test_a_suite_is_listed_with_sources(model_folder, monkeypatch, capsys):
    assert call(monkeypatch, "suites", "base", "--json") == 0
    assert json.loads(capsys.readouterr().out)["arc-easy"]["source"]["metric"]
    assert call(monkeypatch, "run", model_folder, "--suite", "base", "--dry-run") == 0
    assert "the authors' LLMBox script" in capsys.readouterr().out
    assert call(monkeypatch, "suites", "bse") == 2
    assert "Did you mean 'base'?" in capsys.readouterr().err
