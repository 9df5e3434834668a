"""Code that a model writes: run on the examples or the tests beside it, which must be able to fail."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_answers import CHECKS, verdict

from data_recipes.synthesis.kinds.base import Checks
from data_recipes.synthesis.kinds.code_documents import CodeDocuments
from data_recipes.synthesis.kinds.oss_instruct import OssInstruct
from eval.code_runner.runner import ProgramResult

SEED = {
    "text": "def total(prices):\n    result = 0\n    for price in prices:\n        result += price\n    return result\n"
}
PROBLEM = (
    "Write a function `second_largest(numbers)` that returns the second largest of the distinct integers in a list, "
    "or None where there are fewer than two of them."
)
CODE = """def second_largest(numbers):
    distinct = sorted(set(numbers))
    if len(distinct) < 2:
        return None
    return distinct[-2]"""
TESTS = """assert second_largest([3, 1, 2]) == 2
assert second_largest([5, 5, 4]) == 4
assert second_largest([7]) is None
assert second_largest([]) is None"""

GUARDED = "try:\n    assert second_largest([1]) == 3\nexcept Exception:\n    pass\n" * 4


def written(code: str = CODE, tests: str = TESTS, language: str = "python") -> str:
    explanation = "Sort what is left without repeats and take the last but one, if there are so many."
    return (
        f"[Problem]\n{PROBLEM}\n\n[Solution]\n{explanation}\n```{language}\n{code}\n```\n\n"
        f"[Tests]\n```python\n{tests}\n```\n<END>"
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (written(), "accepted"),
        (written().replace("\n", "\r\n"), "accepted"),
        (written(language=""), "accepted"),
        (written(CODE.replace("[-2]", "[-1]")), "rejected: solution fails its tests"),
        (written("raise SystemExit(0)\n" + CODE), "rejected: solution fails its tests"),
        (written(tests="assert second_largest\n" * 4), "rejected: tests pass with an empty solution"),
        (written(tests="assert second_largest([7]) is None\n" * 4), "rejected: tests pass with an empty solution"),
        (written(tests=GUARDED), "rejected: tests pass with an empty solution"),
        (written(tests="assert second_largest([3, 1, 2]) == 2"), "rejected: too few tests"),
        (written(tests="assert 1 + 1 == 2\n" * 4), "rejected: tests do not use the solution"),
        (written(tests=CODE + "\n" + TESTS), "rejected: tests define the solution anew"),
        (written(tests="assert ("), "rejected: tests is not Python"),
        (written("function f() { return 1; }", language="javascript"), "rejected: solution in another language"),
        (written("print('x')"), "rejected: solution defines nothing"),
        (written(CODE + "\nx = " + "(" * 5000 + ")" * 5000), "rejected: solution is not Python"),
        (written(CODE + "\nx = " + "1 + " * 900 + "1"), "rejected: solution is nested too deeply"),
        (written(CODE + "\n```\n```python\n" + CODE), "rejected: several programs in the solution"),
        (written().replace("[Tests]", "Tests:"), "rejected: no [Tests] part"),
        (written().replace(f"```python\n{TESTS}\n```", "They pass."), "rejected: no Python in the tests"),
    ],
)  # fmt: skip
def test_a_solution_passes_tests_that_an_empty_one_fails(answer, expected):
    assert verdict(OssInstruct(), SEED, answer, checks=CHECKS) == expected


def mutants(code: str) -> list[str]:
    """The code with one operator or constant changed."""
    found = []
    for number, node in enumerate(ast.walk(ast.parse(code))):
        tree = ast.parse(code)
        same = list(ast.walk(tree))[number]
        if isinstance(node, ast.Compare):
            same.ops = [ast.GtE()]
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            same.value = node.value + 1
        elif isinstance(node, ast.USub):
            tree = ast.parse(code.replace("-", ""))
        else:
            continue
        found.append(ast.unparse(tree))
    return found


def test_a_mutated_solution_fails_its_tests():
    changed = mutants(CODE)
    assert len(changed) >= 4
    for code in changed:
        assert verdict(OssInstruct(), SEED, written(code), checks=CHECKS) == "rejected: solution fails its tests", code


def test_a_machine_that_isolates_nothing_runs_nothing_and_says_so():
    def refused(*_, **__):
        return ProgramResult("refused", "", "", 0.0, "none", "cannot")

    checks = Checks(CHECKS.same_answer, refused)
    assert verdict(OssInstruct(), SEED, written(), checks=checks) == "unchecked"
    assert verdict(CodeDocuments(), SEED, document(), checks=checks) == "unchecked"


def test_a_solution_copied_from_its_seed_is_nothing_new():
    assert verdict(OssInstruct(), {"text": f"# file\n{CODE}\n"}, written()) == "rejected: solution copied from the seed"


TEXT = {"text": "Prices in a shop of the town, and what they are together."}
STORY = (
    "A shop keeps the prices of its goods in a list. Given a number n and then n prices on one line, print the sum of "
    "all prices. The first line holds n, at most 100, the second the prices, each an integer between 0 and 1000."
)
EXPLANATION = (
    "We read n and the prices and add them up. Each price is looked at once, so this takes time that grows with n "
    "only; the sum of no prices is zero, which needs no case of its own."
)
PROGRAM = "input()\nprint(sum(map(int, input().split())))"
MARKS = ["[Examples]", "[Problem]", "[Solution]", "[Tests]", "<END>", "```", "```python", "~~~", "Input:", "Output:"]


def document(program: str = PROGRAM, second: str = "15", given: str = "2\n7 8") -> str:
    return (
        f"[Problem]\n{STORY}\n\n[Examples]\nInput:\n```\n3\n1 2 3\n```\nOutput:\n```\n6\n```\n"
        f"Input 2:\n```\n{given}\n```\n"
        f"**Output 2:**\n```\n{second}\n```\n\n[Solution]\n{EXPLANATION}\n```python\n{program}\n```\n<END>"
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (document(), "accepted"),
        (document().replace("Input:", "输入：").replace("Output:", "输出："), "accepted"),
        (document(second="16"), "rejected: program contradicts the examples"),
        (document("print(6)"), "rejected: program contradicts the examples"),
        (document("raise ValueError"), "rejected: program fails"),
        (document(second="6"), "rejected: examples all have one output"),
        (document(given="3\n1 2 3"), "rejected: an example twice"),
        (document().replace("Input 2:", "Also:"), "rejected: examples in another form"),
        (
            document().replace("[Solution]", "(and so on, from two to four examples in all)\n[Solution]"),
            "rejected: prompt echoed",
        ),
        (document("def f(:"), "rejected: solution is not Python"),
    ],
)
def test_a_program_prints_what_its_document_shows(answer, expected):
    assert verdict(CodeDocuments(), TEXT, answer, checks=CHECKS) == expected


def test_a_program_without_an_end_is_stopped(monkeypatch):
    monkeypatch.setattr("data_recipes.synthesis.kinds.programs_run.SECONDS", 1.0)
    slow = "import time\ntime.sleep(60)\n"
    assert verdict(OssInstruct(), SEED, written(slow + CODE), checks=CHECKS) == "rejected: solution takes too long"
    assert verdict(CodeDocuments(), TEXT, document(slow + PROGRAM), checks=CHECKS) == "rejected: program takes too long"


@given(st.lists(st.sampled_from([*MARKS, "x = 1", "assert f", "题"]), max_size=14))
def test_any_answer_of_marks_and_fences_is_parsed_or_rejected(lines):
    text = "\n".join(lines)
    assert verdict(OssInstruct(), SEED, text).startswith(("rejected", "accepted"))
    assert verdict(CodeDocuments(), SEED, text).startswith(("rejected", "accepted"))
