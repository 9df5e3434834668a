"""Documents that a model writes after a text: which answers are accepted, and why others are not."""

import asyncio

import pytest
from told_answers import ToldModel, verdict

from data_recipes.endpoint.request import Answer
from data_recipes.synthesis.kinds.math_documents import MathDocuments
from data_recipes.synthesis.prompts import prompt

SEED = {"text": "A ladder leans against a wall. Its foot is three metres away from the wall of the old house."}
PROBLEM = "A ladder of 5 m leans against a wall, its foot 3 m away from the wall. How high does it reach?"
SOLUTION = " ".join(["By Pythagoras the height satisfies $h^2 = 5^2 - 3^2 = 16$, so we find $h = 4$."] * 8)


def written(problem: str = PROBLEM, solution: str = SOLUTION) -> str:
    return f"[Problem]\n{problem}\n\n[Solution]\n{solution}\n<END>"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (written(), "accepted"),
        (written(solution="It is 4."), "rejected: solution too short"),
        (written(solution=SOLUTION * 10), "rejected: solution too long"),
        (written(problem="How high?"), "rejected: problem too short"),
        (written(solution="由勾股定理可得梯子的高度为四米。" * 12), "rejected: wrong language"),
        (prompt("math-documents", **SEED), "rejected: prompt echoed"),
        (Answer(written(), "length"), "failed: no end within max_tokens"),
        ("I'm sorry, I cannot write this.", "rejected: refusal"),
    ],
)
def test_a_math_document_is_accepted_or_rejected_by_what_it_is(answer, expected):
    assert verdict(MathDocuments(), SEED, answer) == expected


@pytest.mark.parametrize("text", [None, "", " \n", 3])
def test_a_seed_without_text_is_asked_nothing(text):
    assert verdict(MathDocuments(), {"text": text}) == "unusable: no text"


def test_a_solution_that_is_a_part_of_its_seed_is_no_new_text():
    assert (
        verdict(MathDocuments(), {"text": f"Before.\n{SOLUTION}"}, written())
        == "rejected: solution copied from the seed"
    )


def test_a_long_seed_is_cut_at_the_end_of_a_paragraph_and_never_read_as_a_template():
    model = ToldModel(written())
    asyncio.run(MathDocuments().make({"text": "{{ text }} {% raw %} of a wall\n\n" * 1000}, model))
    (asked,) = model.asked
    assert "{{ text }} {% raw %} of a wall\n\n" in asked["user"]
    assert 7000 < len(asked["user"]) < 10000
