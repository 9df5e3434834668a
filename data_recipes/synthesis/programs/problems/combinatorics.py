"""Levels 4 and 5: counting and probability."""

from fractions import Fraction
from itertools import product
from math import comb, factorial, gcd, perm
from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space
from data_recipes.synthesis.programs.problems.numbering import Subsets


def chosen(n: int, k: int) -> tuple[str, int]:
    """C(n, k) = 5 × 4 ÷ (2 × 1), and its value."""
    top = bottom = 1
    for index in range(k):
        top, bottom = top * (n - index), bottom * (index + 1)
    upper = " × ".join([str(n - index) for index in range(k)])
    lower = " × ".join([str(k - index) for index in range(k)])
    value = top // bottom
    if k == 0:
        return f"C({n}, 0) = 1", value
    return f"C({n}, {k}) = {upper} ÷ ({lower}) = {value}" if k > 1 else f"C({n}, 1) = {n}", value


COLOURS = {"en": ("red", "blue", "green", "white"), "zh": ("红", "蓝", "绿", "白")}


class Choose(ProblemKind):
    """Which k of n, or in which order too; operands: n, k, whether order counts."""

    name, level = "choose", 4
    spaces = (Space(range(6, 80), range(2, 6), (True, False)),)

    def operands(self, n: int, k: int, ordered: bool) -> Operands | None:
        return (n, k, ordered) if k < n - 1 else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        n, k, ordered = operands
        words = {"en": ("The order does not matter", "The order matters"), "zh": ("不考虑顺序", "考虑顺序")}
        return {"n": n, "k": k, "order": words[language][ordered]}

    def solve(self, operands: Operands) -> int:
        n, k, ordered = operands
        return perm(n, k) if ordered else comb(n, k)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        n, k, ordered = operands
        if not ordered:
            step, value = chosen(n, k)
            return [step], value
        value = 1
        for index in range(k):
            value *= n - index
        return [f"{' × '.join([str(n - index) for index in range(k)])} = {value}"], value


class Arrange(ProblemKind):
    """Flags of several colours in a row; operands: how many of each."""

    name, level = "arrangements", 4
    spaces = (
        Space(*[range(2, 9)] * 3),
        Space(*[range(2, 8)] * 4),
    )

    def operands(self, *counts: int) -> Operands | None:
        return counts if sum(counts) <= 16 and counts == tuple(sorted(counts, reverse=True)) else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return tuple(rng.sample(operands, len(operands)))

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        colours = COLOURS[language]
        if language == "en":
            parts = [f"{count} {colour}" for count, colour in zip(operands, colours, strict=False)]
            return {"flags": f"{', '.join(parts[:-1])} and {parts[-1]}"}
        return {"flags": "、".join([f"{count}面{colour}旗" for count, colour in zip(operands, colours, strict=False)])}

    def solve(self, operands: Operands) -> int:
        """Colour by colour: the places for it among those that are left."""
        left, ways = sum(operands), 1
        for count in operands:
            ways *= comb(left, count)
            left -= count
        return ways

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        total = factorial(sum(operands))
        same = 1
        for count in operands:
            same *= factorial(count)
        below = " × ".join([f"{count}!" for count in operands])
        return [
            f"{' + '.join(map(str, operands))} = {sum(operands)}",
            f"{sum(operands)}! ÷ ({below}) = {total} ÷ {same} = {total // same}",
        ], total // same


class Dice(ProblemKind):
    """The sum of two dice with any number of faces; operands: the faces of each, the sum."""

    name, level = "dice", 4
    spaces = (Space(range(4, 21), range(4, 21), range(2, 41)),)

    def operands(self, one: int, other: int, total: int) -> Operands | None:
        return (one, other, total) if one >= other and total <= one + other else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return dict(zip(("one", "other", "sum"), operands, strict=True))

    def solve(self, operands: Operands) -> Fraction:
        one, other, total = operands
        ways = sum([total - face <= other for face in range(1, min(one, total - 1) + 1)])
        return Fraction(ways, one * other)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        one, other, total = operands
        low, high = max(1, total - other), min(one, total - 1)
        ways = high - low + 1
        result = Fraction(ways, one * other)
        if language == "en":
            shows = f"from {low} to {high}" if ways > 1 else str(low)
            steps = [f"The first die shows {shows}, which is {ways} way{'s' * (ways > 1)}; the second is then fixed."]
            steps.append(f"{ways} ÷ ({one} × {other}) = {result}")
        else:
            shows = f"{low}到{high}" if ways > 1 else str(low)
            steps = [f"第一个骰子可以是{shows}，共{ways}种，第二个随之确定。", f"{ways} ÷ ({one} × {other}) = {result}"]
        return steps, result


class Paths(ProblemKind):
    """Shortest ways on a grid, through a point; operands: right and up to the point, and from there."""

    name, level = "grid-paths", 4
    spaces = (Space(*[range(1, 10)] * 4),)

    def operands(self, a: int, b: int, c: int, d: int) -> Operands | None:
        return (a, b, c, d) if a + b > 2 and c + d > 2 else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        a, b, c, d = operands
        return {"a": a, "b": b, "x": a + c, "y": b + d}

    def solve(self, operands: Operands) -> int:
        a, b, c, d = operands
        return comb(a + b, a) * comb(c + d, c)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b, c, d = operands
        (first, one), (second, other) = (chosen(p + q, min(p, q)) for p, q in ((a, b), (c, d)))
        if (a, b) == (c, d):
            return [first, f"{one} × {one} = {one * one}"], one * one
        return [first, second, f"{one} × {other} = {one * other}"], one * other


class Committee(ProblemKind):
    """So many of each of three groups; operands: (size, how many) of each."""

    name, level = "committee", 5
    spaces = (Space(*[range(5, 24), range(2, 5)] * 3),)

    def operands(self, *values: int) -> Operands:
        return tuple(zip(values[::2], values[1::2], strict=True))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        (a, i), (b, j), (c, k) = operands
        return {"a": a, "b": b, "c": c, "i": i, "j": j, "k": k}

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *operands)

    def solve(self, operands: Operands) -> int:
        ways = 1
        for n, k in operands:
            ways *= comb(n, k)
        return ways

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        lines = [chosen(n, k) for n, k in operands]
        (_, one), (_, two), (_, three) = lines
        result = one * two * three
        return [*dict.fromkeys(line for line, _ in lines), f"{one} × {two} × {three} = {result}"], result


# How many are red and how many are not, and what is asked.
RED_AND_OTHERS = list(product(range(3, 120), range(4, 200), (1, 2)))


class Urn(ProblemKind):
    """Three balls drawn at once; operands: how many there are of three colours, and what is asked of those drawn."""

    name, level = "urn", 5
    spaces = (
        Space(Subsets(60, 3), (0,)),
        Space(RED_AND_OTHERS, share=2.0),
    )
    asked = (
        {"en": "one ball of each colour is drawn", "zh": "三种颜色各一个"},
        {"en": "all three balls are red", "zh": "三个都是红球"},
        {"en": "exactly two balls are red", "zh": "恰好有两个红球"},
    )

    def operands(self, *values: Any) -> Operands:
        if len(values) == 2:
            low, middle, high = values[0]
            return low + 2, middle + 1, high, 0  # of numbers from 2 on, which may be equal
        red, others, which = values[0]
        return red, others - others // 2, others // 2, which  # divided anew when it is asked

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        red, blue, green, which = operands
        if which == 0:
            return (*rng.sample(operands[:3], 3), which)
        part = rng.randint(1, blue + green - 1)
        return red, part, blue + green - part, which

    def identity(self, operands: Operands) -> Operands:
        red, blue, green, which = operands
        return (self.name, *sorted(operands[:3]), 0) if which == 0 else (self.name, red, blue + green, which)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        red, blue, green, which = operands
        return {"red": red, "blue": blue, "green": green, "event": self.asked[which][language]}

    def solve(self, operands: Operands) -> Fraction:
        """Ball by ball, in each order."""
        red, blue, green, which = operands
        n = red + blue + green
        rest = n - red
        ways = (6 * red * blue * green, red * (red - 1) * (red - 2), 3 * red * (red - 1) * rest)[which]
        return Fraction(ways, n * (n - 1) * (n - 2))

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        red, blue, green, which = operands
        n = red + blue + green
        line, all_ways = chosen(n, 3)
        if which == 0:
            steps, ways = [f"{red} × {blue} × {green} = {red * blue * green}"], red * blue * green
        elif which == 1:
            step, ways = chosen(red, 3)
            steps = [step]
        else:
            step, two = chosen(red, 2)
            ways = two * (n - red)
            steps = [step, f"{two} × {n - red} = {ways}"]
        result = Fraction(ways, all_ways)
        return [
            line,
            *steps,
            f"{ways}/{all_ways} = {result}" if result.denominator != all_ways else f"{result}",
        ], result


class DivisibleByEither(ProblemKind):
    """How many numbers up to n are divisible by a or b, or by neither; operands: n, a, b, whether neither."""

    name, level = "divisible-by-either", 5
    spaces = (Space(range(100, 5000), Subsets(28, 2)),)

    def operands(self, n: int, pair: tuple[int, int]) -> Operands | None:
        a, b = 2 + pair[0], 2 + pair[1]
        return (n, a, b, False) if b % a else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return (*operands[:3], rng.random() < 0.5)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        n, a, b, neither = operands
        if language == "en":
            asked = f"by neither {a} nor {b}" if neither else f"by {a} or by {b} (or by both)"
        else:
            asked = f"既不能被{a}整除也不能被{b}整除" if neither else f"能被{a}或{b}整除"
        return {"n": n, "asked": asked}

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *operands[:3])

    def solve(self, operands: Operands) -> int:
        """In whole rounds of the least common multiple, and the rest one by one."""
        n, a, b, neither = operands
        both = a * b // gcd(a, b)
        rounds, rest = divmod(n, both)
        either = rounds * (both // a + both // b - 1) + rest // a + rest // b
        return n - either if neither else either

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        n, a, b, neither = operands
        both = a * b // gcd(a, b)
        one, two, three = n // a, n // b, n // both
        by, comma = ("by", ": ") if language == "en" else ("被", "：")
        head = (lambda d: f"{by} {d}{comma}") if language == "en" else (lambda d: f"{by}{d}整除{comma}")
        steps = [f"{head(d)}{n // d}" for d in (a, b, both)]
        result = one + two - three
        steps.append(f"{one} + {two} - {three} = {result}")
        if neither:
            steps.append(f"{n} - {result} = {n - result}")
            result = n - result
        return steps, result


# The chance p/q, tries n and hits k.
TRIALS = [
    (p, q, n, k) for q in range(2, 13) for p in range(1, q) if gcd(p, q) == 1 for n in range(2, 6) for k in range(n + 1)
]


class Binomial(ProblemKind):
    """So many hits in n tries; operands: (p, q) of the chance p/q, tries, hits."""

    name, level = "binomial", 5
    spaces = (Space(Subsets(len(TRIALS), 2)),)

    def operands(self, pair: tuple[int, int]) -> Operands:
        return TRIALS[pair[0]], TRIALS[pair[1]]

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return operands if rng.random() < 0.5 else operands[::-1]

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        (p, q, n, k), (r, s, m, j) = operands
        ks, js = "s" * (k != 1), "s" * (j != 1)
        return {"p": f"{p}/{q}", "n": n, "k": k, "r": f"{r}/{s}", "m": m, "j": j, "ks": ks, "js": js}

    def solve(self, operands: Operands) -> Fraction:
        """Hits counted try by try: Pascal's triangle with weights, in whole numbers."""
        top, bottom = 1, 1
        for p, q, n, k in operands:
            row = [1]
            for _ in range(n):
                row = [a * (q - p) + b * p for a, b in zip([*row, 0], [0, *row], strict=True)]
            top, bottom = top * row[k], bottom * q**n
        return Fraction(top, bottom)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        steps, result = [], Fraction(1)
        values = []
        for p, q, n, k in operands:
            value = Fraction(comb(n, k) * p**k * (q - p) ** (n - k), q**n)
            steps.append(f"C({n}, {k}) × ({p}/{q})^{k} × ({q - p}/{q})^{n - k} = {value}")
            values.append(value)
            result *= value
        return [*steps, f"{values[0]} × {values[1]} = {result}"], result


KINDS: list[ProblemKind] = [
    Choose(),
    Arrange(),
    Dice(),
    Paths(),
    Committee(),
    Urn(),
    DivisibleByEither(),
    Binomial(),
]
