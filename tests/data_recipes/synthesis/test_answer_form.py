"""Answers in parts: what was written is read back, and whatever else a model says is rejected in a few words."""

import string
import time
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_recipes.endpoint.request import Answer, NoAnswer
from data_recipes.synthesis.kinds.answer_text import script, whole_text, without_code
from data_recipes.synthesis.kinds.base import Rejected
from data_recipes.synthesis.kinds.form import Form
from data_recipes.synthesis.kinds.python_code import python_block

FORM = Form(["Problem", "Solution"])
CODE = "```python\n[Problem]\nx = [Solution]\n<END>\n```"
LINES = st.text(string.ascii_letters + string.digits + " .,:$\\{}[]()*#<>-数学题目解答。", max_size=30)
PARTS = (
    st.lists(st.one_of(LINES, st.just(CODE), st.just("")), min_size=1, max_size=6)
    .map("\n".join)
    .map(str.strip)
    .filter(lambda part: part and not any(mark in part.replace(CODE, "").lower() for mark in ("[p", "[s", "<e")))
)
# What bites: marks nested, twice, in code, with and without an end, in any order.
PIECES = st.sampled_from(
    [
        "[Problem]",
        "[Solution]",
        "<END>",
        "**[Solution]**",
        "## [Problem]:",
        "```",
        "~~~~",
        "\n",
        "\r\n",
        "题",
        "x",
        "[",
        " ",
    ]
)

UNITS = [
    "```x\n",
    "```\n",
    "~~~~\n",
    "[Problem]\n",
    "\\(",
    "\\[ ",
    "$$",
    "$",
    " ",
    "<END>",
    "I am ",
    "\n\n",
    "题",
    "<|a",
]


def written(problem: str, solution: str, newline: str = "\n") -> str:
    return f"[Problem]\n{problem}\n\n[Solution]\n{solution}\n<END>".replace("\n", newline)


def parsed(text: str) -> dict[str, str]:
    return FORM.parse(whole_text(Answer(text, "stop")))


@given(problem=PARTS, solution=PARTS, newline=st.sampled_from(["\n", "\r\n", "\r"]))
@example("数列 $a_n$ 的通项", f"见代码：\n{CODE}\n所以 $a_3 = 5$。", "\r\n")
def test_what_is_written_is_read_back(problem, solution, newline):
    assert parsed(written(problem, solution, newline)) == {"problem": problem, "solution": solution}


@given(st.one_of(st.text(), st.lists(PIECES, max_size=15).map("".join)), st.sampled_from(["stop", "unknown", "length"]))
def test_any_text_is_parsed_or_rejected_and_no_mark_is_left_in_a_part(text, finish_reason):
    try:
        fields = FORM.parse(whole_text(Answer(text, finish_reason)))
    except (Rejected, NoAnswer):
        return
    assert finish_reason != "length"
    for part in fields.values():
        assert part.strip()
        assert not any(mark in without_code(part).lower() for mark in ("[problem]", "[solution]", "<end>"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty answer"),
        ("[Problem]\na\n[Solution]\nb", "no <END>"),
        ("[Problem]\na\n<END>", "no [Solution] part"),
        ("[Solution]\nb\n<END>", "no [Problem] part"),
        ("[Problem]\na\n[Solution]\n \n<END>", "empty [Solution] part"),
        ("[Problem]\na\n[Solution]\nb\n[Problem]\nc\n<END>", "[Problem] twice"),
        ("[Solution]\nb\n[Problem]\na\n<END>", "parts in another order"),
        ("[Problem]\na\n[Solution]\nb\n<END>\nAnd one more:", "text after <END>"),
        ("[Problem]\na\n[Solution]\nb\n<END>\n<END>", "<END> twice"),
        ("[Problem]\na\n[Solution]\nsee the [Problem] above\n<END>", "a mark inside a part"),
        ("[Problem]\na\n[Solution]\nb<|im_end|>\n<END>", "marks of a chat in the text"),
        ("<think>so</think>\n[Problem]\na\n[Solution]\nb\n<END>", "marks of a chat in the text"),
        ("[Problem]\na\n[Solution]\n```\nb\n<END>", "a block of code without an end"),
        ("[Problem]\n```\n[Solution]\n```\n<END>", "no [Solution] part"),
        ("I cannot help with that request.", "refusal"),
        ("I'm sorry, but I can\u2019t create this.", "refusal"),
        ("As an AI language model, I have no access to texts.", "refusal"),
        ("[Problem]\na\n[Solution]\nAs an AI, I would say 4.\n<END>", "refusal"),
        ("[Problem]\na\n[Solution]\nI'm sorry, but I cannot solve this.\n<END>", "refusal"),
        ("抱歉，我无法完成这个任务。", "refusal"),
        ("作为一个人工智能语言模型，我不能写题。", "refusal"),
    ],
)
def test_a_bad_answer_is_rejected_with_its_reason(text, reason):
    with pytest.raises(Rejected) as caught:
        parsed(text)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    "solution",
    [
        "I cannot divide by zero, so $x \\neq 0$.",
        "An AI plays chess. As an AI game has 3 outcomes, there are $3^2$.",
        "We are unable to simplify further, hence $\\sqrt{2}$.",
        "Sorry Sam has 3 apples.",
    ],
)
def test_a_solution_that_speaks_of_such_things_is_no_refusal(solution):
    assert parsed("Sure! Here it is:\n\n" + written("p", solution))["solution"] == solution
    assert whole_text(Answer(solution, "stop")) == solution


@pytest.mark.parametrize("finish_reason", ["length", "content_filter"])
def test_an_answer_without_an_end_has_failed(finish_reason):
    with pytest.raises(NoAnswer):
        whole_text(Answer(written("a", "b"), finish_reason))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Let us count all of the pairs that are possible here. $\\alpha\\beta$", "LATIN"),
        ("设 $\\frac{abcdefghij}{klmnopqrst}$ 为函数，求它在区间上的最大值和最小值。\\displaystyle", "CJK"),
        ("Пусть дана последовательность натуральных чисел, найдите сумму.", "CYRILLIC"),
        ("$x + y = z$ 12345", None),
    ],
)
def test_a_script_is_that_of_most_letters_outside_of_formulas(text, expected):
    assert script(text) == expected


@pytest.mark.parametrize("unit", UNITS)
def test_a_long_answer_is_read_in_time_that_grows_with_it(unit):
    text = unit * (100_000 // len(unit))
    begun = time.process_time()
    for whole in (text, f"[Problem]\n{text}\n[Solution]\n{text}\n<END>"):
        with suppress(Rejected):
            parsed(whole)
        with suppress(Rejected):
            python_block("text", whole)
        script(whole)
    assert time.process_time() - begun < 2
