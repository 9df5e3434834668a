"""MATH-500 and MATH scored with planted answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.answers.normal_form import normalize_final_answer
from eval.benchmarks.tasks.math.judge import gold_answer

FORMS = {
    "minerva": lambda a: f" So it is.\nFinal Answer: The final answer is ${a}$. I hope it is correct.",
    "boxed": lambda a: f" Hence $\\boxed{{{a}}}$.",
    "named and boxed": lambda a: f" The final answer is $\\boxed{{{a}}}$",
    "named": lambda a: f" The answer is: ${a}$.",
    "named, without dollars": lambda a: f" The answer is {a}.",
    "further question": lambda a: f" Thus $\\boxed{{{a}}}$.\n\nQuestion: What is 1 + 1?\nAnswer: $\\boxed{{99}}$",
    "spaces": lambda a: " $\\boxed{ " + a.replace("\\frac{1}{6}", "\\dfrac 16").replace(",", " , ") + " }$",
    "last dollars": lambda a: f" We have $x$, which is ${a}$",
}
WRONG = {
    "another": lambda a: " $\\boxed{12345}$",
    "right, then another": lambda a: f" $\\boxed{{{a}}}$, no: $\\boxed{{12345}}$",
    "negated": lambda a: f" $\\boxed{{-({a})}}$",
    "among others": lambda a: f" $\\boxed{{{a}, 12345}}$",
    "empty": lambda a: "",
    "empty box": lambda a: " \\boxed{}",
    "only for a further question": lambda a: f" Hmm.\n\nQuestion: x\nAnswer: $\\boxed{{{a}}}$",
    "unclosed": lambda a: " \\boxed{",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_right_answer_counts_in_every_form(score_of, form):
    assert score_of("math500-4shot-cot", lambda prompt, doc, sample: FORMS[form](gold_answer(doc))) == 1


@pytest.mark.parametrize("form", WRONG)
def test_a_wrong_answer_does_not_count(score_of, form):
    assert score_of("math500-4shot-cot", lambda prompt, doc, sample: WRONG[form](gold_answer(doc))) == 0


def test_all_of_math_is_scored_by_subject_in_a_chat(answered):
    answer = lambda prompt, doc, sample: f"\\boxed{{{gold_answer(doc) if '?' in prompt else 0}}}"  # noqa: E731
    result = answered("math-0shot-chat", answer)
    values = {row["group"]: row["value"] for row in result.rows}
    assert len(values) == 8  # the whole and seven subjects
    assert values["all"] == pytest.approx(6 / 7)
    assert all(prompt.endswith("\\boxed{}.</user><assistant>") for prompt, _, _ in result.asked)


def test_the_prompt_has_four_examples_the_stated_stops_and_never_the_question(answered):
    for prompt, generation, doc in answered("math500-4shot-cot", lambda *_: "").asked:
        assert prompt.count("Solve the following math problem.\n\nQuestion: ") == 5
        assert prompt.count(doc["problem"]) == 1
        assert generation["max_gen_toks"] == 796
        assert generation["until"] == ["\n\nQuestion", "\n\nSolve", "\n\nAnswer"]


@settings(deadline=None)
@given(st.text(alphabet='0123456789,.$\\{}^ =-+%cmft()sqrtfracexiLkm\n"', max_size=40))
def test_the_normal_form_is_that_of_the_harness(text):
    from lm_eval.tasks.minerva_math.utils import normalize_final_answer as of_the_harness

    assert normalize_final_answer(text) == of_the_harness(text)
