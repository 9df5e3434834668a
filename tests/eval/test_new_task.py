"""A task is one file: scored, compared, and shown on the command line, in the report and on a card, without another."""

import json
import shutil
import sys

import pytest
from small_run import write_small_run
from test_eval_command import call

import eval.tasks
from eval.suites import run_suite
from eval.tasks.base import Task
from hub_cards.checks.check import check_repo
from hub_cards.layout.run_repos import publish_local
from yulanmini.report import collect, render
from yulanmini.run_layout import card_files

TASK = '''
from pathlib import Path

from eval.errors import EvalError
from eval.tasks.base import Task, TaskResult, score_row


class Parity(Task):
    """How often the most likely next token is an even one, of the words of `words.txt`."""

    name = "parity"
    repeats: int = 1

    def read(self, data):
        path = data / "words.txt"
        if not path.is_file():
            raise EvalError(f"{path}: no such file; give a folder with words, one a line.")
        return path.read_text().split() * self.repeats

    def score(self, loaded, inputs, *, progress=False):
        ids = [loaded.tokenizer(word, return_tensors="pt").input_ids for word in inputs]
        even = [int(loaded.model(each).logits[0, -1].argmax()) % 2 == 0 for each in ids]
        rows = [score_row("evenness", "all words", sum(even) / len(even), better="higher", count=len(even), chance=0.5)]
        for word, result in dict(zip(inputs, even)).items():
            rows.append(score_row("evenness", f"all words / {word}", int(result), better="higher", count=1))
        sample = {"prompt": inputs[0], "output": "a toy's answer", "expected": "x", "correct": False, "language": "en"}
        return TaskResult(rows, [sample], ["Even tokens are a matter of taste."])
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder with a module that defines a task, and a data folder for it; forgotten at the end."""
    (tmp_path / "more_tasks").mkdir()
    (tmp_path / "more_tasks" / "parity.py").write_text(TASK)
    monkeypatch.setattr(eval.tasks, "__path__", [*eval.tasks.__path__, str(tmp_path / "more_tasks")])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "words.txt").write_text("tide\nharbour\n")
    yield tmp_path / "data"
    kinds = Task.__subclasses__()
    monkeypatch.setattr(Task, "__subclasses__", lambda: [kind for kind in kinds if kind.name != "parity"])
    sys.modules.pop("eval.tasks.parity", None)


def test_a_task_in_one_file_is_scored_and_shown_everywhere(toy, model_folder, tmp_path, monkeypatch, capsys):
    run = write_small_run(tmp_path / "run")
    for model, repeats in (("base", 1), ("sft", 2), ("dpo", 2), ("on-policy", 2)):
        out = run / "09-scores" / model
        (out / "scores.json").unlink()
        run_suite(model_folder, data=toy, suite="parity", settings={"repeats": repeats}, out=out)
    scores = json.loads((run / "09-scores" / "on-policy" / "scores.json").read_text())
    (whole,) = (row for row in scores["rows"] if row["group"] == "all words")
    assert (whole["task"], whole["count"], scores["provenance"]["settings"]["repeats"]) == ("parity", 4, 2)
    share = f"{whole['value']:.1%}"

    command = ["run", model_folder, "--suite", "parity", "--set", "repeats=2", "--data"]
    assert call(monkeypatch, *command, tmp_path) == 2
    assert "words.txt: no such file" in capsys.readouterr().err
    assert call(monkeypatch, *command, toy) == 0
    printed = capsys.readouterr()
    assert all(word in printed.out for word in ("parity", "evenness", "all words / tide", share, "50.0%"))
    assert "a matter of taste" in printed.err
    assert call(monkeypatch, "compare", run / "09-scores" / "base", run / "09-scores" / "on-policy") == 0
    assert "all words / harbour" in capsys.readouterr().out

    shutil.copytree(run / "09-scores", tmp_path / "scored" / "09-scores")
    page = render(collect(tmp_path / "scored"))
    assert all(word in page for word in ("Evenness", "all words", "harbour", "a toy&#39;s answer"))
    publish_local(card_files(run), tmp_path / "hub", namespace="me", name="toy")
    repo = tmp_path / "hub" / "me" / "toy-instruct"
    card = (repo / "README.md").read_text()
    assert f"| all words | {share} | {share} | {share} | {share} | 50.0% | 4 |" in card
    assert check_repo(repo, run=card_files(run)) == []
