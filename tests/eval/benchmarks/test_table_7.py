"""The likelihood benchmarks of the published tables through the command line, offline, on made-up items."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

from choice_oracle import KNOWN

from eval.harness.benchmark import all_benchmarks, all_suites
from yulanmini.cli import main

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "tests" / "data" / "benchmarks"
SUBJECTS = {"mmlu": (57, "STEM", 18), "ceval": (52, "STEM", 20), "cmmlu": (67, "Humanities", 13)}
BY_SUBJECT = [f"{name}-{form}" for name in SUBJECTS for form in ("letter", "text")]
FORMS = ("option letter", "option text", "continuation", "partial sentence")
OTHERS = [name for name in (*KNOWN, "lambada", "truthfulqa-mc2") if name not in BY_SUBJECT]


def score(names, model, out, monkeypatch, capsys):
    suites = [word for name in names for word in ("--suite", name)]
    command = ["yulanmini", "eval", "run", model, "--data", FIXTURES, "--out", out, "--limit", 1, "--json", *suites]
    monkeypatch.setattr("sys.argv", [str(word) for word in command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["missing"] == []
    assert all(row["cut"] == 0 for row in scores["rows"])
    return {(row["task"], row["group"]): row for row in scores["rows"]}


def test_the_likelihood_benchmarks_run_on_the_fixtures(roomy_model, tmp_path, monkeypatch, capsys):
    rows = score(OTHERS, roomy_model, tmp_path / "scores", monkeypatch, capsys)
    assert rows.keys() == {(name, "all") for name in OTHERS}


@pytest.mark.parametrize("name", BY_SUBJECT)
def test_examinations_have_rows_for_categories_and_subjects(name, roomy_model, tmp_path, monkeypatch, capsys):
    subjects, category, members = SUBJECTS[name.partition("-")[0]]
    rows = score([name], roomy_model, tmp_path / "scores", monkeypatch, capsys)
    assert rows[name, "all"]["count"] == subjects
    assert rows[name, f"all / {category}"]["count"] == members
    assert len(rows) == 1 + 4 + subjects


def test_the_guide_has_every_likelihood_benchmark_with_its_shots():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    listed = dict(re.findall(r"^\| `([\w.-]+)` \| [^|]*\| ([^|]*) \|", text, re.MULTILINE))
    chosen = {name: entry for name, entry in all_benchmarks().items() if entry.formulation in FORMS}
    assert chosen.keys() == set(OTHERS) | set(BY_SUBJECT)
    for name, entry in chosen.items():
        assert f"{entry.shots}-shot" in listed[name], name


def test_table_7_is_in_the_suite_base_and_the_multiple_choice_of_the_instruct_table_in_instruct():
    columns = {all_benchmarks()[name].published for name in all_suites()["base"].benchmarks}
    table = "lambada mmlu cmmlu ceval hellaswag winogrande storycloze arc_easy arc_challenge race_middle race_high"
    assert columns >= set(table.split())
    columns = {all_benchmarks()[name].published for name in all_suites()["instruct"].benchmarks}
    assert columns >= {"mmlu", "ceval", "truthfulqa", "arc_challenge", "gpqa"}
