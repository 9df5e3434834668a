"""Level 3 arithmetic with worked steps: digit by digit, by tables, by Euclid, with fractions, in stories.

The steps arrive at the result by the pupil's method, `solve` by Python's; a problem is only written when
both agree.
"""

from fractions import Fraction
from math import gcd, lcm
from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space, words
from data_recipes.synthesis.programs.problems.basic import numbers_of

# Every proper fraction with a denominator of at most 12, as written.
FRACTIONS = [(top, bottom) for bottom in range(2, 13) for top in range(1, bottom)]


def either_way(operands: Operands, rng: Random) -> Operands:
    """Two operands in either order."""
    return operands if rng.random() < 0.5 else operands[::-1]


class TwoNumbers(ProblemKind):
    """Shared by kinds with operands a and b."""

    level = 3

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return dict(zip("abcd", operands, strict=False))


class Add(TwoNumbers):
    name = "add"
    spaces: tuple[Space, ...] = tuple(
        Space(numbers_of(digits), numbers_of(digits), share=2.0 if digits == 2 else 1.0) for digits in (2, 3, 4)
    )

    def operands(self, a: int, b: int) -> Operands | None:
        return (a, b) if a <= b else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return either_way(operands, rng)

    def identity(self, operands: Operands) -> Operands:
        return (self.name, min(operands), max(operands))

    def solve(self, operands: Operands) -> int:
        return operands[0] + operands[1]

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b = operands
        steps, result, carry, place = [], 0, 0, 1
        while a or b:
            one, other = a % 10, b % 10
            total = one + other + carry
            added = f"{one} + {other}" + (" + 1" if carry else "")
            carry, digit = divmod(total, 10)
            if language == "en":
                steps.append(f"{added} = {total}, write {digit}" + (" and carry 1." if carry else "."))
            else:
                steps.append(f"{added} = {total}，写{digit}" + ("，进1。" if carry else "。"))
            result += digit * place
            place, a, b = place * 10, a // 10, b // 10
        return steps, result + carry * place


class Subtract(TwoNumbers):
    name = "subtract"
    spaces: tuple[Space, ...] = tuple(
        Space(numbers_of(digits), numbers_of(digits), share=4.0 - digits) for digits in (2, 3)
    )

    def operands(self, a: int, b: int) -> Operands | None:
        return (a, b) if a >= b else None

    def solve(self, operands: Operands) -> int:
        return operands[0] - operands[1]

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b = operands
        tens, ones = b - b % 10, b % 10
        between = a - tens
        steps = [f"{a} - {tens} = {between}"] if tens else []
        steps.append(f"{between} - {ones} = {between - ones}")
        return steps, between - ones


class Multiply(TwoNumbers):
    name = "multiply"
    spaces: tuple[Space, ...] = (Space(range(11, 200), range(3, 13)),)

    def operands(self, a: int, b: int) -> Operands | None:
        return (a, b) if a >= b else None

    def identity(self, operands: Operands) -> Operands:
        return (self.name, min(operands), max(operands))

    def solve(self, operands: Operands) -> int:
        return operands[0] * operands[1]

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b = operands
        parts = [int(digit) * 10**place for place, digit in enumerate(str(a)[::-1]) if digit != "0"][::-1]
        steps = [f"{part} × {b} = {part * b}" for part in parts]
        total = sum(part * b for part in parts)
        if len(parts) > 1:
            steps.append(" + ".join(str(part * b) for part in parts) + f" = {total}")
        return steps, total


class Divide(TwoNumbers):
    name = "divide"
    spaces: tuple[Space, ...] = (Space(range(20, 1000), range(3, 13)),)

    def solve(self, operands: Operands) -> tuple[int, int]:
        return divmod(operands[0], operands[1])

    def write(self, solution: Any, language: str) -> str:
        quotient, remainder = solution
        return f"{quotient} remainder {remainder}" if language == "en" else f"商{quotient}余{remainder}"

    def work(self, operands: Operands, language: str) -> tuple[list[str], tuple[int, int]]:
        a, b = operands
        steps, quotient, rest = [], 0, a
        for place in (100, 10, 1):
            times = rest // (b * place)
            if times:
                left = rest - times * b * place
                steps.append(f"{rest} - {times * place} × {b} = {left}")
                quotient, rest = quotient + times * place, left
        return steps, (quotient, rest)

    def chance(self, operands: Operands) -> float:
        return 1 / (operands[1] * 10 ** len(str(operands[0] // operands[1])))


class Gcd(TwoNumbers):
    name = "gcd"
    spaces: tuple[Space, ...] = (Space(range(2, 16), range(3, 20), range(2, 19)),)

    def operands(self, common: int, a: int, b: int) -> Operands | None:
        return (common * a, common * b) if a > b and gcd(a, b) == 1 else None

    def identity(self, operands: Operands) -> Operands:
        return (self.name, min(operands), max(operands))

    def solve(self, operands: Operands) -> int:
        return gcd(*operands)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b = operands
        steps = []
        while b:
            steps.append(f"{a} = {a // b} × {b} + {a % b}")
            a, b = b, a % b
        return steps, a


class LinearEquation(TwoNumbers):
    """ax + b = c; operands are a, b, c."""

    name = "linear-equation"
    spaces: tuple[Space, ...] = (Space(range(2, 13), range(1, 61), range(2, 41)),)

    def operands(self, a: int, b: int, x: int) -> Operands:
        return a, b, a * x + b

    def solve(self, operands: Operands) -> int:
        a, b, c = operands
        return int(Fraction(c - b, a))

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b, c = operands
        multiple = c - b
        x = next(x for x in range(multiple + 1) if a * x == multiple)
        return [f"{a}x = {c} - {b} = {multiple}", f"x = {multiple} ÷ {a} = {x}"], x


class FractionSum(TwoNumbers):
    """a/b + c/d; operands are a, b, c, d."""

    name = "fraction-sum"
    spaces: tuple[Space, ...] = (Space(FRACTIONS, FRACTIONS),)

    def operands(self, one: tuple[int, int], other: tuple[int, int]) -> Operands | None:
        return (*one, *other) if one <= other else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return operands if rng.random() < 0.5 else operands[2:] + operands[:2]

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *min(operands[:2], operands[2:]), *max(operands[:2], operands[2:]))

    def solve(self, operands: Operands) -> Fraction:
        a, b, c, d = operands
        return Fraction(a, b) + Fraction(c, d)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        a, b, c, d = operands
        common = lcm(b, d)
        first, second = a * (common // b), c * (common // d)
        steps = [
            f"{a}/{b} = {first}/{common}, {c}/{d} = {second}/{common}",
            f"{first}/{common} + {second}/{common} = {first + second}/{common}",
        ]
        factor = gcd(first + second, common)
        top, bottom = (first + second) // factor, common // factor
        if factor > 1:
            steps.append(f"{first + second}/{common} = {top if bottom == 1 else f'{top}/{bottom}'}")
        return steps, Fraction(top, bottom)

    def chance(self, operands: Operands) -> float:
        return 1 / 100


class Percent(TwoNumbers):
    """p % of n; operands are p and n, n a multiple of what makes the result whole."""

    name = "percent"

    spaces: tuple[Space, ...] = (Space(range(5, 100, 5), range(1, 41)),)

    def operands(self, p: int, times: int) -> Operands:
        return p, times * (100 // gcd(p, 100))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"p": operands[0], "n": operands[1]}

    def solve(self, operands: Operands) -> int:
        return operands[0] * operands[1] // 100

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        p, n = operands
        product = sum(p for _ in range(n))
        return [f"{n} × {p} ÷ 100 = {product} ÷ 100 = {product // 100}"], product // 100


class Shopping(TwoNumbers):
    """Operands: name, thing (indices), number, price, sum paid."""

    name = "shopping"
    spaces: tuple[Space, ...] = (Space(range(2, 10), range(2, 41)),)

    def operands(self, number: int, price: int) -> Operands:
        return 0, 0, number, price, next(note for note in (20, 50, 100, 200, 400) if note >= number * price)

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return (rng.randrange(len(words("names", "en"))), rng.randrange(len(words("goods", "en"))), *operands[2:])

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        name, thing, number, price, paid = operands
        return {
            "name": words("names", language)[name],
            "thing": words("goods", language)[thing],
            "n": number,
            "price": price,
            "paid": paid,
        }

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *operands[2:])

    def solve(self, operands: Operands) -> int:
        *_, number, price, paid = operands
        return paid - number * price

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        *_, number, price, paid = operands
        cost = sum([price] * number)
        if language == "en":
            steps = [f"Cost: {number} × {price} = {cost} yuan.", f"Change: {paid} - {cost} = {paid - cost} yuan."]
        else:
            steps = [f"总价：{number} × {price} = {cost}（元）。", f"找回：{paid} - {cost} = {paid - cost}（元）。"]
        return steps, paid - cost


class Travel(TwoNumbers):
    """Operands: name, vehicle (indices), speed in km/h, hours."""

    name = "travel"
    spaces: tuple[Space, ...] = (Space(range(12, 121), range(2, 10)),)

    def operands(self, speed: int, hours: int) -> Operands:
        return 0, 0, speed, hours

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return (rng.randrange(len(words("names", "en"))), rng.randrange(len(words("vehicles", "en"))), *operands[2:])

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        name, vehicle, speed, hours = operands
        return {
            "name": words("names", language)[name],
            "vehicle": words("vehicles", language)[vehicle],
            "speed": speed,
            "hours": hours,
        }

    def identity(self, operands: Operands) -> Operands:
        return ("multiply", min(operands[2:]), max(operands[2:]))

    def solve(self, operands: Operands) -> int:
        return operands[2] * operands[3]

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        speed, hours = operands[2:]
        distance = sum([speed] * hours)
        return [f"{speed} × {hours} = {distance}"], distance


KINDS: list[ProblemKind] = [
    Add(),
    Subtract(),
    Multiply(),
    Divide(),
    Gcd(),
    LinearEquation(),
    FractionSum(),
    Percent(),
    Shopping(),
    Travel(),
]
