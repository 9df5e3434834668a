"""The report of a run that `yulanmini reproduce` really made: the stages write what the report reads."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from eval.demonstration import kind_of
from hub_cards.cards.card import write_card
from hub_cards.cards.settings import CardSettings
from yulanmini.report import collect
from yulanmini.report.scores import samples
from yulanmini.report.sections import commands
from yulanmini.run_layout import MERGED, ON_POLICY, SCORES, card_files


def test_the_report_of_a_finished_run_lacks_nothing(smoke_run: Path) -> None:
    report = collect(smoke_run)
    assert report["notes"] == []
    assert {stage["status"] for stage in report["stages"]} == {"done"}
    assert all(
        report[section]
        for section in ("corpus", "cleaning", "tokenizer", "mixture", "heldout", "merge", "tuning", "scores")
    )
    page = (smoke_run / "report.html").read_text()
    assert "not run" not in re.sub(r"<(style|script).*?</\1>", "", page, flags=re.S)
    assert page.count('class="chart wide"') == 20


def test_report_json_holds_the_figures_of_the_page(smoke_run: Path) -> None:
    assert json.loads((smoke_run / "report.json").read_text()) == json.loads(json.dumps(collect(smoke_run)))


def test_all_28_mixes_are_there_and_their_rows_are_whole(smoke_run: Path) -> None:
    mixes = collect(smoke_run)["mixture"]
    assert [mix["phase"] for mix in mixes] == [*map(str, range(1, 26)), "26-4k", "26", "27"]
    for mix in mixes:
        assert sum(subset["tokens"] for subset in mix["subsets"]) == mix["rows"] * mix["context_length"]


def test_phases_trained_are_the_phases_built(smoke_run: Path) -> None:
    report = collect(smoke_run)
    built = {mix["phase"]: mix["tokens"] for mix in report["mixture"]}
    for phase in report["pretraining"]["phases"]:
        assert phase["tokens"] <= built[phase["phase"]]
    assert report["heldout"]["phase"] == [None, *(phase["phase"] for phase in report["pretraining"]["phases"])]
    assert report["pretraining"]["monitors"]["hidden_state_variance"]["lines"]


def test_samples_are_of_both_models_and_both_languages(smoke_run: Path) -> None:
    shown = samples(collect(smoke_run)["scores"])
    answered = shown["right"] + shown["wrong"]
    assert {sample["language"] for sample in answered} == {"en", "zh"}
    assert all(set(sample["answers"]) == {"Base", "SFT", "DPO", "On-policy"} for sample in answered)
    assert len({sample["domain"] for sample in shown["continued"]}) == 6


def test_python_on_the_page_runs_in_the_folder_of_the_run(
    smoke_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(smoke_run)
    shown = [command for command in commands(collect(smoke_run)) if command["language"] == "python"]
    assert len(shown) == 3
    for command in shown:
        exec(compile(command["code"], command["title"], "exec"), {})
        assert capsys.readouterr().out.strip()


def test_the_question_on_page_and_cards_gets_the_answer_that_was_scored(
    smoke_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(smoke_run, tmp_path / "run"))
    asked = {model: right_by_decree(run / SCORES / model / "scores.json") for model in ("base", "on-policy")}
    monkeypatch.chdir(run)

    def printed(code: str) -> str:
        exec(compile(code, "shown", "exec"), {})
        return capsys.readouterr().out

    [chat] = [shown["code"] for shown in commands(collect(run)) if "pipeline" in shown["code"]]
    assert printed(chat).strip().startswith(asked["on-policy"]["output"])
    for model, folder in (("base", MERGED), ("on-policy", ON_POLICY)):
        repo = tmp_path / model
        repo.mkdir()
        write_card(repo, CardSettings("base" if model == "base" else "instruct", "someone/tiny"), card_files(run))
        code = (repo / "README.md").read_text().split("```python\n")[1].split("```")[0]
        answer = printed(code.replace("someone/tiny", folder))
        # An answer is scored without the space around it; the base card prints the question before it.
        assert "".join(asked[model]["output"].split()) in "".join(answer.split())


def right_by_decree(path: Path) -> dict[str, Any]:
    """Count one answer of a model that has learnt nothing as right; returns it."""
    scores = json.loads(path.read_text())
    sample = next(sample for sample in scores["samples"] if sample["expected"] is not None and sample["output"].strip())
    sample["correct"] = True
    for row in scores["rows"]:
        if row["group"] == kind_of(sample):
            row |= {"correct": row["count"], "value": 1.0}
    path.write_text(json.dumps(scores))
    return sample
