"""Levels 4 and 5 of arithmetic: long operations, decimals, fractions, signs, and expressions with brackets.

The first are the steps of the published subsets `dm_math` (facts.md, 4.8): sums and differences with their steps,
products, division with a remainder.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import gcd
from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space
from data_recipes.synthesis.programs.problems.arithmetic import Add, Divide, Multiply, Subtract, TwoNumbers, either_way
from data_recipes.synthesis.programs.problems.basic import numbers_of, shuffled
from data_recipes.synthesis.programs.problems.numbering import Subsets
from data_recipes.synthesis.programs.problems.writing import bracketed, decimal

SMALL_FRACTIONS = [(top, bottom) for bottom in range(2, 21) for top in range(1, 2 * bottom) if gcd(top, bottom) == 1]
SIGNED_FRACTIONS = [(sign * top, bottom) for top, bottom in SMALL_FRACTIONS for sign in (1, -1)]
NOT_ZERO = [number for number in range(-99, 100) if number]


class LongSum(Add):
    name, level = "long-sum", 4
    spaces = tuple(Space(numbers_of(digits), numbers_of(digits - less)) for digits in (6, 7, 8) for less in (0, 2))

    def operands(self, a: int, b: int) -> Operands | None:
        return (a, b) if a >= b else None

    def identity(self, operands: Operands) -> Operands:
        return ("add", min(operands), max(operands))


class LongDifference(Subtract):
    name, level = "long-difference", 4
    spaces = tuple(Space(numbers_of(digits), numbers_of(digits - less)) for digits in (6, 7) for less in (0, 1))

    def identity(self, operands: Operands) -> Operands:
        return ("subtract", *operands)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b = operands
        steps, result, borrowed, place = [], 0, 0, 1
        write, borrow = ("write", " and borrow 1") if language == "en" else ("写", "，借1")
        while a or b:
            one, other = a % 10 - borrowed, b % 10
            taken = f"{a % 10} - 1" if borrowed else f"{one}"
            borrowed = one < other
            digit = one - other + 10 * borrowed
            if language == "en":
                steps.append(f"{'10 + ' if borrowed else ''}{taken} - {other} = {digit}, {write} {digit}")
            else:
                steps.append(f"{'10 + ' if borrowed else ''}{taken} - {other} = {digit}，{write}{digit}")
            steps[-1] += (borrow if borrowed else "") + ("." if language == "en" else "。")
            result += digit * place
            place, a, b = place * 10, a // 10, b // 10
        return steps, result


class LongProduct(Multiply):
    name, level = "long-product", 4
    spaces = (
        Space(numbers_of(3), numbers_of(2)),
        Space(numbers_of(4), numbers_of(2)),
        Space(numbers_of(4), numbers_of(3)),
    )

    def identity(self, operands: Operands) -> Operands:
        return ("multiply", min(operands), max(operands))

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return either_way(operands, rng)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b = max(operands), min(operands)
        return super().work((b, a), language)


class LongDivision(Divide):
    name, level = "long-division", 4
    spaces = tuple(Space(numbers_of(digits), range(13, 100)) for digits in (4, 5, 6))

    def identity(self, operands: Operands) -> Operands:
        return ("divide", *operands)

    def work(self, operands: Operands, language: str) -> tuple[list[str], tuple[int, int]]:
        a, b = operands
        steps, quotient, rest = [], 0, 0
        for digit in str(a):
            rest = 10 * rest + int(digit)
            times = rest // b
            if times:
                steps.append(f"{rest} ÷ {b}: {times} × {b} = {times * b}, {rest} - {times * b} = {rest - times * b}")
            quotient, rest = 10 * quotient + times, rest - times * b
        return steps, (quotient, rest)

    def chance(self, operands: Operands) -> float:
        return 1 / (operands[1] * 10 ** len(str(operands[0] // operands[1])))


class DecimalSum(ProblemKind):
    """Operands: whole numbers a and b, decimal places of each, and the sign of b."""

    name, level = "decimal-sum", 4
    spaces = (Space(range(11, 10000), range(11, 10000), (1, 2, 3), (1, 2, 3), (1, -1)),)

    def operands(self, a: int, b: int, places: int, other: int, sign: int) -> Operands | None:
        if a % 10 == 0 or b % 10 == 0 or (sign > 0 and (a, places) < (b, other)):
            return None
        return a, places, b, other, sign

    def identity(self, operands: Operands) -> Operands:
        a, places, b, other, sign = operands
        if sign > 0:
            return (self.name, *max((a, places), (b, other)), *min((a, places), (b, other)), sign)
        return (self.name, *operands)

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        a, places, b, other, sign = operands
        return (b, other, a, places, sign) if sign > 0 and rng.random() < 0.5 else operands

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        a, places, b, other, sign = operands
        return {"expression": f"{decimal(a, places)} {'+' if sign > 0 else '-'} {decimal(b, other)}"}

    def solve(self, operands: Operands) -> int:
        """In thousandths."""
        a, places, b, other, sign = operands
        return a * 10 ** (3 - places) + sign * b * 10 ** (3 - other)

    def write(self, solution: Any, language: str) -> str:
        return decimal(solution, 3)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, places, b, other, sign = operands
        most = max(places, other)
        one, two = a * 10 ** (most - places), b * 10 ** (most - other)
        result = one + two if sign > 0 else one - two
        mark = "+" if sign > 0 else "-"
        if language == "en":
            steps = [
                f"With {most} decimal place{'s' * (most > 1)} each, without the point: {one} {mark} {two} = {result}"
            ]
            steps.append(f"Put the point back: {decimal(result, most)}")
        else:
            steps = [f"都写成{most}位小数，去掉小数点：{one} {mark} {two} = {result}"]
            steps.append(f"点上小数点：{decimal(result, most)}")
        return steps, result * 10 ** (3 - most)


class DecimalProduct(ProblemKind):
    """Operands: whole numbers a and b, and decimal places of each."""

    name, level = "decimal-product", 4
    spaces = (Space(range(11, 1000), range(2, 100), (1, 2), (1, 2)),)

    def operands(self, a: int, b: int, places: int, other: int) -> Operands | None:
        return (a, places, b, other) if a % 10 and b % 10 and (a, places) >= (b, other) else None

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *max(operands[:2], operands[2:]), *min(operands[:2], operands[2:]))

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return operands[2:] + operands[:2] if rng.random() < 0.5 else operands

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        a, places, b, other = operands
        return {"a": decimal(a, places), "b": decimal(b, other)}

    def solve(self, operands: Operands) -> Fraction:
        a, places, b, other = operands
        return Fraction(a * b, 10 ** (places + other))

    def write(self, solution: Any, language: str) -> str:
        return decimal(solution.numerator * (10000 // solution.denominator), 4)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        a, places, b, other = operands
        if a < b:
            a, b = b, a
        tens, ones = b - b % 10, b % 10
        parts = [part for part in (tens, ones) if part]
        steps = [f"{a} × {part} = {a * part}" for part in parts]
        whole = sum(a * part for part in parts)
        if len(parts) > 1:
            steps.append(" + ".join(str(a * part) for part in parts) + f" = {whole}")
        count, text = places + other, decimal(whole, places + other)
        steps.append(f"{count} decimal places in all: {text}" if language == "en" else f"一共{count}位小数：{text}")
        return steps, Fraction(whole, 10**count)


class SignedSum(ProblemKind):
    """Three or four whole numbers, some negative, added and subtracted; operands: pairs of a sign and a number."""

    name, level = "signed-sum", 4
    spaces = (Space(Subsets(len(NOT_ZERO), 3)), Space(Subsets(len(NOT_ZERO), 4)))

    def operands(self, places: tuple[int, ...]) -> Operands:
        return tuple([(1, NOT_ZERO[place]) for place in places])

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        (_, first), *rest = shuffled(operands, rng)
        return ((1, first), *[(1, number) if rng.random() < 0.5 else (-1, -number) for _, number in rest])

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted([sign * number for sign, number in operands]))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        (_, first), *rest = operands
        text = "".join([f" {'+' if sign > 0 else '-'} {bracketed(number)}" for sign, number in rest])
        return {"expression": f"{first}{text}"}

    def solve(self, operands: Operands) -> int:
        return sum([sign * number for sign, number in operands])

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        steps, sums = [], []
        heads = ("What is added: ", "What is taken away: ") if language == "en" else ("要加的：", "要减的：")
        for head, side in zip(heads, (1, -1), strict=True):
            parts = [abs(number) for sign, number in operands if sign * number * side > 0]
            sums.append(sum(parts))
            if parts:
                steps.append(head + " + ".join(map(str, parts)) + (f" = {sums[-1]}" if len(parts) > 1 else ""))
        steps.append(f"{sums[0]} - {sums[1]} = {sums[0] - sums[1]}")
        return steps, sums[0] - sums[1]


class FractionProduct(TwoNumbers):
    """a/b × c/d, or a/b ÷ c/d; operands are a, b, c, d and the sign."""

    name, level = "fraction-product", 4
    spaces = (Space(SMALL_FRACTIONS, SIGNED_FRACTIONS, "×÷"),)

    def operands(self, one: tuple[int, int], other: tuple[int, int], sign: str) -> Operands | None:
        return (*one, *other, sign) if sign == "÷" or one >= (abs(other[0]), other[1]) else None

    def identity(self, operands: Operands) -> Operands:
        one, other, sign = operands[:2], operands[2:4], operands[4]
        if sign == "×" and other > one:
            one, other = other, one
        return (self.name, *one, *other, sign)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        a, b, c, d, sign = operands
        return {"expression": f"{a}/{b} {sign} " + (f"({c}/{d})" if c < 0 or sign == "÷" else f"{c}/{d}")}

    def solve(self, operands: Operands) -> Fraction:
        a, b, c, d, sign = operands
        return Fraction(a, b) * Fraction(c, d) if sign == "×" else Fraction(a, b) / Fraction(c, d)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        a, b, c, d, sign = operands
        steps = []
        if sign == "÷":
            c, d = (d, c) if c > 0 else (-d, -c)
            steps.append(
                f"{a}/{b} ÷ ({operands[2]}/{operands[3]}) = {a}/{b} × " + (f"({c}/{d})" if c < 0 else f"{c}/{d}")
            )
        first, second = gcd(a, d), gcd(c, b)
        top, bottom = (a // first) * (c // second), (b // second) * (d // first)
        steps.append(f"({a} × {bracketed(c)})/({b} × {d}) = {a * c}/{b * d}")
        if first * second > 1:
            steps.append(f"{a * c}/{b * d} = {top}/{bottom}" if bottom > 1 else f"{a * c}/{b * d} = {top}")
        return steps, Fraction(top, bottom)


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


KINDS: list[ProblemKind] = [
    LongSum(),
    LongDifference(),
    LongProduct(),
    LongDivision(),
    DecimalSum(),
    DecimalProduct(),
    SignedSum(),
    FractionProduct(),
    Expression(),
    NestedExpression(),
    FractionExpression(),
]
