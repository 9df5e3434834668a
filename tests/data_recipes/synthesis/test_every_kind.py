"""Every kind in a whole run: against a server with good and bad answers, by the real verifiers."""

import json
from collections import Counter
from typing import Any

import pytest
from endpoint_server import serve_answers
from kind_answers import PLAYS, Play
from synthesis_runs import made, prepared, rows, verdicts

from data_recipes.answers.judge import same_answer
from data_recipes.recipes.templates import published_templates
from data_recipes.synthesis.kinds.base import Checks
from data_recipes.synthesis.making import made_schema
from data_recipes.synthesis.synthesize import kinds
from eval.code_runner.runner import run_program
from yulanmini.commands.data_synthesize import KINDS, PROGRAMS

OURS = {name: kind for name, kind in kinds().items() if not name.startswith("test-")}
CHECKS = Checks(same_answer, run_program)


def player(play: Play):
    """Answers each seed's questions in turn."""
    turns: Counter[str] = Counter()

    def answer(body: dict[str, Any]) -> str:
        said = "\n".join(message["content"] for message in body["messages"])
        (word,) = [word for word in play.told if word in said]
        turns[word] += 1
        return play.told[word][turns[word] - 1]

    return answer


@pytest.mark.parametrize("kind", sorted(OURS))
def test_a_good_answer_is_accepted_and_a_bad_one_rejected(kind, tmp_path):
    play = PLAYS[kind]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in play.seeds))
    with serve_answers(player(play), models={"served": 32_768}) as server:
        options = {"kind": kind, "settings": play.settings, "checks": CHECKS}
        made(tmp_path / "seeds.jsonl", tmp_path / "out", server.url, **options)
    found = rows(tmp_path / "out")
    assert verdicts(tmp_path / "out") == list(play.becomes)
    for row in found:
        assert (row["text"] is not None) == (row["verdict"] == "accepted")
    good = found[0]
    assert good["checked"]
    assert all(good[name] for name in OURS[kind].text_fields)


def test_every_kind_is_in_the_help_and_has_what_a_run_needs():
    assert {*OURS, PROGRAMS} == set(KINDS.split(", "))
    for name, kind in OURS.items():
        assert kind.summary
        assert kind.template in published_templates()
        assert set(published_templates()[kind.template].names) <= set(kind.fields)
        assert set(kind.text_fields) <= set(kind.fields)
        assert kind.final_answer is None or kind.final_answer in kind.fields
        own = made_schema(kind.fields).names
        assert len(set(own)) == len(own), f"{name}: a field is called as a column of all samples"
        assert not {"text", "source", "file", "row"} & set(kind.fields)


def test_an_option_of_a_kind_is_set_beside_the_sampling(tmp_path):
    (tmp_path / "seeds.jsonl").write_text(json.dumps(BOATS) + "\n")
    run = prepared(
        tmp_path / "seeds.jsonl",
        tmp_path / "out",
        "http://localhost:9",
        kind="matched-math",
        settings={"draws": 7, "temperature": 1.0},
    )
    assert (run.kind.questions, run.settings["temperature"]) == (7, 1.0)
    assert "draws" not in run.settings


BOATS = {"question": "How many boats?", "answer": "3"}
