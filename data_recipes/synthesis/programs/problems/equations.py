"""Levels 4 and 5: equations, and systems of them."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import gcd, isqrt
from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space
from data_recipes.synthesis.programs.problems.basic import shuffled
from data_recipes.synthesis.programs.problems.numbering import Subsets
from data_recipes.synthesis.programs.problems.writing import bracketed, linear, polynomial

UP_TO_9 = [number for number in range(-9, 10) if number]
UP_TO_5 = [number for number in range(-5, 6) if number]
UP_TO_12 = range(-12, 13)
PAIRS = list(product(UP_TO_9, repeat=2))
TRIPLES = list(product(UP_TO_5, repeat=3))
OR = {"en": " or ", "zh": "或"}


def unknowns(values: Any) -> str:
    """x = 1, y = 2."""
    return ", ".join([f"{name} = {value}" for name, value in zip("xyz", values, strict=False)])


class BothSides(ProblemKind):
    """ax + b = cx + d; operands are a, b, c, d."""

    name, level = "linear-both-sides", 4
    spaces = (Space(UP_TO_9, range(-40, 41), UP_TO_9, range(-20, 21)),)

    def operands(self, a: int, b: int, c: int, x: int) -> Operands | None:
        return (a, b, c, (a - c) * x + b) if a > c else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        a, b, c, d = operands
        return operands if rng.random() < 0.5 else (c, d, a, b)

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *max(operands[:2], operands[2:]), *min(operands[:2], operands[2:]))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        a, b, c, d = operands
        return {"equation": f"{polynomial((a, b))} = {polynomial((c, d))}"}

    def solve(self, operands: Operands) -> int:
        a, b, c, d = operands
        return (d - b) // (a - c)

    def write(self, solution: Any, language: str) -> str:
        return f"x = {solution}"

    def work(self, operands: Operands, language: str) -> tuple[list[str], int | None]:
        a, b, c, d = operands
        times, rest = a - c, d - b
        steps = [f"{linear((a,))} - {bracketed(c)}x = {d} - {bracketed(b)}", f"{linear((times,))} = {rest}"]
        x = int(Fraction(rest, times))
        if times != 1:
            steps.append(f"x = {rest} ÷ {bracketed(times)} = {x}")
        left, right = a * x + b, c * x + d
        say = "Check: both sides are" if language == "en" else "检验：两边都等于"
        steps.append(f"{say}{' ' if language == 'en' else ''}{left}{'.' if language == 'en' else '。'}")
        return steps, x if left == right else None


class Brackets(ProblemKind):
    """a(x + b) + c(x + d) = e; operands are a, b, c, d, e."""

    name, level = "linear-brackets", 5
    spaces = (Space(range(2, 13), UP_TO_9, UP_TO_9, UP_TO_9, range(-30, 31)),)

    def operands(self, a: int, b: int, c: int, d: int, e: int) -> Operands | None:
        if a + c == 0 or abs(c) == 1 or (c > 0 and (a, b) < (c, d)):
            return None
        return a, b, c, d, e

    def identity(self, operands: Operands) -> Operands:
        a, b, c, d, e = operands
        return (self.name, *max((a, b), (c, d)), *min((a, b), (c, d)), e)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        a, b, c, d, e = operands
        sign = "+" if c > 0 else "-"
        return {"equation": f"{a}({polynomial((1, b))}) {sign} {abs(c)}({polynomial((1, d))}) = {e}"}

    def solve(self, operands: Operands) -> Fraction:
        a, b, c, d, e = operands
        return Fraction(e - a * b - c * d, a + c)

    def write(self, solution: Any, language: str) -> str:
        return f"x = {solution}"

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction | None]:
        a, b, c, d, e = operands
        first, second = a * b, c * d
        third, fourth = linear((a, c), "xx"), f"{'+' if first > 0 else '-'} {abs(first)}"
        times, rest = a + c, e - (first + second)
        plus = f"{'+' if c > 0 else '-'} {abs(c)}x {'+' if second > 0 else '-'} {abs(second)}"
        steps = [f"{a}x {fourth} {plus} = {e}"]
        steps.append(f"{third} = {e} - {bracketed(first + second)}")
        steps.append(f"{linear((times,))} = {rest}")
        x = Fraction(rest, times)
        if times != 1:
            steps.append(f"x = {x}")
        # The equation holds for x = p/q where it does with everything taken q times.
        p, q = x.numerator, x.denominator
        return steps, x if a * (p + b * q) + c * (p + d * q) == e * q else None


class TwoEquations(ProblemKind):
    """ax + by = c, dx + ey = f; the operands are the two rows."""

    name, level = "two-equations", 4
    spaces = (Space(Subsets(len(PAIRS), 2), UP_TO_12, UP_TO_12),)

    def operands(self, rows: tuple[int, int], x: int, y: int) -> Operands | None:
        (a, b), (d, e) = PAIRS[rows[0]], PAIRS[rows[1]]
        return None if a * e == b * d else ((a, b, a * x + b * y), (d, e, d * x + e * y))

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return operands if rng.random() < 0.5 else operands[::-1]

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        one, other = (f"{linear(row[:2])} = {row[2]}" for row in operands)
        return {"one": one, "other": other}

    def solve(self, operands: Operands) -> tuple[int, int]:
        (a, b, c), (d, e, f) = operands
        whole = a * e - b * d
        return (c * e - b * f) // whole, (a * f - c * d) // whole

    def write(self, solution: Any, language: str) -> str:
        return unknowns(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Any]:
        (a, b, c), (d, e, f) = operands
        factor = gcd(b, e)
        first, second = e // factor, b // factor
        left, right = a * first - d * second, c * first - f * second
        one, other, colon = ("(1)", "(2)", ": ") if language == "en" else ("①", "②", "：")
        steps = [f"{first} × {one} - {bracketed(second)} × {other}{colon}{linear((left,))} = {right}"]
        x = int(Fraction(right, left))
        y = int(Fraction(c - a * x, b))
        steps.append(f"x = {x}")
        steps.append(f"{linear((b,), 'y')} = {c} - {bracketed(a)} × {bracketed(x)} = {c - a * x}, y = {y}")
        return steps, (x, y) if d * x + e * y == f else None


class ThreeEquations(ProblemKind):
    """Three equations with three unknowns; the operands are the rows."""

    name, level = "three-equations", 5
    spaces = (Space(Subsets(len(TRIPLES), 3), *[range(-9, 10)] * 3),)

    def operands(self, rows: tuple[int, int, int], x: int, y: int, z: int) -> Operands | None:
        (a, b, c), (d, e, f), (g, h, i) = (TRIPLES[row] for row in rows)
        if a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) == 0:
            return None
        return (
            (a, b, c, a * x + b * y + c * z),
            (d, e, f, d * x + e * y + f * z),
            (g, h, i, g * x + h * y + i * z),
        )

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return shuffled(operands, rng)

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        one, two, three = (f"{linear(row[:3])} = {row[3]}" for row in operands)
        return {"one": one, "two": two, "three": three}

    def solve(self, operands: Operands) -> tuple[int, ...]:
        """Cramer's rule, by expanding along the first column."""
        (a, b, c, p), (d, e, f, q), (g, h, i, r) = operands
        first, second, third = e * i - f * h, c * h - b * i, b * f - c * e
        whole = a * first + d * second + g * third
        return (
            (p * first + q * second + r * third) // whole,
            (a * (q * i - f * r) - p * (d * i - f * g) + c * (d * r - q * g)) // whole,
            (a * (e * r - q * h) - b * (d * r - q * g) + p * (d * h - e * g)) // whole,
        )

    def write(self, solution: Any, language: str) -> str:
        return unknowns(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Any]:
        (a, b, c, p), *others = operands
        marks = ("(2)", "(3)", "(1)") if language == "en" else ("②", "③", "①")
        colon = ": " if language == "en" else "："
        steps, two = [], []
        for mark, (d, e, f, q) in zip(marks, others, strict=False):
            factor = gcd(a, d)
            keep, take = a // factor, d // factor
            row = (keep * e - take * b, keep * f - take * c, keep * q - take * p)
            two.append(row)
            steps.append(f"{keep} × {mark} - {bracketed(take)} × {marks[2]}{colon}{linear(row[:2], 'yz')} = {row[2]}")
        (e, f, q), (h, i, r) = two
        if not e:
            (e, f, q), (h, i, r) = (h, i, r), (e, f, q)
        left, right = e * i - h * f, e * r - h * q
        z = int(Fraction(right, left))
        y = int(Fraction(q - f * z, e))
        x = int(Fraction(p - b * y - c * z, a))
        steps.append(f"{linear((left,), 'z')} = {right}, z = {z}")
        steps.append(f"{linear((e,), 'y')} = {q} - {bracketed(f)} × {bracketed(z)} = {q - f * z}, y = {y}")
        rest = p - b * y - c * z
        taken = f"{bracketed(b)} × {bracketed(y)} - {bracketed(c)} × {bracketed(z)}"
        steps.append(f"{linear((a,))} = {p} - {taken} = {rest}, x = {x}")
        return steps, (x, y, z)


class QuadraticEquation(ProblemKind):
    """ax^2 + bx + c = 0 with exact roots; operands are a, b, c."""

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"equation": f"{polynomial(operands)} = 0"}

    def solve(self, operands: Operands) -> tuple[Fraction, ...]:
        """By the formula."""
        a, b, c = operands
        root = isqrt(b * b - 4 * a * c)
        return tuple(sorted((Fraction(-b - root, 2 * a), Fraction(-b + root, 2 * a))))

    def write(self, solution: Any, language: str) -> str:
        return OR[language].join([f"x = {root}" for root in solution])

    def work(self, operands: Operands, language: str) -> tuple[list[str], Any]:
        """By splitting the middle term: two numbers with sum b and product ac."""
        a, b, c = operands
        goal = a * c
        u, v = next((u, v) for u, v in splits(goal, b) if u + v == b)
        if language == "en":
            steps = [f"{u} + {bracketed(v)} = {b} and {u} × {bracketed(v)} = {goal}"]
        else:
            steps = [f"{u} + {bracketed(v)} = {b}，{u} × {bracketed(v)} = {goal}"]
        left = gcd(a, u)
        first = (a // left, u // left)
        second = (a // first[0], c // first[1] if first[1] else v // first[0])
        steps.append(f"({polynomial(first)})({polynomial(second)}) = 0")
        return steps, tuple(sorted((Fraction(-first[1], first[0]), Fraction(-second[1], second[0]))))


def splits(goal: int, total: int) -> Iterator[tuple[int, int]]:
    """Pairs of whole numbers with a product; of those with the product 0, the one with a sum."""
    if not goal:
        yield total, 0
    for size in range(1, isqrt(abs(goal)) + 1):
        if goal % size == 0:
            yield size, goal // size
            yield -size, -goal // size


class Quadratic(QuadraticEquation):
    """With whole roots and a = 1."""

    name, level = "quadratic", 4
    spaces = (Space(Subsets(199, 2)),)

    def operands(self, roots: tuple[int, int]) -> Operands:
        one, other = roots[0] - 99, roots[1] - 99
        return 1, -one - other, one * other


# The factors mx + k that are no multiples of others.
FACTORS = [(m, k) for m in range(1, 14) for k in range(-25, 26) if gcd(m, k) == 1]


class GeneralQuadratic(QuadraticEquation):
    """Of two factors with whole coefficients."""

    name, level = "general-quadratic", 5
    spaces = (Space(Subsets(len(FACTORS), 2)),)

    def operands(self, pair: tuple[int, int]) -> Operands | None:
        (m, k), (n, j) = FACTORS[pair[0]], FACTORS[pair[1]]
        return (m * n, m * j + n * k, k * j) if m * n > 1 else None


class RootsOf(ProblemKind):
    """The sum of the squares of the roots of ax^2 + bx + c = 0, or of their reciprocals, or the square of their
    difference; operands: a, b, c and which of these."""

    name, level = "sums-of-roots", 5
    spaces = (Space(range(1, 21), range(-40, 41), [number for number in range(-40, 41) if number], range(3)),)
    asked = ("r^2 + s^2", "1/r + 1/s", "(r - s)^2")

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"equation": f"{polynomial(operands[:3])} = 0", "asked": self.asked[operands[3]]}

    def solve(self, operands: Operands) -> Fraction:
        a, b, c, which = operands
        if which == 0:
            return Fraction(b * b - 2 * a * c, a * a)
        return Fraction(-b, c) if which == 1 else Fraction(b * b - 4 * a * c, a * a)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        a, b, c, which = operands
        total, times = Fraction(-b, a), Fraction(c, a)
        steps = [f"r + s = {total}, rs = {times}"]
        if which == 1:
            result = total / times
            steps.append(f"1/r + 1/s = (r + s)/(rs) = {bracketed(total)} ÷ {bracketed(times)} = {result}")
            return steps, result
        how_many = 2 if which == 0 else 4
        square = total * total
        result = square - how_many * times
        numbers = f"{square} - {how_many} × {bracketed(times)}"
        steps.append(f"{self.asked[which]} = (r + s)^2 - {how_many}rs = {numbers} = {result}")
        return steps, result


KINDS: list[ProblemKind] = [
    BothSides(),
    TwoEquations(),
    Quadratic(),
    Brackets(),
    ThreeEquations(),
    GeneralQuadratic(),
    RootsOf(),
]
