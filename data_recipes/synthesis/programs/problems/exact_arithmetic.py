"""Levels 4 and 5 of arithmetic: long operations, decimals, fractions, signs.

The first are the steps of the published subsets `dm_math` (facts.md, 4.8): sums and differences with their steps,
products, division with a remainder.
"""

from fractions import Fraction
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


KINDS: list[ProblemKind] = [
    LongSum(),
    LongDifference(),
    LongProduct(),
    LongDivision(),
    DecimalSum(),
    DecimalProduct(),
    SignedSum(),
    FractionProduct(),
]
