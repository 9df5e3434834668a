"""Levels 4 and 5: units, rates, prices and mixtures, in sentences."""

from fractions import Fraction
from itertools import combinations
from math import gcd
from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space, words
from data_recipes.synthesis.programs.problems.numbering import Subsets
from data_recipes.synthesis.programs.problems.writing import decimal, exact_decimal

# Large unit, small unit, and how many small ones make a large one.
UNITS: tuple[tuple[dict[str, str], dict[str, str], int], ...] = (
    ({"en": "km", "zh": "千米"}, {"en": "m", "zh": "米"}, 1000),
    ({"en": "m", "zh": "米"}, {"en": "cm", "zh": "厘米"}, 100),
    ({"en": "cm", "zh": "厘米"}, {"en": "mm", "zh": "毫米"}, 10),
    ({"en": "t", "zh": "吨"}, {"en": "kg", "zh": "千克"}, 1000),
    ({"en": "kg", "zh": "千克"}, {"en": "g", "zh": "克"}, 1000),
    ({"en": "L", "zh": "升"}, {"en": "mL", "zh": "毫升"}, 1000),
    ({"en": "m²", "zh": "平方米"}, {"en": "cm²", "zh": "平方厘米"}, 10000),
    ({"en": "hectares", "zh": "公顷"}, {"en": "m²", "zh": "平方米"}, 10000),
    ({"en": "km²", "zh": "平方千米"}, {"en": "hectares", "zh": "公顷"}, 100),
    ({"en": "m³", "zh": "立方米"}, {"en": "L", "zh": "升"}, 1000),
)


def name_of(operand: int, language: str) -> str:
    names = words("names", language)
    return names[operand % len(names)]


class Conversion(ProblemKind):
    """Operands: number of the pair of units, digits, decimal places, and whether to the larger unit."""

    name, level = "unit-conversion", 4
    spaces = (Space(range(len(UNITS)), range(1, 10000), range(3), (True, False)),)

    def operands(self, pair: int, digits: int, places: int, up: bool) -> Operands | None:
        return (pair, digits, places, up) if digits % 10 else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        pair, digits, places, up = operands
        large, small, _ = UNITS[pair]
        given, wanted = (small, large) if up else (large, small)
        return {"value": decimal(digits, places), "given": given[language], "wanted": wanted[language]}

    def solve(self, operands: Operands) -> Fraction:
        pair, digits, places, up = operands
        value = Fraction(digits, 10**places)
        return value / UNITS[pair][2] if up else value * UNITS[pair][2]

    def write(self, solution: Any, language: str) -> str:
        return exact_decimal(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        """By moving the point."""
        pair, digits, places, up = operands
        large, small, factor = UNITS[pair]
        moved = len(str(factor)) - 1
        left = places + moved if up else places - moved
        digits, left = (digits, left) if left >= 0 else (digits * 10**-left, 0)
        result = decimal(digits, left)
        value, sign = decimal(*operands[1:3]), "÷" if up else "×"
        one = (
            f"1 {large[language]} = {factor} {small[language]}"
            if language == "en"
            else (f"1{large[language]} = {factor}{small[language]}")
        )
        return [one, f"{value} {sign} {factor} = {result}"], Fraction(digits, 10**left)


class SpeedConversion(ProblemKind):
    """Metres a second from kilometres an hour, or the other way; operands: digits with one decimal, the way."""

    name, level = "speed-conversion", 4
    spaces = (Space(range(11, 12000), (True, False)),)

    def operands(self, tenths: int, to_seconds: bool) -> Operands | None:
        return (tenths, to_seconds) if tenths % 10 == 0 or tenths < 2000 else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        units = {"en": ("km/h", "m/s"), "zh": ("千米/时", "米/秒")}[language]
        given, wanted = units if operands[1] else units[::-1]
        return {"value": decimal(operands[0], 1), "given": given, "wanted": wanted}

    def solve(self, operands: Operands) -> Fraction:
        tenths, to_seconds = operands
        return Fraction(5 * tenths, 180) if to_seconds else Fraction(18 * tenths, 50)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        tenths, to_seconds = operands
        value = decimal(tenths, 1)
        if to_seconds:
            metres = decimal(tenths * 1000, 1)
            result = Fraction(tenths * 1000, 10) / 3600
            first = (
                f"{value} km = {metres} m, and 1 h = 3600 s"
                if language == "en"
                else f"{value}千米 = {metres}米，1时 = 3600秒"
            )
            return [first, f"{metres} ÷ 3600 = {result}"], result
        hour = Fraction(tenths * 3600, 10)
        result = hour / 1000
        first = (
            f"In an hour: {value} × 3600 = {hour} m" if language == "en" else f"一小时行：{value} × 3600 = {hour}（米）"
        )
        return [first, f"{hour} ÷ 1000 = {result}"], result


class Meeting(ProblemKind):
    """Two start towards each other; operands: two speeds, distance."""

    name, level = "meeting", 4
    spaces = (Space(Subsets(90, 2), range(1, 49)),)

    def operands(self, speeds: tuple[int, int], quarters: int) -> Operands | None:
        slow, fast = 10 + speeds[0], 10 + speeds[1]
        return (slow, fast, (slow + fast) * quarters // 4) if (slow + fast) * quarters % 4 == 0 else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        a, b, distance = operands
        return operands if rng.random() < 0.5 else (b, a, distance)

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands[:2]), operands[2])

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        a, b, distance = operands
        return {"a": a, "b": b, "distance": distance}

    def solve(self, operands: Operands) -> Fraction:
        a, b, distance = operands
        return Fraction(distance, a + b)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction | None]:
        a, b, distance = operands
        together = a + b
        whole, rest = divmod(distance, together)
        hours = whole + Fraction(rest, together)
        head = "Together they cover" if language == "en" else "每小时共行"
        steps = [
            f"{head} {a} + {b} = {together} km an hour."
            if language == "en"
            else f"{head}{a} + {b} = {together}（千米）。"
        ]
        steps.append(f"{distance} ÷ {together} = {hours}")
        return steps, hours if a * hours + b * hours == distance else None


class WorkTogether(ProblemKind):
    """Three who need a, b and c hours alone; operands are these."""

    name, level = "work-together", 5
    spaces = (Space(Subsets(100, 3)), Space(Subsets(160, 2), share=0.1))

    def operands(self, hours: tuple[int, ...]) -> Operands:
        return tuple([2 + one for one in hours])

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return tuple(rng.sample(operands, len(operands)))

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        if language == "en":
            *most, last = map(str, operands)
            return {"hours": f"{', '.join(most)} and {last}", "count": {2: "Two", 3: "Three"}[len(operands)]}
        *most, last = [f"{hours}小时" for hours in operands]
        return {"hours": f"{'、'.join(most)}和{last}", "count": {2: "两", 3: "三"}[len(operands)]}

    def solve(self, operands: Operands) -> Fraction:
        top, bottom = 0, 1
        for hours in operands:
            top, bottom = top * hours + bottom, bottom * hours
        return Fraction(bottom, top)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        share = sum([Fraction(1, hours) for hours in operands], Fraction(0))
        one, other = ("In an hour: ", "For the whole: ") if language == "en" else ("每小时完成：", "全部完成要：")
        result = 1 / share
        sums = " + ".join([f"1/{hours}" for hours in operands])
        return [f"{one}{sums} = {share}", f"{other}1 ÷ ({share}) = {result}"], result


class AverageSpeed(ProblemKind):
    """Two parts of a way; operands: distance and speed of each."""

    name, level = "average-speed", 5
    spaces = (Space(range(10, 200), range(10, 100), range(10, 200), range(10, 100)),)

    def operands(self, a: int, v: int, b: int, w: int) -> Operands | None:
        return ((a, v), (b, w)) if v != w and (a, v) > (b, w) else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return operands if rng.random() < 0.5 else operands[::-1]

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        (a, v), (b, w) = operands
        return {"a": a, "v": v, "b": b, "w": w}

    def solve(self, operands: Operands) -> Fraction:
        (a, v), (b, w) = operands
        return Fraction((a + b) * v * w, a * w + b * v)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        (a, v), (b, w) = operands
        first, second = Fraction(a, v), Fraction(b, w)
        time = first + second
        result = (a + b) / time
        one, other = ("Time: ", "Distance: ") if language == "en" else ("时间：", "路程：")
        return [
            f"{one}{a}/{v} + {b}/{w} = {time} h" if language == "en" else f"{one}{a}/{v} + {b}/{w} = {time}（时）",
            f"{other}{a} + {b} = {a + b} km" if language == "en" else f"{other}{a} + {b} = {a + b}（千米）",
            f"{a + b} ÷ ({time}) = {result}",
        ], result


class PercentChanges(ProblemKind):
    """A price that changes twice by percents; operands: price, and the percents, negative where it falls."""

    name, level = "percent-changes", 5
    spaces = (Space(range(20, 2000), *[[p for p in range(-60, 61) if p]] * 2),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        price, one, other = operands
        verbs = {"en": ("raised", "lowered"), "zh": ("上涨", "下降")}[language]
        return {
            "price": price,
            "first": verbs[one < 0],
            "p": abs(one),
            "second": verbs[other < 0],
            "q": abs(other),
        }

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *operands)

    def solve(self, operands: Operands) -> Fraction:
        price, one, other = operands
        return Fraction(price * (100 + one) * (100 + other), 10000)

    def write(self, solution: Any, language: str) -> str:
        return exact_decimal(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        price, one, other = operands
        cents = 100 * price  # then hundredths of these
        change = abs(one) * price
        after = cents + change if one > 0 else cents - change
        steps = [
            f"{abs(one)}% × {price} = {decimal(change, 2)}, "
            f"{price} {'+' if one > 0 else '-'} {decimal(change, 2)} = {decimal(after, 2)}"
        ]
        change = abs(other) * after
        last = 100 * after + change if other > 0 else 100 * after - change
        steps.append(
            f"{abs(other)}% × {decimal(after, 2)} = {decimal(change, 4)}, "
            f"{decimal(after, 2)} {'+' if other > 0 else '-'} {decimal(change, 4)} = {decimal(last, 4)}"
        )
        return steps, Fraction(last, 10000)


class Mixture(ProblemKind):
    """Two solutions poured together; operands: mass and percentage of each."""

    name, level = "mixture", 5
    spaces = (Space(range(2, 100), range(1, 96), range(2, 100), range(1, 96)),)

    def operands(self, a: int, p: int, b: int, q: int) -> Operands | None:
        return ((a, p), (b, q)) if p != q and (a, p) > (b, q) else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return operands if rng.random() < 0.5 else operands[::-1]

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        (a, p), (b, q) = operands
        return {"a": a, "p": p, "b": b, "q": q}

    def solve(self, operands: Operands) -> Fraction:
        (a, p), (b, q) = operands
        return Fraction(a * p + b * q, a + b)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        """By the lever: from the first percentage towards the second, by the second's share of the mass."""
        (a, p), (b, q) = operands
        one, other = decimal(a * p, 2), decimal(b * q, 2)
        salt, mass = a * p + b * q, a + b
        result = p + (q - p) * Fraction(b, mass)
        word, weight = ("Salt: ", "Mass: ") if language == "en" else ("盐：", "总质量：")
        unit = " kg" if language == "en" else "千克"
        return [
            f"{word}{a} × {p}% + {b} × {q}% = {one} + {other} = {decimal(salt, 2)}{unit}",
            f"{weight}{a} + {b} = {mass}{unit}",
            f"{decimal(salt, 2)} ÷ {mass} = {result}%"
            if result.denominator == 1
            else f"{decimal(salt, 2)} ÷ {mass} = ({result})%",
        ], result


class CompoundInterest(ProblemKind):
    """Operands: principal in hundreds, rate in percent, years."""

    name, level = "compound-interest", 5
    spaces = (Space(range(1, 5000), range(1, 16), (2, 3)),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        hundreds, rate, years = operands
        return {
            "principal": 100 * hundreds,
            "rate": rate,
            "years": years,
            "who": name_of(hundreds + rate + years, language),
        }

    def solve(self, operands: Operands) -> Fraction:
        hundreds, rate, years = operands
        return Fraction(hundreds * (100 + rate) ** years, 100 ** (years - 1))

    def write(self, solution: Any, language: str) -> str:
        return exact_decimal(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        hundreds, rate, years = operands
        steps, digits, places = [], 100 * hundreds, 0
        word = "Year" if language == "en" else "第"
        for year in range(1, years + 1):
            interest = digits * rate
            digits, places, before = 100 * digits + interest, places + 2, decimal(digits, places)
            gained, after = decimal(interest, places), decimal(digits, places)
            if language == "en":
                steps.append(f"{word} {year}: {before} × {rate}% = {gained}, {before} + {gained} = {after}")
            else:
                steps.append(f"{word}{year}年：{before} × {rate}% = {gained}，{before} + {gained} = {after}")
        return steps, Fraction(digits, 10**places)


class Discount(ProblemKind):
    """What so many things cost with a discount; operands: price in tenths, number, percent off."""

    name, level = "discount", 4
    spaces = (Space(range(11, 1000), range(2, 13), range(5, 60, 5)),)

    def operands(self, tenths: int, number: int, off: int) -> Operands:
        return 0, tenths, number, off

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return (rng.randrange(len(words("goods", "en"))), *operands[1:])

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *operands[1:])

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        thing, tenths, number, off = operands
        return {"thing": words("goods", language)[thing], "price": decimal(tenths, 1), "n": number, "off": off}

    def solve(self, operands: Operands) -> Fraction:
        _, tenths, number, off = operands
        return Fraction(tenths * number * (100 - off), 1000)

    def write(self, solution: Any, language: str) -> str:
        return exact_decimal(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Fraction]:
        _, tenths, number, off = operands
        full = tenths * number
        saved = full * off
        rest = 100 * full - saved
        return [
            f"{decimal(tenths, 1)} × {number} = {decimal(full, 1)}",
            f"{decimal(full, 1)} × {off}% = {decimal(saved, 3)}",
            f"{decimal(full, 1)} - {decimal(saved, 3)} = {decimal(rest, 3)}",
        ], Fraction(rest, 1000)


# Two prices without a common factor.
COPRIME = [(a, b) for a, b in combinations(range(3, 60), 2) if gcd(a, b) == 1]


class TwoPrices(ProblemKind):
    """Things of two prices: how many of each; operands: the prices, number, sum."""

    name, level = "two-prices", 4
    spaces = (Space(COPRIME, range(1, 60), range(1, 60)),)

    def operands(self, prices: tuple[int, int], x: int, y: int) -> Operands:
        low, high = prices
        return low, high, x + y, low * x + high * y

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return dict(zip(("low", "high", "n", "sum"), operands, strict=True))

    def solve(self, operands: Operands) -> tuple[int, int]:
        low, high, number, total = operands
        return (high * number - total) // (high - low), (total - low * number) // (high - low)

    def write(self, solution: Any, language: str) -> str:
        return ", ".join(map(str, solution))

    def work(self, operands: Operands, language: str) -> tuple[list[str], tuple[int, int] | None]:
        low, high, number, total = operands
        least = low * number
        rest, more = total - least, high - low
        dear = int(Fraction(rest, more))
        cheap = number - dear
        if language == "en":
            steps = [
                f"If all were cheap: {number} × {low} = {least}, too little by {total} - {least} = {rest}.",
                f"A dear ticket adds {high} - {low} = {more}: {rest} ÷ {more} = {dear} dear tickets.",
                f"{number} - {dear} = {cheap} cheap tickets.",
            ]
        else:
            steps = [
                f"假设全是便宜票：{number} × {low} = {least}，少了{total} - {least} = {rest}（元）。",
                f"每张贵的票多{high} - {low} = {more}（元），贵的票有{rest} ÷ {more} = {dear}（张）。",
                f"便宜票有{number} - {dear} = {cheap}（张）。",
            ]
        return steps, (cheap, dear) if cheap * low + dear * high == total else None


KINDS: list[ProblemKind] = [
    Conversion(),
    SpeedConversion(),
    Meeting(),
    Discount(),
    TwoPrices(),
    WorkTogether(),
    AverageSpeed(),
    PercentChanges(),
    Mixture(),
    CompoundInterest(),
]
