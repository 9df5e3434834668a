"""Levels 4 and 5: sequences by their rule, and the rule's terms and sums."""

from itertools import pairwise
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space
from data_recipes.synthesis.programs.problems.basic import join
from data_recipes.synthesis.programs.problems.writing import bracketed

STEPS = [step for step in range(-25, 26) if abs(step) > 1]
RATIOS = [-5, -4, -3, -2, 2, 3, 4, 5, 6]
SHOWN = 4


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def shown(terms: list[int], language: str) -> str:
    return join(terms, language)


class ArithmeticTerm(ProblemKind):
    """The nth term; operands: first term, difference, n."""

    name, level = "arithmetic-term", 4
    spaces = (Space(range(-99, 100), STEPS, range(8, 120)),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        first, step, n = operands
        terms = [first + step * index for index in range(SHOWN)]
        return {"terms": shown(terms, language), "n": n, "nth": ordinal(n)}

    def solve(self, operands: Operands) -> int:
        """Back from the (n + 1)th term of the sequence that starts one earlier."""
        first, step, n = operands
        return range(first - step, first + (n + 1) * step, step)[n]

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        first, step, n = operands
        result = first + (n - 1) * step
        head = f"Common difference: {step}" if language == "en" else f"公差：{step}"
        return [head, f"{first} + ({n} - 1) × {bracketed(step)} = {result}"], result


class ArithmeticSum(ArithmeticTerm):
    """The sum of the first n terms."""

    name, level = "arithmetic-sum", 4
    spaces = (Space(range(-99, 100), STEPS, range(8, 61)),)

    def solve(self, operands: Operands) -> int:
        first, step, n = operands
        return sum(range(first, first + n * step, step))

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        first, step, n = operands
        last = first + (n - 1) * step
        result = n * (first + last) // 2
        head = f"{ordinal(n)} term: " if language == "en" else f"第{n}项："
        return [
            f"{head}{first} + ({n} - 1) × {bracketed(step)} = {last}",
            f"{n} × ({first} + {bracketed(last)}) ÷ 2 = {result}",
        ], result


class GeometricTerm(ProblemKind):
    """The nth term; operands: first term, ratio, n."""

    name, level = "geometric-term", 4
    spaces = (Space([first for first in range(-40, 41) if first], RATIOS, range(5, 9)),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        first, ratio, n = operands
        terms = [first * ratio**index for index in range(SHOWN)]
        return {"terms": shown(terms, language), "n": n, "nth": ordinal(n)}

    def solve(self, operands: Operands) -> int:
        first, ratio, n = operands
        return first * ratio ** (n - 1)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        first, ratio, n = operands
        terms = [first]
        for _ in range(n - 1):
            terms.append(terms[-1] * ratio)
        head = f"Common ratio: {ratio}" if language == "en" else f"公比：{ratio}"
        lines = [f"{term} × {bracketed(ratio)} = {following}" for term, following in pairwise(terms)]
        return [head, *lines[SHOWN - 1 :]], terms[-1]


class GeometricSum(GeometricTerm):
    """The sum of the first n terms."""

    name, level = "geometric-sum", 5
    spaces = (Space([first for first in range(-1200, 1201) if first], RATIOS, range(5, 10)),)

    def solve(self, operands: Operands) -> int:
        first, ratio, n = operands
        total = 0
        for _ in range(n):
            total = total * ratio + first
        return total

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        first, ratio, n = operands
        power = ratio**n
        result = first * (power - 1) // (ratio - 1)
        return [
            f"{bracketed(ratio)}^{n} = {power}",
            f"{first} × ({power} - 1) ÷ ({ratio} - 1) = {first * (power - 1)} ÷ {bracketed(ratio - 1)} = {result}",
        ], result


class SecondDifferences(ProblemKind):
    """The next of five terms of a quadratic sequence; operands: first term, first difference, second difference."""

    name, level = "second-differences", 4
    spaces = (Space(range(-40, 100), range(-20, 31), [step for step in range(-9, 10) if step]),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"terms": shown([self._term(operands, index) for index in range(5)], language)}

    def _term(self, operands: Operands, index: int) -> int:
        first, step, second = operands
        return first + index * step + second * index * (index - 1) // 2

    def solve(self, operands: Operands) -> int:
        return self._term(operands, 5)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        first, step, second = operands
        differences = [step + second * index for index in range(5)]
        last = first + sum(differences[:4])
        result = last + differences[4]
        one, two = ("Differences: ", "They change by ") if language == "en" else ("相邻两项的差：", "差每次变化")
        ending = "." if language == "en" else "。"
        return [
            f"{one}{join(differences[:4], language)}{ending}",
            f"{two}{second}{ending}",
            f"{last} + {bracketed(differences[4])} = {result}",
        ], result


class LinearRecurrence(ProblemKind):
    """u(n + 1) = p u(n) + q; operands: p, q, the first term, n."""

    name, level = "linear-recurrence", 5
    spaces = (Space(RATIOS, [q for q in range(-30, 31) if q], range(-30, 31), range(4, 9)),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        p, q, first, n = operands
        return {"rule": f"u(n + 1) = {p}u(n) {'+' if q > 0 else '-'} {abs(q)}", "first": first, "n": n}

    def solve(self, operands: Operands) -> int:
        """In closed form: the distance from where the sequence would stand still grows p-fold."""
        p, q, first, n = operands
        power = p ** (n - 1)
        return power * first + q * (power - 1) // (p - 1)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        p, q, term, n = operands
        steps = []
        for index in range(2, n + 1):
            following = p * term + q
            steps.append(f"u({index}) = {p} × {bracketed(term)} {'+' if q > 0 else '-'} {abs(q)} = {following}")
            term = following
        return steps, term


class SecondRecurrence(ProblemKind):
    """u(n + 2) = p u(n + 1) + q u(n); operands: p, q, the first two terms, n."""

    name, level = "second-recurrence", 5
    spaces = (Space([1, 2, 3, -1, -2], [q for q in range(-5, 6) if q], range(-12, 13), range(-12, 13), range(5, 9)),)

    def operands(self, p: int, q: int, first: int, second: int, n: int) -> Operands | None:
        return (p, q, first, second, n) if first or second else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        p, q, first, second, n = operands
        one = {1: "", -1: "-"}.get(p, str(p))
        other = "" if abs(q) == 1 else str(abs(q))
        rule = f"u(n + 2) = {one}u(n + 1) {'+' if q > 0 else '-'} {other}u(n)"
        return {"rule": rule, "first": first, "second": second, "n": n}

    def solve(self, operands: Operands) -> int:
        """By powers of the matrix [[p, q], [1, 0]]."""
        p, q, first, second, n = operands
        a, b, c, d = 1, 0, 0, 1
        e, f, g, h = p, q, 1, 0
        power = n - 2
        while power:
            if power & 1:
                a, b, c, d = a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h
            e, f, g, h = e * e + f * g, e * f + f * h, g * e + h * g, g * f + h * h
            power >>= 1
        return a * second + b * first

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        p, q, before, term, n = operands
        steps = []
        for index in range(3, n + 1):
            following = p * term + q * before
            steps.append(f"u({index}) = {p} × {bracketed(term)} + {bracketed(q)} × {bracketed(before)} = {following}")
            before, term = term, following
        return steps, term


class SumOfPowers(ProblemKind):
    """The sum of k^2 or k^3 from m to n; operands: the power, m, n."""

    name, level = "sum-of-powers", 5
    spaces = (Space((2, 3), range(2, 400), range(4, 60)),)

    def operands(self, power: int, m: int, count: int) -> Operands:
        return power, m, m + count

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        power, m, n = operands
        return {"sum": f"{m}^{power} + {m + 1}^{power} + ... + {n}^{power}"}

    def solve(self, operands: Operands) -> int:
        power, m, n = operands
        return sum([k * k for k in range(m, n + 1)]) if power == 2 else sum([k * k * k for k in range(m, n + 1)])

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        power, m, n = operands
        steps, sums = [], []
        for last in (n, m - 1):
            if power == 2:
                total = last * (last + 1) * (2 * last + 1) // 6
                formula = f"{last} × {last + 1} × {2 * last + 1} ÷ 6"
            else:
                total = (last * (last + 1) // 2) ** 2
                formula = f"({last} × {last + 1} ÷ 2)^2"
            sums.append(total)
            steps.append(f"1^{power} + ... + {last}^{power} = {formula} = {total}" if last > 1 else f"1^{power} = 1")
        steps.append(f"{sums[0]} - {sums[1]} = {sums[0] - sums[1]}")
        return steps, sums[0] - sums[1]


KINDS: list[ProblemKind] = [
    ArithmeticTerm(),
    ArithmeticSum(),
    GeometricTerm(),
    SecondDifferences(),
    GeometricSum(),
    LinearRecurrence(),
    SecondRecurrence(),
    SumOfPowers(),
]
