"""Levels 4 and 5 of arithmetic: expressions with brackets, of whole numbers, with signs, and of fractions."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import gcd
from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space
from data_recipes.synthesis.programs.problems.arithmetic import TwoNumbers
from data_recipes.synthesis.programs.problems.exact_arithmetic import SMALL_FRACTIONS
from data_recipes.synthesis.programs.problems.writing import bracketed

SHAPES = {
    "({a} + {b}) × {c} - {d}": ("{a} + {b}", "{p} × {c} - {d}", "{p} × {c}", "{q} - {d}"),
    "{a} - {b} × ({c} - {d})": ("{c} - {d}", "{a} - {b} × {p}", "{b} × {p}", "{a} - {q}"),
    "({a} - {b}) × ({c} + {d})": ("{a} - {b}", "{p} × ({c} + {d})", "{c} + {d}", "{p} × {q}"),
    "{a} × {b} - {c} × {d}": ("{a} × {b}", "{p} - {c} × {d}", "{c} × {d}", "{p} - {q}"),
    "{a} × ({b} - {c}) + {d}": ("{b} - {c}", "{a} × {p} + {d}", "{a} × {p}", "{q} + {d}"),
    "{a} - ({b} + {c}) × {d}": ("{b} + {c}", "{a} - {p} × {d}", "{p} × {d}", "{a} - {q}"),
}


class Expression(TwoNumbers):
    """One of six shapes with four numbers."""

    name, level = "expression", 4
    spaces = (Space(range(len(SHAPES)), range(2, 41), range(2, 41), range(2, 41), range(2, 41)),)
    shapes = tuple(SHAPES)
    either_order: tuple[tuple[int, ...], ...] = ((1,), (), (3,), (1, 3), (), (2,))
    """For each shape the places of numbers that may change theirs with the next."""

    def operands(self, *values: int) -> Operands | None:
        return values if all(values[place] >= values[place + 1] for place in self.either_order[values[0]]) else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return self._ordered(operands, [rng.random() < 0.5 for _ in range(4)])

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *self._ordered(operands, [operands[place - 1] < operands[place] for place in (2, 3, 4, 0)]))

    def _ordered(self, operands: Operands, changed: list[bool]) -> Operands:
        """With the numbers at some places changed with the next, where it makes no difference."""
        ordered = list(operands)
        for place in self.either_order[operands[0]]:
            if changed[place - 1]:
                ordered[place], ordered[place + 1] = ordered[place + 1], ordered[place]
        return tuple(ordered)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        shape, a, b, c, d = operands
        return {"expression": self.shapes[shape].format(a=a, b=b, c=c, d=d)}

    def solve(self, operands: Operands) -> int:
        """Without brackets: every product by itself."""
        shape, a, b, c, d = operands
        return (
            a * c + b * c - d,
            a - b * c + b * d,
            a * c + a * d - b * c - b * d,
            a * b - c * d,
            a * b - a * c + d,
            a - b * d - c * d,
        )[shape]

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        shape, a, b, c, d = operands
        text = self.shapes[shape]
        p, q, result = (
            lambda: (a + b, (a + b) * c, (a + b) * c - d),
            lambda: (c - d, b * (c - d), a - b * (c - d)),
            lambda: (a - b, c + d, (a - b) * (c + d)),
            lambda: (a * b, c * d, a * b - c * d),
            lambda: (b - c, a * (b - c), a * (b - c) + d),
            lambda: (b + c, (b + c) * d, a - (b + c) * d),
        )[shape]()
        inner, rest, then, last = SHAPES[text]
        values = {"a": a, "b": b, "c": c, "d": d, "p": bracketed(p), "q": bracketed(q)}
        first = {**values, "q": q}
        return [
            f"{inner.format(**values)} = {p}",
            f"{text.format(**values)} = {rest.format(**values)}",
            f"{then.format(**values)} = {q}",
            f"{last.format(**(values if last[0] == '{' and last[1] != 'q' else first))} = {result}",
        ], result


# Shapes of expressions of five numbers: pairs to be joined by an operation.
TREES: tuple[Any, ...] = (
    (((0, 1), 2), (3, 4)),
    ((0, (1, 2)), (3, 4)),
    (0, ((1, 2), (3, 4))),
    ((0, 1), (2, (3, 4))),
    (((0, 1), (2, 3)), 4),
)
OPERATIONS = [signs for signs in product("+-×÷", repeat=4) if "÷" in signs and {"+", "-"} & set(signs)]


def signed_shape(tree: Any, signs: Iterator[str]) -> Any:
    """A shape with its operations, (operation, left, right, whether the order of the parts is yet to be settled), and
    its length: None where it stands for another, as the longer part of a sum or product comes first."""
    if isinstance(tree, int):
        return tree, 1
    left, right = (signed_shape(part, signs) for part in tree)
    sign = next(signs)
    if left is None or right is None or (sign in "+×" and left[1] < right[1]):
        return None
    is_tie = sign in "+×" and left[1] == right[1]
    return (sign, left[0], right[0], is_tie), left[1] + right[1]


SHAPES_WITH_SIGNS = [found[0] for tree in TREES for signs in OPERATIONS if (found := signed_shape(tree, iter(signs)))]


def build(shape: Any, numbers: tuple[int, ...]) -> Any:
    """A shape with its numbers; None where it stands for another, as the larger of two equally long parts of a sum or
    product comes first."""
    if isinstance(shape, int):
        return numbers[shape]
    sign, left, right, is_tie = shape
    one, other = build(left, numbers), build(right, numbers)
    if one is None or other is None or (is_tie and one < other):
        return None
    return sign, one, other


def standard(tree: Any) -> tuple[int, Any]:
    """Length and tree, with the longer and larger part of each sum and product first.

    Only parts of one or two numbers can be equally long here, so that trees of equal length can be compared.
    """
    if isinstance(tree, int):
        return 1, tree
    sign, left, right = tree
    one, other = standard(left), standard(right)
    if sign in "+×" and one < other:
        one, other = other, one
    return one[0] + other[0], (sign, one[1], other[1])


def written(tree: Any) -> str:
    if isinstance(tree, int):
        return str(tree)
    return f"({written(tree[1])} {tree[0]} {written(tree[2])})"


class NestedExpression(ProblemKind):
    """Four operations on five numbers; the operand is the tree."""

    name, level = "nested-expression", 5
    spaces = (Space(SHAPES_WITH_SIGNS, *[range(2, 13)] * 5),)

    def operands(self, shape: Any, *numbers: int) -> Operands | None:
        tree = build(shape, numbers)
        return (tree,) if tree is not None and value_of(tree)[1] else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return (self._turned(operands[0], rng),)

    def _turned(self, tree: Any, rng: Random) -> Any:
        if isinstance(tree, int):
            return tree
        sign, left, right = tree[0], self._turned(tree[1], rng), self._turned(tree[2], rng)
        return (sign, right, left) if sign in "+×" and rng.random() < 0.5 else (sign, left, right)

    def identity(self, operands: Operands) -> Operands:
        return (self.name, standard(operands[0])[1])

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"expression": written(operands[0])[1:-1]}

    def solve(self, operands: Operands) -> Fraction:
        """By numerators and denominators, reduced at the end."""
        return Fraction(*value_of(operands[0]))

    def work(self, operands: Operands, language: str) -> tuple[list[str], Any]:
        steps: list[str] = []
        return steps, self._reduce(operands[0], steps)

    def _reduce(self, tree: Any, steps: list[str]) -> int | Fraction:
        """Bracket by bracket, each result in lowest terms."""
        if isinstance(tree, int):
            return tree
        sign, left, right = tree
        one, other = self._reduce(left, steps), self._reduce(right, steps)
        value: int | Fraction
        if sign == "+":
            value = one + other
        elif sign == "-":
            value = one - other
        elif sign == "×":
            value = one * other
        else:
            value = Fraction(one, other)
        if value.denominator == 1:
            value = value.numerator
        steps.append(f"{bracketed(one)} {sign} {bracketed(other)} = {value}")
        return value


def value_of(tree: Any) -> tuple[int, int]:
    """Numerator and denominator; the latter is zero where something is divided by zero."""
    if isinstance(tree, int):
        return tree, 1
    sign, left, right = tree
    a, b = value_of(left)
    c, d = value_of(right)
    if sign == "+":
        return a * d + c * b, b * d
    if sign == "-":
        return a * d - c * b, b * d
    return (a * c, b * d) if sign == "×" else (a * d, b * c * (d != 0))


class FractionExpression(ProblemKind):
    """(a/b + c/d) × e/f, with - and ÷ as well; operands: three fractions and two signs."""

    name, level = "fraction-expression", 5
    spaces = (Space(SMALL_FRACTIONS, SMALL_FRACTIONS, SMALL_FRACTIONS, "+-", "×÷"),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        (a, b), (c, d), (e, f), one, other = operands
        return {"expression": f"({a}/{b} {one} {c}/{d}) {other} " + (f"({e}/{f})" if other == "÷" else f"{e}/{f}")}

    def identity(self, operands: Operands) -> Operands:
        first, second, third, one, other = operands
        if one == "+" and second < first:
            first, second = second, first
        return (self.name, first, second, third, one, other)

    def operands(self, *values: Any) -> Operands | None:
        return values if values[3] == "-" or values[0] <= values[1] else None

    def solve(self, operands: Operands) -> Fraction:
        """Each of the two products by itself, then their sum."""
        (a, b), (c, d), (e, f), one, other = operands
        if other == "÷":
            e, f = f, e
        first, second = Fraction(a * e, b * f), Fraction(c * e, d * f)
        return first + second if one == "+" else first - second

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        (a, b), (c, d), (e, f), one, other = operands
        common = b * d // gcd(b, d)
        left, right = a * (common // b), c * (common // d)
        top = left + right if one == "+" else left - right
        steps = [f"{a}/{b} {one} {c}/{d} = {left}/{common} {one} {right}/{common} = {top}/{common}"]
        if other == "÷":
            steps.append(
                f"Dividing by {e}/{f} is multiplying by {f}/{e}." if language == "en" else f"除以{e}/{f}就是乘{f}/{e}。"
            )
            e, f = f, e
        steps.append(f"{top}/{common} × {e}/{f} = {top * e}/{common * f}")
        factor = gcd(top * e, common * f)
        result = Fraction(top * e // factor, common * f // factor)
        if factor > 1:
            steps.append(f"{top * e}/{common * f} = {result}")
        return steps, result


KINDS: list[ProblemKind] = [Expression(), NestedExpression(), FractionExpression()]
