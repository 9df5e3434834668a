"""HumanEval(+) and MBPP(+): reference solutions pass, changed ones fail, and pass@k is the closed form."""

from math import comb

import pytest

from eval.benchmarks.programs import code_block
from eval.code_runner import run_program
from eval.errors import EvalError

BASE = {"humaneval-0shot", "humaneval-plus-0shot"}
CHAT = {"humaneval-0shot-chat", "humaneval-plus-0shot-chat", "mbpp-0shot-chat", "mbpp-plus-0shot-chat"}
ALL = [*sorted(BASE), "mbpp-3shot", "mbpp-plus-3shot", *sorted(CHAT)]

pytestmark = pytest.mark.skipif(run_program("").status == "refused", reason="nothing isolates programs here")


def solution(name, doc):
    """The reference solution in the form of an answer."""
    if name in BASE:
        return "\n" + doc["canonical_solution"]
    code = doc["prompt"] + doc["canonical_solution"] if name.startswith("humaneval") else doc["code"]
    return f"Here it is:\n\n```python\n{code}\n```\nIt works." if name in CHAT else code + "\n[DONE]"


def values(result):
    return {row["measure"]: row["value"] for row in result.rows}


@pytest.mark.parametrize("name", ALL)
def test_reference_solutions_pass_and_are_asked_for_as_stated(answered, name):
    result = answered(name, lambda prompt, doc, sample: solution(name, doc))
    assert values(result) == {"pass@1": 1, "pass@10": 1}
    assert len(result.asked) == 20 * len({prompt for prompt, _, _ in result.asked})
    for prompt, settings, doc in result.asked:
        assert (settings["do_sample"], settings["temperature"]) == (True, 0.1)
        assert settings["max_gen_toks"] == (512 if name in BASE else 1024)
        assert doc.get("canonical_solution", doc.get("code")) not in prompt
        if name.startswith("mbpp"):
            assert prompt.count("[DONE]") == (3 if "3shot" in name else 0)
            assert prompt.count(doc["test_list"][0]) == 1
            assert (settings["until"] == ["[DONE]"]) == ("3shot" in name)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("return ", "return not "),
        lambda text: text.replace("return ", "import os; os._exit(0); return "),
        lambda text: text.replace("return ", "raise SystemExit(0); return "),
        lambda text: "",
        lambda text: "I cannot do that.",
    ],
    ids=["wrong result", "os._exit", "SystemExit", "empty", "prose"],
)
def test_what_is_no_solution_fails(answered, name, change):
    result = answered(
        name, lambda prompt, doc, sample: change(solution(name, doc)), change={"samples": 1, "metric": "pass@1"}
    )
    assert values(result) == {"pass@1": 0}


def test_only_the_plus_tests_notice_a_solution_for_the_easy_cases(answered):
    def easy(prompt, doc, sample):
        body = solution("humaneval-0shot", doc)
        return body.replace("    if not values:\n        return 0.0\n", "") if doc["entry_point"] == "mean" else body

    assert values(answered("humaneval-0shot", easy))["pass@1"] == 1
    assert values(answered("humaneval-plus-0shot", easy))["pass@1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("right", [0, 1, 7, 20])
def test_pass_at_k_of_planted_answers_is_the_closed_form(answered, right):
    def answer(prompt, doc, sample):
        return solution("mbpp-3shot", doc) if sample < right else f"number = {sample}\n[DONE]"

    expected = {f"pass@{k}": 1 - comb(20 - right, k) / comb(20, k) for k in (1, 10)}
    assert values(answered("mbpp-3shot", answer)) == pytest.approx(expected)


def test_an_answer_ends_where_the_model_begins_something_else(answered):
    def run_on(prompt, doc, sample):
        return solution("humaneval-0shot", doc) + "\n\nassert False\n\ndef more():\n    raise ValueError\n\nmore()"

    assert values(answered("humaneval-0shot", run_on))["pass@1"] == 1

    def repeats_the_mark(prompt, doc, sample):
        return "[BEGIN]\n" + doc["code"] + "\n[DONE]\nassert False"

    assert values(answered("mbpp-3shot", repeats_the_mark))["pass@1"] == 1


def test_a_chat_may_answer_with_the_body_or_an_open_fence(answered):
    body = lambda prompt, doc, sample: f"```python\n{doc['canonical_solution']}```"  # noqa: E731
    assert values(answered("humaneval-0shot-chat", body))["pass@1"] == 1
    no_end = lambda prompt, doc, sample: f"```\n{doc['code']}"  # noqa: E731
    assert values(answered("mbpp-0shot-chat", no_end))["pass@1"] == 1


def test_the_block_that_defines_the_function_is_taken():
    answer = "First:\n```\nx = 1\n```\nthen\n```py\ndef f(x):\n    return x\n```"
    assert code_block(answer, "f").startswith("def f")
    assert code_block(answer, "g") == "x = 1\n"
    assert code_block("def f(): pass", "f") == "def f(): pass"


def test_worked_examples_of_mbpp_pass_their_own_tests():
    from eval.benchmarks.tasks.mbpp.examples import worked

    for example in worked():
        assert run_program(example["code"], tests="\n".join(example["test_list"])).status == "passed"


def test_worked_programs_of_gsm8k_return_the_answer_of_their_example():
    from eval.benchmarks.tasks.gsm8k.answers import final_number
    from eval.benchmarks.tasks.gsm8k.examples import programs, worked
    from eval.benchmarks.tasks.gsm8k.pal import code_of

    assert len(programs()) == 5
    for example, text in zip(programs(), worked(), strict=False):
        tests = f"assert solution() == {final_number(text['target'])}"
        assert run_program(code_of(example["target"]), tests=tests).status == "passed"


def test_a_machine_that_isolates_nothing_is_told_before_anything_is_asked(monkeypatch):
    from eval.code_runner import runner
    from eval.suites import make_tasks

    monkeypatch.setattr(runner, "usable", lambda: ([], {"sandlock": "not installed"}))
    for name in (*ALL, "gsm8k-5shot-pal"):
        (task,) = make_tasks(name, {})
        with pytest.raises(EvalError, match=f"{name}: runs generated programs.*sandlock: not installed"):
            task.check_machine()
