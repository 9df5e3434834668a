"""Wrong solutions turned round: steps up to the error stay word for word, what follows gets the right answer."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from told_answers import CHECKS, ToldModel, verdict

from data_recipes.endpoint.request import Answer
from data_recipes.synthesis.kinds.base import Rejected
from data_recipes.synthesis.kinds.reflection import Reflection, step_bounds, wrong_step

STEPS = [
    "A dozen is twelve, so three dozen eggs are $3 \\cdot 12 = 36$ eggs.",
    "We use five eggs,\nso $36 - 5 = 32$ are left.",
    "Half of them are sold, which leaves $16$.\n\\[\n32 / 2\n\n= 16\n\\]",
    "The answer is \\boxed{16}.",
]
SEED = {
    "question": "Of three dozen eggs we use four and then lose one. How many are left?",
    "answer": "31",
    "response": "\n\n".join(STEPS),
}


def found(step: object = 2, reason: str = "Thirty-six less five is not thirty-two.") -> str:
    return f"[Reason]\n{reason}\n\n[Step]\n{step}\n<END>"


ANALYSIS = (
    "I subtracted wrongly here: taking five away from thirty-six cannot leave thirty-two, as I lost one in counting."
)
ANALYSED = f"[Analysis]\n{ANALYSIS}\n\n[Transition]\nLet me do the subtraction again.\n<END>"
GOES_ON = "Thirty-six less five is $36 - 5 = 31$, so we are left with \\boxed{31} eggs."


@pytest.mark.parametrize(
    ("seed", "answers", "expected"),
    [
        (SEED, (found(), ANALYSED, GOES_ON), "accepted"),
        (SEED, (found("Step 2."), ANALYSED, GOES_ON), "accepted"),
        (SEED, (found(), ANALYSED, GOES_ON.replace("boxed{31}", "boxed{32}")), "rejected: wrong answer"),
        (SEED, (found(), ANALYSED, "So there are 31 eggs left now."), "rejected: no answer in \\boxed{}"),
        (SEED, (found(0),), "rejected: no wrong step found"),
        (SEED, (found(5),), "rejected: step out of range"),
        (SEED, (found("the second"),), "rejected: no number of a step"),
        (SEED, (found("2 or 3"),), "rejected: no number of a step"),
        (SEED, ("Step 2",), "rejected: no <END>"),
        (SEED, (found(), "[Analysis]\nIt is wrong.\n<END>"), "rejected: no [Transition] part"),
        (SEED, (found(), ANALYSED.replace(ANALYSIS, "Wrong.")), "rejected: analysis too short"),
        (
            SEED,
            (found(), ANALYSED.replace("I lost", "the given answer is 31, I lost")),
            "rejected: speaks of a reference",
        ),
        (SEED, (found(), ANALYSED, f"{SEED['response']}\n{GOES_ON}"), "rejected: steps repeated"),
        (SEED, (found(), Answer(ANALYSED, "length")), "failed: no end within max_tokens"),
        (SEED | {"answer": "16"}, (), "unusable: the response is right"),
        (SEED | {"response": "It is \\boxed{16}."}, (), "unusable: response without steps"),
        (SEED | {"response": ""}, (), "unusable: no response"),
        (SEED | {"answer": None}, (), "unusable: no answer"),
    ],
)
def test_a_reflection_is_accepted_where_it_leads_to_the_answer(seed, answers, expected):
    assert verdict(Reflection(), seed, *answers, checks=CHECKS) == expected


def test_the_steps_stay_as_they_are_and_only_the_first_question_shows_the_answer():
    model = ToldModel(found(3), ANALYSED, GOES_ON)
    sample = asyncio.run(Reflection().make(SEED, model))
    kept = "\n\n".join(STEPS[:3])
    assert sample.fields["steps"] == kept
    assert sample.fields["solution"] == f"{kept}\n\n{ANALYSIS}\n\nLet me do the subtraction again.\n\n{GOES_ON}"
    assert [" 31" in asked["user"] for asked in model.asked] == [True, False, False]
    assert f"Step 3: {STEPS[2]}" in model.asked[0]["user"]
    assert all(STEPS[3] not in asked["user"] for asked in model.asked[1:])


@pytest.mark.parametrize("changed", ["steps", "solution"])
def test_steps_that_were_changed_are_found(changed):
    sample = asyncio.run(Reflection().make(SEED, ToldModel(found(), ANALYSED, GOES_ON)))
    sample.fields[changed] = sample.fields[changed].replace("36", "37", 1)
    with pytest.raises(Rejected, match="steps changed"):
        Reflection().verify(sample, CHECKS)


@given(
    st.lists(
        st.text("ab $.\\题", min_size=1).map(str.strip).filter(lambda step: step and "$$" not in step),
        min_size=1,
        max_size=8,
    )
)
def test_steps_are_the_paragraphs_of_a_solution(steps):
    solution = "\n\n".join(steps)
    assert [solution[slice(*bounds)] for bounds in step_bounds(solution)] == steps


@settings(max_examples=200)
@given(st.text(), st.integers(1, 20))
def test_a_step_number_is_in_range_or_rejected(said, steps):
    with suppress(Rejected):
        assert 1 <= wrong_step(said, steps) <= steps
