"""Every kind of problem: its numbers give different problems, its wording is whole, its answers hold elsewhere.

SymPy and math-verify are the elsewhere: neither shares code with the kinds.
"""

import re
from collections import Counter
from fractions import Fraction
from itertools import islice, pairwise
from math import comb
from random import Random

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from sympy.functions.combinatorial.numbers import divisor_sigma, totient
from sympy.ntheory.modular import crt

from data_recipes.synthesis.programs.draw import Stock, all_kinds, distinct_problems
from data_recipes.synthesis.programs.problem import LANGUAGES, is_heldout, put_into_words
from data_recipes.synthesis.programs.problems.numbering import Arrangements, Shuffle, Subsets
from data_recipes.synthesis.programs.run import ProgramsRequest, problems_of_unit
from eval.metrics.answer_match.answer_match import read_answer
from eval.tasks.problems import ANSWER_MARKS

KINDS = sorted(all_kinds())
HARDEST = max(kind.level for kind in all_kinds().values())
X = sympy.Symbol("x")


def drawn(name, count, seed=0, heldout=False):
    return list(islice(distinct_problems(seed=seed, heldout=heldout, shares={name: 1.0}, languages=LANGUAGES), count))


@given(st.integers(1, 60_000), st.text(max_size=5))
def test_a_shuffle_has_every_number_once(size, seed):
    order = Shuffle(size, seed)
    if size <= 2_000:
        assert sorted(order[place] for place in range(size)) == list(range(size))
    else:
        assert len({order[place] for place in range(0, size, 37)}) == len(range(0, size, 37))


def test_a_shuffle_leaves_no_order():
    """Neighbours in it are as far apart as any two numbers, and each digit of a number is as often each value."""
    size = 10**9
    order = Shuffle(size, "any")
    numbers = [order[place] for place in range(20_000)]
    gaps = [abs(a - b) / size for a, b in pairwise(numbers)]
    assert abs(sum(gaps) / len(gaps) - 1 / 3) < 0.01
    for place in range(9):
        counts = Counter(number // 10**place % 10 for number in numbers)
        assert all(abs(count - 2_000) < 220 for count in counts.values()), place
    pairs = Counter((a % 10, b % 10) for a, b in pairwise(numbers))
    assert len(pairs) == 100
    assert max(pairs.values()) < 300


@pytest.mark.parametrize(("n", "k"), [(5, 1), (6, 2), (7, 3), (9, 4)])
def test_subsets_and_arrangements_are_each_there_once(n, k):
    subsets, rows = (list(islice(all_, len(all_))) for all_ in (Subsets(n, k), Arrangements(n, k)))
    assert len(set(subsets)) == len(subsets) == comb(n, k)
    assert all(tuple(sorted(set(one))) == one and max(one) < n for one in subsets)
    assert len(set(rows)) == len(rows)
    assert all(len(set(row)) == k and max(row) < n for row in rows)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_gives_no_problem_twice_and_asks_in_whole_sentences(name):
    problems = drawn(name, 150)
    kind = all_kinds()[name]
    identities = [kind.identity(problem.operands) for problem in problems]
    assert len(set(map(repr, identities))) == len(problems) > 60
    assert not any(is_heldout(kind, problem.operands) for problem in problems)
    for problem in problems:
        assert not re.search(
            r"[{}]|None\b(?! of)|True|False|\d\.0\b|Fraction", f"{problem.question}\n{problem.response}"
        ), problem
        assert "  " not in problem.question + problem.response, problem
        assert not re.search(r"\b1 (hours|days|times|teachers|parents|pupils|hits|ways|places)\b", problem.question)
        if problem.language == "zh":
            assert problem.question[-1] in "。？）" or "\n" in problem.question
            assert not re.search(r"[A-Za-z]{3,}", re.sub(r"mod|det|gcd|lcm|[0-9A-F]+", "", problem.question)), problem
        assert kind.level <= 2 or problem.steps, problem
        mark = [ANSWER_MARKS[problem.language]]
        assert read_answer(problem.response, mark) == read_answer(problem.answer, mark)
        assert 0 < problem.chance <= 0.5


@pytest.mark.parametrize("name", KINDS)
def test_wording_language_and_order_change_neither_the_answer_nor_the_side(name):
    kind, rng = all_kinds()[name], Random(1)
    stock = Stock(kind, 0, seed=5, unit=0, units=1)
    for _ in range(40):
        operands = stock.draw(False)
        answers = set()
        for _ in range(4):
            asked = kind.arrange(operands, rng)
            assert kind.identity(asked) == kind.identity(operands)
            answers.add(put_into_words(kind, asked, "en", rng).answer)
        if kind.name not in ("larger", "smaller", "divisible-by-either"):
            assert len(answers) == 1, (operands, answers)


def test_steps_that_do_not_arrive_at_the_answer_stop_the_run(monkeypatch):
    kind = all_kinds()["determinant-3"]
    monkeypatch.setattr(type(kind), "solve", lambda self, operands: 1_000_003)
    with pytest.raises(AssertionError, match="the steps give"):
        drawn("determinant-3", 1)


def x_of(text):
    """SymPy's reading of a polynomial or an equation as it is written in a question."""
    text = re.sub(r"(\d)([xyz(])", r"\1*\2", text.replace("^", "**"))
    text = re.sub(r"\)\(", ")*(", text)
    left, equals, right = text.partition(" = ")
    return sympy.sympify(left) - sympy.sympify(right) if equals else sympy.sympify(left)


def number(text):
    return sympy.Rational(text)


def roots(answer):
    return {number(root) for root in re.findall(r"x = ([-\d/]+)", answer)}


def check_system(operands, answer):
    names = sympy.symbols("x y z")[: len(operands)]
    equations = [sum(a * x for a, x in zip(row, names, strict=False)) - row[-1] for row in operands]
    (solution,) = sympy.linsolve(equations, names)
    assert ", ".join(f"{x} = {value}" for x, value in zip("xyz", solution, strict=False)) == answer


def equal(value):
    def check(operands, answer):
        assert sympy.sympify(value(operands)) == number(answer), (operands, answer)

    return check


def same(value):
    def check(operands, answer):
        assert str(value(operands)) == answer, (operands, answer)

    return check


def check_division(operands, answer):
    *coefficients, r = operands
    quotient, rest = sympy.div(sympy.Poly(coefficients, X), sympy.Poly([1, -r], X))
    text, _, remainder = answer.partition(" remainder ")
    assert sympy.expand(x_of(text) - quotient.as_expr()) == 0
    assert rest.as_expr() == int(remainder)


def check_factors(operands, answer):
    powers = [part.partition("^") for part in answer.split(" × ")]
    assert {int(prime): int(count or 1) for prime, _, count in powers} == sympy.factorint(operands[0])


def check_quadratic(operands, answer):
    assert roots(answer) == set(sympy.roots(sympy.Poly(operands, X)))


def check_product(operands, answer):
    product = sympy.Poly(operands[0], X) * sympy.Poly(operands[1], X)
    assert sympy.expand(x_of(answer) - product.as_expr()) == 0


def matrix_text(matrix):
    return str(matrix.tolist())


def sum_over_roots(operands):
    a, b, c, which = operands
    r, s = sympy.roots(sympy.Poly([a, b, c], X), multiple=True)
    return sympy.nsimplify(sympy.simplify((r**2 + s**2, 1 / r + 1 / s, (r - s) ** 2)[which]))


ORACLES = {
    "gcd": equal(lambda o: sympy.gcd(*o)),
    "large-gcd": equal(lambda o: sympy.gcd(*o)),
    "lcm": equal(lambda o: sympy.lcm(*o)),
    "prime-factors": check_factors,
    "is-prime": same(lambda o: "yes" if sympy.isprime(o[0]) else "no"),
    "modular-power": equal(lambda o: sympy.Mod(sympy.Integer(o[0]) ** o[1], o[2])),
    "modular-inverse": equal(lambda o: sympy.mod_inverse(*o)),
    "chinese-remainder": equal(lambda o: crt([m for _, m in o], [a for a, _ in o])[0]),
    "totient": equal(lambda o: totient(o[0])),
    "divisor-count": equal(
        lambda o: divisor_sigma(sympy.prod([p**e for p, e in zip((2, 3, 5, 7, 11, 13, 17, 19), o, strict=True)]), 0)
    ),
    "determinant-2": equal(lambda o: sympy.Matrix(o).det()),
    "determinant-3": equal(lambda o: sympy.Matrix(o).det()),
    "matrix-rank": equal(lambda o: sympy.Matrix(o).rank()),
    "matrix-inverse": same(lambda o: matrix_text(sympy.Matrix(o).inv())),
    "matrix-product": same(lambda o: matrix_text(sympy.Matrix(o[:2]) * sympy.Matrix(o[2:]))),
    "matrix-vector": same(lambda o: tuple(sympy.Matrix(o[:2]) * sympy.Matrix(o[2]))),
    "dot-product": equal(lambda o: sympy.Matrix(o[0]).dot(sympy.Matrix(o[1]))),
    "two-equations": check_system,
    "three-equations": check_system,
    "quadratic": check_quadratic,
    "general-quadratic": check_quadratic,
    "sums-of-roots": equal(sum_over_roots),
    "polynomial-product": check_product,
    "polynomial-division": check_division,
    "polynomial-value": equal(lambda o: sympy.Poly(o[:4], X).eval(o[4])),
    "derivative-at": equal(lambda o: sympy.Poly(o[:4], X).diff().eval(o[4])),
    "sum-of-powers": equal(lambda o: sympy.summation(X ** o[0], (X, o[1], o[2]))),
    "committee": equal(lambda o: sympy.prod([sympy.binomial(n, k) for n, k in o])),
}


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_sympy_finds_the_same_answer(name):
    kind = all_kinds()[name]
    for problem in drawn(name, 15, seed=2):
        english = kind.write(kind.solve(problem.operands), "en")
        ORACLES[name](problem.operands, english)


EXPRESSIONS = (
    "long-sum",
    "long-difference",
    "long-product",
    "decimal-sum",
    "decimal-product",
    "signed-sum",
    "fraction-product",
    "expression",
    "nested-expression",
    "fraction-expression",
    "add",
    "multiply",
)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_sympy_reads_the_written_expression_and_finds_the_same_value(name):
    """From the text of the question, so that a wrong bracket or sign in the wording is found too."""
    for problem in drawn(name, 30, seed=4):
        fields = problem.asked.fields(problem.operands, "en")
        text = (
            fields.get("expression")
            or f"{fields['a']} {'+-×'[('sum', 'diff', 'prod').index(kind_of(name))]} {fields['b']}"
        )
        if "expression" in fields:
            assert fields["expression"] in problem.question
        value = sympy.sympify(text.replace("×", "*").replace("÷", "/"), rational=True)
        assert value == number(problem.answer), problem


def kind_of(name):
    return {"add": "sum", "long-sum": "sum", "long-difference": "diff"}.get(name, "prod")


@pytest.mark.parametrize("name", ["linear-both-sides", "linear-brackets", "linear-equation", "quadratic"])
def test_the_written_answer_fulfils_the_written_equation(name):
    for problem in drawn(name, 25, seed=6):
        asked = re.search(r"[-\dx(][-\dx^ +()]*= [-\dx^ +()]*[\dx)]", problem.question)[0]
        left, _, right = asked.partition(" = ")
        for value in re.findall(r"-?\d+(?:/\d+)?", problem.answer):
            assert (x_of(left) - x_of(right)).subs(X, number(value)) == 0, problem


def test_hardest_problems_are_different_by_what_they_ask(monkeypatch):
    monkeypatch.setattr("data_recipes.synthesis.programs.run.UNIT_PROBLEMS", 1_000)
    request = ProgramsRequest(count=20_000, levels=(HARDEST,))
    seen = {
        hash(repr(problem.asked.identity(problem.operands)))
        for unit in (0, 7, 19)
        for problem in problems_of_unit(request, unit)
    }
    assert len(seen) == 3_000


@pytest.mark.slow
def test_a_million_of_the_hardest_problems_are_all_different():
    request = ProgramsRequest(count=1_000_000, levels=(HARDEST,))
    seen, asked, kinds = set(), set(), Counter()
    for unit in range(request.units):
        for problem in problems_of_unit(request, unit):
            seen.add(hash(repr(problem.asked.identity(problem.operands))))
            kinds[problem.kind] += 1
            if unit % 10 == 0:
                asked.add(problem.question)
    assert len(seen) == 1_000_000
    assert len(asked) == 100_000
    even = 1_000_000 / len(kinds)
    assert all(0.8 * even < count < 1.2 * even for count in kinds.values()), kinds


# Words, dates, times, numbers in other bases; lists of numbers and matrices, which math-verify takes for intervals.
WITHOUT_MATH_ANSWER = {
    *("parity", "first-item", "last-item", "repeat", "reverse", "sort", "weekday-after", "divide", "long-division"),
    *("clock", "date-weekday", "is-prime", "date-after", "weekday-from-date", "time-zones", "durations"),
    *("polynomial-division", "to-base", "two-prices", "matrix-product", "matrix-inverse"),
}


def in_latex(kind, solution):
    """The solution as another would write it."""
    if kind.name == "prime-factors":
        return r" \cdot ".join(f"{prime}^{{{count}}}" for prime, count in solution.items())
    if kind.name == "polynomial-product":
        return sympy.latex(sympy.Poly(solution, X).as_expr())
    if kind.name in ("quadratic", "general-quadratic"):
        return rf"\{{{', '.join(sympy.latex(sympy.Rational(root)) for root in solution)}\}}"
    if kind.name in ("two-equations", "three-equations"):
        return ", ".join(f"{name}={value}" for name, value in zip("xyz", solution, strict=False))
    if kind.name == "matrix-vector":
        return f"({solution[0]},{solution[1]})"
    if kind.name in ("decimal-sum",):
        solution = Fraction(solution, 1000)
    return sympy.latex(sympy.Rational(solution.numerator, solution.denominator))


@pytest.mark.parametrize("name", sorted(set(KINDS) - WITHOUT_MATH_ANSWER))
def test_math_verify_agrees_with_the_exact_answer_and_not_with_another(name):
    from math_verify import parse, verify

    kind = all_kinds()[name]
    found = {}
    for problem in drawn(name, 4, seed=9):
        answer = problem.answer.replace("或", " or ")
        found[in_latex(kind, kind.solve(problem.operands))] = parse(f"${answer}$", parsing_timeout=None)
    for gold, answer in found.items():
        agrees = [verify(parse(f"${other}$", parsing_timeout=None), answer, timeout_seconds=None) for other in found]
        assert agrees == [other == gold for other in found], (gold, answer)


def exact_value(expression):
    """The value of a written expression, by Python's own parser with fractions for numbers."""
    text = re.sub(r"\d+(?:\.\d+)?", r"F('\g<0>')", expression.replace("×", "*").replace("÷", "/"))
    return eval(re.sub(r"\^F\('(\d+)'\)", r"**\1", text), {"F": Fraction})


def test_every_equation_in_the_steps_of_harder_problems_is_true():
    checked = Counter()
    shares = {kind.name: 1.0 for kind in all_kinds().values() if kind.level >= 4}
    for problem in islice(distinct_problems(seed=8, heldout=False, shares=shares, languages=LANGUAGES), 2_000):
        for part in re.split(r"[:：,，。；]|\.$", "\n".join(problem.steps), flags=re.MULTILINE):
            for line in filter(None, map(str.strip, part.split("\n"))):
                sides = line.split("=") if re.fullmatch(r"[-\d+×÷/^().= ]+", line) else []
                sides = [side for side in sides if "..." not in side]
                if len(sides) > 1 and all(side.count("(") == side.count(")") for side in sides):
                    assert len({exact_value(side.strip()) for side in sides}) == 1, (problem, line)
                    checked[problem.kind] += 1
    assert len(checked) > 50
    assert checked.total() > 2_500
