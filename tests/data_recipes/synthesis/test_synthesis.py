"""Generated problems: right answers, disjoint sides, forms complete in both languages."""

import ast
import operator
import re
from datetime import date
from itertools import islice
from random import Random

import pytest

from data_recipes.errors import DataError
from data_recipes.synthesis.programs import documents as synthesis_documents
from data_recipes.synthesis.programs.draw import ProblemSource, all_kinds
from data_recipes.synthesis.programs.problem import LANGUAGES, is_heldout, load_forms, put_into_words
from data_recipes.synthesis.prose_zh import chinese_documents, in_words
from eval.metrics.answer_match.answer_match import read_answer
from eval.tasks.problems import ANSWER_MARKS

LEVELS = {1: 1.0, 2: 1.0, 3: 1.0}


def problems(count=3000, heldout=False, seed=0):
    source = ProblemSource(seed=seed, heldout=heldout, level_weights=LEVELS)
    return [source.draw() for _ in range(count)]


def evaluate(expression: str) -> float:
    """The value of sums and products in a worked step, by Python's own parser."""
    signs = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

    def value(node):
        if isinstance(node, ast.BinOp):
            return signs[type(node.op)](value(node.left), value(node.right))
        assert isinstance(node, ast.Constant)
        return node.value

    return value(ast.parse(expression.replace("×", "*").replace("÷", "/"), mode="eval").body)


def test_every_kind_has_paraphrases_in_both_languages_and_no_form_is_orphaned():
    forms = load_forms()
    assert set(forms) == set(all_kinds())
    for kind, by_language in forms.items():
        assert set(by_language) == set(LANGUAGES), kind
        assert all(len(set(asked)) == len(asked) >= 2 for asked in by_language.values()), kind


def test_every_worked_equation_is_true():
    checked = 0
    for problem in problems():
        for step in problem.steps:
            for equation in re.findall(r"(?<![\d/])\d[\d +×÷/-]*(?: = [\d +×÷/-]*\d)+", step):
                sides = [side for side in equation.split("=") if side.strip()]
                values = {round(evaluate(re.sub(r"\b0+(\d)", r"\1", side).strip()), 9) for side in sides}
                assert len(values) == 1, (problem, equation)
                checked += 1
    assert checked > 1000


@pytest.mark.parametrize(
    ("kind", "operands", "english", "chinese"),
    [
        ("larger", (47, 83), "83", "83"),
        ("smaller", (100, 99), "99", "99"),
        ("next-number", (199,), "200", "200"),
        ("previous-number", (100,), "99", "99"),
        ("parity", (8154,), "even", "偶数"),
        ("weekday-after", (6, 8), "Monday", "星期一"),
        ("divide", (941, 9), "104 remainder 5", "商104余5"),
        ("gcd", (84, 36), "12", "12"),
        ("fraction-sum", (1, 2, 1, 2), "1", "1"),
        ("clock", (23, 50, 20), "00:10", "00:10"),
        ("date-weekday", (2024, 2, 29), "Thursday", "星期四"),
        ("days-between", (0, date(2024, 2, 28).toordinal(), 2), "2", "2"),
    ],
)
def test_answers_known_from_elsewhere(kind, operands, english, chinese):
    for language, expected in (("en", english), ("zh", chinese)):
        problem = put_into_words(all_kinds()[kind], operands, language, Random(0))
        assert problem.answer == expected
        assert read_answer(problem.response, [ANSWER_MARKS[language]]) == expected


def test_sides_share_no_problem_even_in_another_wording_language_or_order():
    kinds = all_kinds()
    trained = {kinds[p.kind].identity(p.operands) for p in problems(8000)}
    unseen = {kinds[p.kind].identity(p.operands) for p in problems(4000, heldout=True, seed=5)}
    assert not trained & unseen
    assert is_heldout(kinds["add"], (12, 94)) == is_heldout(kinds["add"], (94, 12))
    assert is_heldout(kinds["larger"], (12, 94)) == is_heldout(kinds["smaller"], (94, 12))


def test_same_seed_same_problems_and_another_seed_others():
    assert problems(200) == problems(200)
    assert problems(200) != problems(200, seed=1)


def test_chance_is_not_understated_for_choices():
    for problem in problems(2000):
        offered = len(set(re.findall(r"\d+", problem.question))) if problem.kind in ("larger", "smaller") else 0
        if offered:
            assert problem.chance == 1 / offered
        assert 0 < problem.chance <= 0.5


def test_unknown_kind_is_refused_by_name():
    with pytest.raises(DataError, match=r"telepathy.*repeat"):
        ProblemSource(seed=0, heldout=False, level_weights=LEVELS, kinds=["telepathy"])


def test_heldout_dialogues_cover_every_kind_evenly_without_repeats():
    dialogues = list(synthesis_documents.heldout_dialogues(12, seed=3))
    by_kind = {}
    for dialogue in dialogues:
        by_kind.setdefault(dialogue["kind"], []).append(dialogue["messages"][0]["content"])
        assert [message["role"] for message in dialogue["messages"]] == ["user", "assistant"]
        marks = [ANSWER_MARKS[dialogue["language"]]]
        assert read_answer(dialogue["messages"][1]["content"], marks) == dialogue["answer"]
    assert set(by_kind) == {kind.name for kind in all_kinds().values() if kind.level <= 3}
    assert all(len(questions) == len(set(questions)) == 12 for questions in by_kind.values())


def test_dialogues_start_with_the_user_or_a_system_prompt_and_alternate():
    for dialogue in synthesis_documents.training_dialogues(300, seed=0):
        roles = [message["role"] for message in dialogue["messages"]]
        if roles[0] == "system":
            roles = roles[1:]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


@pytest.mark.parametrize(
    ("number", "words"), [(0, "零"), (10, "十"), (110, "一百一十"), (1001, "一千零一"), (203040, "二十万三千零四十")]
)
def test_numbers_in_chinese_words(number, words):
    assert in_words(number) == words


def test_chinese_prose_computes_its_dates():
    text = "\n".join(islice(chinese_documents(seed=0, heldout=False), 300))
    found = re.findall(r"(\d+)年(\d+)月(\d+)日是(星期.)", text)
    assert len(found) > 20
    for year, month, day, weekday in found:
        assert "一二三四五六日"[date(int(year), int(month), int(day)).weekday()] == weekday[-1]
