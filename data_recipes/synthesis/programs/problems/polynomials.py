"""Levels 4 and 5: polynomials."""

from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space
from data_recipes.synthesis.programs.problems.writing import bracketed, polynomial

UP_TO_9 = [number for number in range(-9, 10) if number]
UP_TO_5 = [number for number in range(-5, 6) if number]


class PolynomialValue(ProblemKind):
    """A cubic at a number; operands: the coefficients and the number."""

    name, level = "polynomial-value", 4
    spaces = (Space(UP_TO_9, range(-9, 10), range(-9, 10), range(-20, 21), [x for x in range(-6, 7) if x]),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        *coefficients, x = operands
        return {"polynomial": polynomial(coefficients), "x": x}

    def solve(self, operands: Operands) -> int:
        a, b, c, d, x = operands
        return ((a * x + b) * x + c) * x + d

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        *coefficients, x = operands
        steps, terms, power = [], [], 3
        for coefficient in coefficients[:3]:
            if coefficient:
                term = coefficient * x**power
                terms.append(term)
                written = bracketed(x) + (f"^{power}" if power > 1 else "")
                steps.append(f"{coefficient} × {written} = {term}")
            power -= 1
        if coefficients[3] or len(terms) < 1:
            terms.append(coefficients[3])
        result = sum(terms)
        if len(terms) > 1:
            steps.append(" + ".join(map(bracketed, terms)) + f" = {result}")
        return steps, result


class PolynomialProduct(ProblemKind):
    """(ax^2 + bx + c)(dx + e), written out; operands: the two lists of coefficients."""

    name, level = "polynomial-product", 5
    spaces = (
        Space(UP_TO_9, UP_TO_9, UP_TO_9, UP_TO_9, UP_TO_9),
        Space(UP_TO_5, UP_TO_9, UP_TO_9, UP_TO_5, UP_TO_9, UP_TO_9),
    )

    def operands(self, *values: int) -> Operands | None:
        if len(values) == 6 and values[:3] < values[3:]:
            return None
        return values[:3], values[3:]

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands))

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return operands if rng.random() < 0.5 else operands[::-1]

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"product": "".join([f"({polynomial(one)})" for one in operands])}

    def solve(self, operands: Operands) -> tuple[int, ...]:
        """As whole numbers: the product of the values at 10000, read off in digits from -5000 to 4999."""
        value = 1
        for coefficients in operands:
            at = 0
            for coefficient in coefficients:
                at = at * 10000 + coefficient
            value *= at
        digits = []
        for _ in range(sum(map(len, operands)) - 1):
            digit = (value + 5000) % 10000 - 5000
            digits.append(digit)
            value = (value - digit) // 10000
        return tuple(digits[::-1])

    def write(self, solution: Any, language: str) -> str:
        return polynomial(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], tuple[int, ...]]:
        one, other = operands
        total = [0] * (len(one) + len(other) - 1)
        steps = []
        second = polynomial(other)
        for place, coefficient in enumerate(one):
            row = [coefficient * factor for factor in other]
            power = len(one) - 1 - place
            for at, value in enumerate(row):
                total[place + at] += value
            times = polynomial((coefficient, *[0] * power))
            times = f"({times})" if coefficient < 0 else times
            steps.append(f"{times} × ({second}) = {polynomial([*row, *[0] * power])}")
        return steps, tuple(total)


class PolynomialRemainder(ProblemKind):
    """The quotient and remainder of a cubic divided by x - r; operands: the coefficients and r."""

    name, level = "polynomial-division", 5
    spaces = (Space(UP_TO_9, range(-12, 13), range(-12, 13), range(-30, 31), [r for r in range(-5, 6) if r]),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        *coefficients, r = operands
        return {"polynomial": polynomial(coefficients), "divisor": polynomial((1, -r))}

    def solve(self, operands: Operands) -> tuple[tuple[int, ...], int]:
        """The remainder is the value at r; the quotient that of P(x) - P(r) and x - r as whole numbers at 10^6."""
        a, b, c, d, r = operands
        rest = ((a * r + b) * r + c) * r + d
        base = 10**6
        value = ((a * base + b) * base + c) * base + d - rest
        value //= base - r
        last = (value + base // 2) % base - base // 2
        value = (value - last) // base
        middle = (value + base // 2) % base - base // 2
        return ((value - middle) // base, middle, last), rest

    def write(self, solution: Any, language: str) -> str:
        quotient, rest = solution
        if language == "en":
            return f"{polynomial(quotient)} remainder {rest}"
        return f"商{polynomial(quotient)}余{rest}"

    def work(self, operands: Operands, language: str) -> tuple[list[str], Any]:
        *coefficients, r = operands
        steps, row = [], [coefficients[0]]
        for coefficient in coefficients[1:]:
            following = coefficient + r * row[-1]
            steps.append(f"{coefficient} + {bracketed(r)} × {bracketed(row[-1])} = {following}")
            row.append(following)
        return steps, (tuple(row[:-1]), row[-1])


class DerivativeAt(ProblemKind):
    """The derivative of a cubic at a number; operands: the coefficients and the number."""

    name, level = "derivative-at", 5
    spaces = (Space(UP_TO_9, range(-9, 10), range(-9, 10), range(-9, 10), range(-9, 10)),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        *coefficients, x = operands
        return {"polynomial": polynomial(coefficients), "x": x}

    def solve(self, operands: Operands) -> int:
        """From differences: of a cubic, (f(x + 1) - f(x - 1)) / 2 is too large by the first coefficient."""
        a, b, c, _, x = operands
        up, down = x + 1, x - 1
        return (((a * up + b) * up + c) * up - ((a * down + b) * down + c) * down) // 2 - a

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b, c, _, x = operands
        result = 3 * a * x**2 + 2 * b * x + c
        at = " + ".join(
            [f"{bracketed(3 * a)} × {bracketed(x)}^2", *([f"{bracketed(2 * b)} × {bracketed(x)}"] if b else [])]
        )
        tail = f" + {bracketed(c)}" if c else ""
        return [f"f'(x) = {polynomial((3 * a, 2 * b, c))}", f"f'({x}) = {at}{tail} = {result}"], result


KINDS: list[ProblemKind] = [PolynomialValue(), PolynomialProduct(), PolynomialRemainder(), DerivativeAt()]
