"""Answers to questions of mathematics and science: accepted with a boxed answer, verified where the seed has one."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from told_answers import CHECKS, ToldModel, verdict

from data_recipes.endpoint.request import Answer
from data_recipes.errors import DataError
from data_recipes.synthesis.kinds.worked_answers import LongCot, MatchedMath, MathCot, ScienceCot

SEED = {"question": "A train covers 120 km in 90 minutes. How fast is it, in km/h?", "answer": "80 km/h"}
STEPS = (
    "Ninety minutes are $1.5$ hours. Speed is distance over time, so the train covers $120 / 1.5 = 80$ km each hour."
)
RIGHT, WRONG = (
    f"{STEPS}\n\nThe speed is \\boxed{{80\\text{{ km/h}}}}.",
    f"{STEPS}\n\nThe speed is \\boxed{{90\\text{{ km/h}}}}.",
)


@pytest.mark.parametrize(
    ("seed", "answer", "expected"),
    [
        (SEED, RIGHT, "accepted"),
        (SEED, RIGHT.replace("\n", "\r\n"), "accepted"),
        (SEED, RIGHT.replace("km/h", "km/s"), "rejected: wrong answer"),
        (SEED, WRONG, "rejected: wrong answer"),
        (SEED | {"answer": None}, WRONG, "unchecked"),
        (SEED | {"answer": "A long way.\n#### 80"}, RIGHT, "accepted"),
        (SEED | {"answer": 80}, RIGHT, "accepted"),
        (SEED | {"answer": "It is $120 / 1.5$.\nThe answer is $80$."}, RIGHT, "accepted"),
        (SEED, STEPS, "rejected: no answer in \\boxed{}"),
        (SEED, STEPS + " \\boxed{ }", "rejected: no answer in \\boxed{}"),
        (SEED, STEPS + " \\boxed{80", "rejected: no answer in \\boxed{}"),
        (SEED, "\\boxed{80}", "rejected: solution too short"),
        (
            SEED,
            RIGHT + "\n\nQuestion: What is 1 + 1?\nIt is \\boxed{2}.",
            "rejected: another question after the solution",
        ),
        (SEED, Answer(RIGHT, "length"), "failed: no end within max_tokens"),
        (
            SEED,
            "九十分钟是一点五小时，速度等于路程除以时间，所以火车每小时行驶八十千米。$\\boxed{80}$",
            "rejected: wrong language",
        ),
        (SEED, "As an AI language model, I cannot ride trains. \\boxed{80}", "rejected: refusal"),
        ({"question": " "}, RIGHT, "unusable: no question"),
    ],
)
def test_a_worked_answer_is_right_or_rejected(seed, answer, expected):
    assert verdict(MathCot(), seed, answer, checks=CHECKS) == expected


def test_a_long_answer_is_asked_for_with_the_published_settings_and_keeps_its_thoughts():
    long = (STEPS + " ") * 6
    model = ToldModel(f"<think>\n{long}Wait, let me check.\n</think>\n\n{RIGHT}")
    sample = asyncio.run(LongCot().make(SEED, model))
    assert "step-by-step" in model.asked[0]["system"]
    assert LongCot.settings == {"temperature": 0.0, "max_tokens": 16000, "stop": ["Human:"]}
    assert sample.fields["solution"] == f"{long}Wait, let me check.\n\n{RIGHT}"
    assert sample.response == model.answers[0].text


def test_reflection_is_asked_for_and_must_be_seen():
    long = (STEPS + " ") * 6
    model = ToldModel(long + RIGHT)
    asyncio.run(LongCot().make(SEED, model))
    assert "question yourself" not in model.asked[0]["user"]
    assert verdict(LongCot(reflection=True), SEED, long + RIGHT) == "rejected: no reflection"
    assert verdict(LongCot(reflection=True), SEED, f"{long} Hmm, wait. {RIGHT}") == "accepted"
    assert (
        verdict(
            LongCot(reflection=True),
            {"question": "火车每小时行驶多少千米？" * 4},
            "先算时间。等等，重新检查一下。" * 20 + "$\\boxed{80}$",
        )
        == "unchecked"
    )


def test_answers_are_drawn_until_one_matches():
    model = ToldModel(WRONG, Answer(RIGHT, "length"), "no idea", RIGHT, RIGHT)
    sample = asyncio.run(MatchedMath(draws=5).make(SEED, model))
    assert [asked["draw"] for asked in model.asked] == [0, 1, 2, 3]
    assert len({asked["user"] for asked in model.asked}) == 1
    assert sample.fields["draws"] == "4"
    assert verdict(MatchedMath(draws=2), SEED, WRONG, WRONG) == "rejected: wrong answer"
    assert verdict(MatchedMath(draws=1), SEED, Answer(RIGHT, "length")) == "failed: no end within max_tokens"
    assert verdict(MatchedMath(), SEED | {"answer": ""}) == "unusable: no answer"
    assert MatchedMath(draws=7).questions == 7
    for draws in (0, "two", True):
        with pytest.raises(DataError, match="draws is"):
            MatchedMath(draws=draws)


def test_an_answer_of_science_is_judged_with_its_unit():
    assert (
        verdict(ScienceCot(), SEED, f"{STEPS} {STEPS} \\boxed{{22.22\\text{{ m/s}}}}", checks=CHECKS)
        == "rejected: wrong answer"
    )
    seed = SEED | {"answer": "20 m/s"}
    assert verdict(ScienceCot(), seed, f"{STEPS} {STEPS} \\boxed{{72\\,\\mathrm{{km/h}}}}", checks=CHECKS) == "accepted"
    assert (
        verdict(ScienceCot(), SEED | {"answer": "B"}, f"{STEPS} {STEPS} \\boxed{{\\text{{(B)}}}}", checks=CHECKS)
        == "accepted"
    )


@settings(max_examples=40)
@given(number=st.integers(10, 10**6), data=st.data())
def test_a_changed_digit_in_the_answer_is_rejected(number, data):
    digits = str(number)
    place = data.draw(st.integers(0, len(digits) - 1))
    digit = data.draw(st.sampled_from([one for one in "123456789" if one != digits[place]]))
    changed = digits[:place] + digit + digits[place + 1 :]
    answer = f"{STEPS} So the number is $\\boxed{{{{}}}}$."
    seed = SEED | {"answer": digits}
    assert verdict(MathCot(), seed, answer.replace("{}", digits), checks=CHECKS) == "accepted"
    assert verdict(MathCot(), seed, answer.replace("{}", changed), checks=CHECKS) == "rejected: wrong answer"


@given(st.text())
def test_any_answer_is_parsed_or_refused(text):
    assert verdict(MathCot(), SEED, text).partition(":")[0] in ("accepted", "rejected")
    assert verdict(LongCot(), SEED, "<think>" + text).partition(":")[0] in ("accepted", "rejected")
