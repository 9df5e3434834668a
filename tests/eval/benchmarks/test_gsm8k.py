"""GSM8K scored with planted answers: right ones in any form count, and nothing else does."""

from fractions import Fraction

import pytest

from eval.benchmarks.tasks.gsm8k.answers import final_number, gold_number

WORKED = ["gsm8k-7shot-cot", "gsm8k-8shot-chat", "gsm8k-0shot-chat"]


def gold(doc):
    return int(gold_number(doc["answer"]))


FORMS = {
    "sentence": lambda n: f" First we add. So the answer is {n}.",
    "money": lambda n: f" It costs ${n:,} in all.".replace("$-", "-$"),
    "decimals": lambda n: f" The answer is {n}.00.",
    "boxed": lambda n: f" Then $x = \\boxed{{{n}}}$ follows.",
    "boxed thousands": lambda n: " \\boxed{" + f"{n:,}".replace(",", "{,}") + " \\text{ pens}}",
    "hashes": lambda n: f" a step of 77\n#### {n}",
    "bold": lambda n: f" **Answer:** {n} pens, out of 5000.",
    "further question": lambda n: f" The answer is {n}.\n\nQuestion: And then?\nAnswer: The answer is 99999.",
    "further chat": lambda n: f" The answer is {n}.\nQ: And then?\nA: 99999",
    "never stopping": lambda n: f" The answer is {n}." + " The answer is the same." * 500,
}


@pytest.mark.parametrize("name", WORKED)
@pytest.mark.parametrize("form", FORMS)
def test_a_right_answer_counts_in_every_form(score_of, name, form):
    assert score_of(name, lambda prompt, doc, sample: FORMS[form](gold(doc))) == 1


WRONG = {
    "another number": lambda n: f" The answer is {n + 1}.",
    "ten times": lambda n: f" The answer is {n}0.",
    "the right one only in the work": lambda n: f" We have {n} at first. The answer is {n + 2}.",
    "the right one only for a further question": lambda n: f" The answer is 3000.\n\nQuestion: x\nAnswer: {n}",
    "empty": lambda n: "",
    "no number": lambda n: " I do not know.",
    "digits without end": lambda n: "9" * 5000,
    "division by zero": lambda n: " The answer is 1/0.",
    "other sign": lambda n: f" The answer is {-n}.",
}


@pytest.mark.parametrize("form", WRONG)
def test_a_wrong_answer_does_not_count(score_of, form):
    assert score_of(WORKED[0], lambda prompt, doc, sample: WRONG[form](gold(doc))) == 0


def test_the_share_of_right_answers_is_the_score(answered, items):
    right = {items.GSM8K[index][0] for index in (0, 3, 4)}
    answer = lambda prompt, doc, sample: f" {gold(doc) + (doc['question'] not in right)}"  # noqa: E731
    (row,) = answered(WORKED[0], answer).rows
    assert (row["value"], row["count"], row["chance"]) == (0.5, len(items.GSM8K), None)


def test_prompts_have_the_stated_examples_and_never_the_question(answered):
    for name, shots in (
        ("gsm8k-7shot-cot", 7),
        ("gsm8k-5shot-pal", 5),
        ("gsm8k-8shot-chat", 8),
        ("gsm8k-0shot-chat", 0),
    ):
        for prompt, _, doc in answered(name, lambda *_: "1").asked:
            assert prompt.count(doc["question"]) == 1
            assert prompt.count("There are 15 trees in the grove.") == (shots > 0)
            assert prompt.count("Question: ") == (shots + 1 if shots else 0)
    turns = answered("gsm8k-8shot-chat", lambda *_: "1").log[0]["prompt"]
    assert turns.count("<user>") == 9
    assert turns.endswith("</user><assistant>")


def test_generation_is_asked_for_as_stated(answered):
    for prompt, settings, _ in answered("gsm8k-7shot-cot", lambda *_: "1").asked:
        assert settings == {"until": ["\n\nQuestion", "\n\nAnswer"], "max_gen_toks": 596, "do_sample": False}
        assert prompt.endswith("\nAnswer:")


PROGRAMS = {
    "fenced": (lambda n: f"\n```python\ndef solution():\n    return {n}\n```\nDone.", 1),
    "bare": (lambda n: f"\ndef solution():\n    total = {n} * 2\n    return total / 2", 1),
    "unclosed fence": (lambda n: f"\n```\ndef solution():\n    return {n}.0", 1),
    "rounding": (lambda n: f"\n```python\ndef solution():\n    return {n} + 1e-9\n```", 1),
    "further question": (
        lambda n: f"\n```python\ndef solution():\n    return {n}\n```\n\nQuestion: x\nAnswer:\n```\nx",
        1,
    ),
    "wrong": (lambda n: f"\n```python\ndef solution():\n    return {n + 1}\n```", 0),
    "no program": (lambda n: f" The answer is {n}.", 0),
    "error": (lambda n: f"\n```python\ndef solution():\n    return {n}\nraise ValueError\n```", 0),
    "leaves early": (lambda n: f"\n```python\nimport os\nprint({n}, flush=True)\nos._exit(0)\n```", 0),
    "two numbers": (lambda n: f"\n```python\ndef solution():\n    return ({n}, 1)\n```", 0),
    "nothing": (lambda n: "", 0),
}


@pytest.mark.parametrize("form", PROGRAMS)
def test_what_a_program_returns_is_compared(score_of, form):
    make, expected = PROGRAMS[form]
    assert score_of("gsm8k-5shot-pal", lambda prompt, doc, sample: make(gold(doc))) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10-5", 5),
        ("it is -5", -5),
        ("\u22125", -5),
        ("$\\frac{3}{4}$", Fraction(3, 4)),
        ("1,2,3", 3),
        ("12,345.50", Fraction(24691, 2)),
        ("The answer is 3 x 6 = 18 dollars out of 20", 18),
        ("The answer is $\\boxed{6}$, not 7.", 6),
        ("\\boxed{5}. The answer is 6.", 6),
        ("\\boxed{", None),
        ("", None),
    ],
)
def test_numbers_are_read_as_written(text, number):
    assert final_number(text) == number
