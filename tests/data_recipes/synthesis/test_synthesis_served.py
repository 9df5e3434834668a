"""The real thing: runs of every kind against `transformers serve` with the merged miniature, which writes nonsense."""

import json

import pytest
from kind_answers import PLAYS
from synthesis_runs import made, rows

from data_recipes.endpoint.request import Answer
from data_recipes.synthesis.summary import read_summary

NONSENSE = {"max_tokens": 6, "temperature": 0.0}
# Whatever the miniature writes holds one of these soon, so its answer has an end and is read.
ENDED = {"max_tokens": 48, "temperature": 0.0, "stop": list("aeiou0123456789")}


def run_kind(kind, served, folder, sampling):
    """One good seed of a kind; what became of it."""
    (folder / "seeds.jsonl").write_text(json.dumps(PLAYS[kind].seeds[0]) + "\n")
    settings = {**PLAYS[kind].settings, **sampling}
    made(
        folder / "seeds.jsonl", folder / "out", served.url, kind=kind, settings=settings, model=served.model, timeout=60
    )
    (row,) = rows(folder / "out")
    return row


def check_bad_answer(row):
    """Its answer has come, with a count of tokens, and was not taken for a good one."""
    assert row["prompt"]
    assert row["response"]
    assert row["finish_reason"] in Answer.__annotations__["finish_reason"].__args__
    assert row["verdict"] in ("rejected", "failed")
    assert not row["reason"].startswith("no answer: "), row["reason"]


def test_a_run_against_transformers_serve_rejects_what_the_miniature_writes(served_miniature, tmp_path):
    check_bad_answer(run_kind("math-documents", served_miniature, tmp_path, NONSENSE))
    answers = read_summary(tmp_path / "out")["answers"]
    assert answers["answers"] == 1
    assert answers["uncounted"] == 0
    assert answers["completion_tokens"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(PLAYS))
def test_each_kind_runs_against_transformers_serve(served_miniature, tmp_path, kind):
    row = run_kind(kind, served_miniature, tmp_path, ENDED)
    check_bad_answer(row)
    assert (row["finish_reason"], row["verdict"]) == ("stop", "rejected"), row["reason"]
