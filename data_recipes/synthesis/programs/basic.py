"""Levels 1 and 2: what a transformer of a million parameters can learn to do on inputs that it has not seen.

Level 1 is looking at a digit or word, comparing two numbers and counting on by one; level 2 needs copying of
several words, a carry, a rotation or several comparisons.
"""

from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import ProblemKind, words

ITEM_JOIN = {"en": ", ", "zh": "、"}
WORD_JOIN = {"en": " ", "zh": ""}
PARITY = {"en": ("even", "odd"), "zh": ("偶数", "奇数")}
WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "zh": ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"),
}


def number_of_digits(rng: Random, digits: int) -> int:
    """A number with exactly `digits` digits and no leading zero."""
    return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def join(items: Any, language: str) -> str:
    return ITEM_JOIN[language].join(str(item) for item in items)


def things(indices: Any, language: str) -> list[str]:
    names = words("things", language)
    return [names[index] for index in indices]


class Larger(ProblemKind):
    """Two numbers of two digits."""

    name, level, weight = "larger", 1, 1.0

    def draw(self, rng: Random) -> tuple[int, int]:
        a, b = rng.sample(range(10, 100), 2)
        return a, b

    def solve(self, operands: tuple[Any, ...]) -> int:
        return max(operands)

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        return {"a": operands[0], "b": operands[1]}

    def identity(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        return ("compare", min(operands), max(operands))

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / 2


class Smaller(Larger):
    name, level = "smaller", 2

    def solve(self, operands: tuple[Any, ...]) -> int:
        return min(operands)


class NextNumber(ProblemKind):
    """The number after one of two or three digits."""

    name, level, weight = "next-number", 1, 1.0
    step = 1

    def draw(self, rng: Random) -> tuple[int]:
        return (number_of_digits(rng, rng.choice((2, 3, 3, 3))),)

    def solve(self, operands: tuple[Any, ...]) -> int:
        return operands[0] + self.step

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        return {"n": operands[0]}

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / (9 * 10 ** (len(str(operands[0])) - 1))


class PreviousNumber(NextNumber):
    name, level = "previous-number", 2
    step = -1


class LastItem(ProblemKind):
    """The last of three to five words."""

    name, level, weight = "last-item", 1, 1.0
    place = -1

    def draw(self, rng: Random) -> tuple[int, ...]:
        return tuple(rng.sample(range(len(words("things", "en"))), rng.choice((3, 4, 5))))

    def solve(self, operands: tuple[Any, ...]) -> int:
        return operands[self.place]

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        return {"items": "\n".join(things(operands, language))}

    def answer(self, operands: tuple[Any, ...], language: str) -> str:
        return things([self.solve(operands)], language)[0]

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / len(operands)


class FirstItem(LastItem):
    name, level = "first-item", 2
    place = 0


class LastDigit(ProblemKind):
    """The ones of a number of two to five digits."""

    name, level, weight = "last-digit", 1, 1.0

    def draw(self, rng: Random) -> tuple[int]:
        return (number_of_digits(rng, rng.choice((2, 3, 4, 5))),)

    def solve(self, operands: tuple[Any, ...]) -> int:
        return operands[0] % 10

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        return {"n": operands[0]}

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / 10


class Repeat(ProblemKind):
    """Two or three words to repeat."""

    name, level, weight = "repeat", 2, 1.0

    def draw(self, rng: Random) -> tuple[int, ...]:
        return tuple(rng.sample(range(len(words("things", "en"))), rng.choice((2, 3))))

    def solve(self, operands: tuple[Any, ...]) -> tuple[int, ...]:
        return operands

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        return {"items": WORD_JOIN[language].join(things(operands, language))}

    def answer(self, operands: tuple[Any, ...], language: str) -> str:
        return WORD_JOIN[language].join(things(self.solve(operands), language))

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / len(words("things", "en")) ** len(operands)


class Parity(ProblemKind):
    """Whether a number of two to four digits is even or odd; its last digit decides."""

    name, level, weight = "parity", 1, 1.0

    def draw(self, rng: Random) -> tuple[int]:
        return (number_of_digits(rng, rng.choice((2, 3, 4))),)

    def solve(self, operands: tuple[Any, ...]) -> int:
        return operands[0] % 2

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        return {"n": operands[0]}

    def answer(self, operands: tuple[Any, ...], language: str) -> str:
        return PARITY[language][self.solve(operands)]

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / 2


class LargestOfList(ProblemKind):
    name, level = "largest-of-list", 2

    def draw(self, rng: Random) -> tuple[int, ...]:
        return tuple(rng.sample(range(10, 1000), rng.choice((3, 4, 5))))

    def solve(self, operands: tuple[Any, ...]) -> int:
        return max(operands)

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        return {"items": join(operands, language)}

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / len(operands)


class Sort(ProblemKind):
    name, level = "sort", 2

    def draw(self, rng: Random) -> tuple[int, ...]:
        return tuple(rng.sample(range(1, 100), rng.choice((3, 4))))

    def solve(self, operands: tuple[Any, ...]) -> tuple[int, ...]:
        return tuple(sorted(operands))

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        return {"items": join(operands, language)}

    def answer(self, operands: tuple[Any, ...], language: str) -> str:
        return join(self.solve(operands), language)

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / (6 if len(operands) == 3 else 24)


class Reverse(Repeat):
    name = "reverse"

    def solve(self, operands: tuple[Any, ...]) -> tuple[int, ...]:
        return operands[::-1]


class Count(ProblemKind):
    """How often the first word of the operands stands in the list made of them."""

    name, level = "count", 2

    def draw(self, rng: Random) -> tuple[int, ...]:
        target, *others = rng.sample(range(len(words("things", "en"))), 3)
        listed = [target] * rng.randint(1, 5) + [rng.choice(others) for _ in range(rng.randint(1, 5))]
        rng.shuffle(listed)
        return target, *listed

    def solve(self, operands: tuple[Any, ...]) -> int:
        return operands[1:].count(operands[0])

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        target, *listed = things(operands, language)
        return {"target": target, "items": join(listed, language)}

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / 5


class WeekdayAfter(ProblemKind):
    """A weekday up to thirty days later."""

    name, level = "weekday-after", 2

    def draw(self, rng: Random) -> tuple[int, int]:
        return rng.randrange(7), rng.randint(2, 30)

    def solve(self, operands: tuple[Any, ...]) -> int:
        return sum(operands) % 7

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        return {"day": WEEKDAYS[language][operands[0]], "n": operands[1]}

    def answer(self, operands: tuple[Any, ...], language: str) -> str:
        return WEEKDAYS[language][self.solve(operands)]

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / 7


class AddDigit(ProblemKind):
    """Two digits plus one digit, half of the time with a carry."""

    name, level, weight = "add-digit", 2, 1.5

    def draw(self, rng: Random) -> tuple[int, int]:
        return rng.randint(10, 99), rng.randint(1, 9)

    def solve(self, operands: tuple[Any, ...]) -> int:
        return operands[0] + operands[1]

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        return {"a": operands[0], "b": operands[1]}

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / 98  # sums from 11 to 108


class SubtractDigit(AddDigit):
    name = "subtract-digit"

    def solve(self, operands: tuple[Any, ...]) -> int:
        return operands[0] - operands[1]


class Sequence(ProblemKind):
    """Four terms with a constant difference."""

    name, level = "sequence", 2

    def draw(self, rng: Random) -> tuple[int, int]:
        return rng.randint(1, 60), rng.randint(2, 10)

    def solve(self, operands: tuple[Any, ...]) -> int:
        start, step = operands
        return start + 4 * step

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        start, step = operands
        return {"items": join((start + step * index for index in range(4)), language)}

    def chance(self, operands: tuple[Any, ...]) -> float:
        return 1 / 91  # terms from 9 to 100


KINDS = [
    Parity(),
    LastDigit(),
    LastItem(),
    Larger(),
    NextNumber(),
    FirstItem(),
    Repeat(),
    Smaller(),
    PreviousNumber(),
    LargestOfList(),
    Sort(),
    Reverse(),
    Count(),
    WeekdayAfter(),
    AddDigit(),
    SubtractDigit(),
    Sequence(),
]
