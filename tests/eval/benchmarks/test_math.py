"""MATH-500 and MATH scored with planted answers, and the judge against answers that would hang it."""

import time

import pytest

from eval.benchmarks.tasks.math.judge import JUDGE, Judge, final_answer, gold_answer

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
    for prompt, settings, doc in answered("math500-4shot-cot", lambda *_: "").asked:
        assert prompt.count("Solve the following math problem.\n\nQuestion: ") == 5
        assert prompt.count(doc["problem"]) == 1
        assert settings["max_gen_toks"] == 796
        assert settings["until"] == ["\n\nQuestion", "\n\nSolve", "\n\nAnswer"]


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("\\frac{1}{2}", "0.5", True),
        ("1000", "1{,}000", True),
        ("1000", "\\$1,000.00", True),
        ("x + 1", "1 + x", True),
        ("5\\sqrt{2}", "\\sqrt{50}", True),
        ("12\\text{ cm}", "12", True),
        ("\\text{Tuesday}", "Tuesday", True),
        ("5", "x = 5", True),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", True),
        ("[2,5)", "[2,5]", False),
        ("(0,1)", "(1,0)", False),
        ("5", "5,6", False),
        ("5", "5 \\text{ or } 6", False),
        ("2", "-2", False),
        ("5", "", False),
    ],
)
def test_equal_answers_are_found_equal(gold, answer, equal):
    assert JUDGE.equal(gold, answer) is equal


@pytest.fixture(scope="module")
def hasty_judge():
    judge = Judge(seconds=2)
    yield judge
    judge.stop()


@pytest.mark.parametrize("hostile", ["9^{9^{9^{9}}}", "\\frac{" * 2000, "\0\n"])
def test_an_answer_that_hangs_the_parsers_is_wrong_in_time_and_the_next_is_judged(hasty_judge, hostile):
    assert hasty_judge.equal("5", "5") is True
    begun = time.monotonic()
    assert hasty_judge.equal("5", hostile) is False
    assert time.monotonic() - begun < 6
    assert hasty_judge.equal("5", "5") is True


def test_a_judge_that_was_killed_is_started_again(hasty_judge):
    assert hasty_judge.equal("1", "1")
    hasty_judge.child.kill()
    hasty_judge.child.wait()
    assert hasty_judge.equal("1", "1")
    assert not hasty_judge.equal("1", "2")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("the cost is \\$5", "the cost is \\$5"),
        ("The final answer is \\$5.", "\\$5"),
        ("$a$ and \\boxed{b} but The final answer is $c$.", "c"),
        ("The final answer is $c$. So \\boxed{b}.", "b"),
        ("42", "42"),
        ("", ""),
    ],
)
def test_the_last_answer_is_taken(text, answer):
    assert final_answer(text) == answer
