"""Levels 1 and 2: what a transformer of a million parameters can learn to do on inputs that it has not seen.

Level 1 is looking at a digit or word, comparing two numbers and counting on by one; level 2 needs copying of
several words, a carry, a rotation or several comparisons.
"""

from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space, words
from data_recipes.synthesis.programs.problems.numbering import Arrangements, Subsets

ITEM_JOIN = {"en": ", ", "zh": "、"}
WORD_JOIN = {"en": " ", "zh": ""}
PARITY = {"en": ("even", "odd"), "zh": ("偶数", "奇数")}
WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "zh": ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"),
}


def numbers_of(digits: int) -> range:
    """The numbers with exactly so many digits and no leading zero."""
    return range(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def shuffled(operands: Operands, rng: Random) -> Operands:
    return tuple(rng.sample(operands, len(operands)))


def join(items: Any, language: str) -> str:
    return ITEM_JOIN[language].join(str(item) for item in items)


def things(indices: Any, language: str) -> list[str]:
    names = words("things", language)
    return [names[index] for index in indices]


class Larger(ProblemKind):
    """Two numbers of two digits."""

    name, level = "larger", 1
    spaces: tuple[Space, ...] = (Space(Subsets(90, 2)),)

    def operands(self, pair: tuple[int, int]) -> Operands:
        return 10 + pair[0], 10 + pair[1]

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return shuffled(operands, rng)

    def solve(self, operands: Operands) -> int:
        return max(operands)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"a": operands[0], "b": operands[1]}

    def identity(self, operands: Operands) -> Operands:
        return ("compare", *sorted(operands))

    def chance(self, operands: Operands) -> float:
        return 1 / 2


class Smaller(Larger):
    name, level = "smaller", 2

    def solve(self, operands: Operands) -> int:
        return min(operands)


class NextNumber(ProblemKind):
    """The number after one of two or three digits."""

    name, level = "next-number", 1
    spaces: tuple[Space, ...] = (Space(numbers_of(2)), Space(numbers_of(3), share=3.0))
    step = 1

    def solve(self, operands: Operands) -> int:
        return operands[0] + self.step

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"n": operands[0]}

    def identity(self, operands: Operands) -> Operands:
        return ("add", 1, operands[0])

    def chance(self, operands: Operands) -> float:
        return 1 / (9 * 10 ** (len(str(operands[0])) - 1))


class PreviousNumber(NextNumber):
    name, level = "previous-number", 2
    step = -1

    def identity(self, operands: Operands) -> Operands:
        return ("subtract", operands[0], 1)


class LastItem(ProblemKind):
    """The last of three to five words."""

    name, level = "last-item", 1
    spaces: tuple[Space, ...] = tuple(Space(Arrangements(len(words("things", "en")), length)) for length in (3, 4, 5))
    place = -1

    def operands(self, row: tuple[int, ...]) -> Operands:
        return row

    def solve(self, operands: Operands) -> int:
        return operands[self.place]

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"items": "\n".join(things(operands, language))}

    def write(self, solution: Any, language: str) -> str:
        return things([solution], language)[0]

    def chance(self, operands: Operands) -> float:
        return 1 / len(operands)


class FirstItem(LastItem):
    name, level = "first-item", 2
    place = 0


class LastDigit(ProblemKind):
    """The ones of a number of two to five digits."""

    name, level = "last-digit", 1
    spaces: tuple[Space, ...] = tuple(Space(numbers_of(digits)) for digits in (2, 3, 4, 5))

    def solve(self, operands: Operands) -> int:
        return operands[0] % 10

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"n": operands[0]}

    def chance(self, operands: Operands) -> float:
        return 1 / 10


class Repeat(ProblemKind):
    """Two or three words to repeat."""

    name, level = "repeat", 2
    spaces: tuple[Space, ...] = tuple(Space(Arrangements(len(words("things", "en")), length)) for length in (2, 3))

    def operands(self, row: tuple[int, ...]) -> Operands:
        return row

    def solve(self, operands: Operands) -> tuple[int, ...]:
        return operands

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"items": WORD_JOIN[language].join(things(operands, language))}

    def write(self, solution: Any, language: str) -> str:
        return WORD_JOIN[language].join(things(solution, language))

    def chance(self, operands: Operands) -> float:
        return 1 / len(words("things", "en")) ** len(operands)


class Parity(ProblemKind):
    """Whether a number of two to four digits is even or odd; its last digit decides."""

    name, level = "parity", 1
    spaces: tuple[Space, ...] = tuple(Space(numbers_of(digits)) for digits in (2, 3, 4))

    def solve(self, operands: Operands) -> int:
        return operands[0] % 2

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"n": operands[0]}

    def write(self, solution: Any, language: str) -> str:
        return PARITY[language][solution]

    def chance(self, operands: Operands) -> float:
        return 1 / 2


class OfList(ProblemKind):
    """Shared by what is asked about a set of numbers, whatever their order."""

    lowest: int

    def operands(self, numbers: tuple[int, ...]) -> Operands:
        return tuple(self.lowest + number for number in numbers)

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return shuffled(operands, rng)

    def identity(self, operands: Operands) -> Operands:
        return ("compare", *sorted(operands))


class LargestOfList(OfList):
    name, level = "largest-of-list", 2
    spaces: tuple[Space, ...] = tuple(Space(Subsets(990, length)) for length in (3, 4, 5))
    lowest = 10

    def solve(self, operands: Operands) -> int:
        return max(operands)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"items": join(operands, language)}

    def chance(self, operands: Operands) -> float:
        return 1 / len(operands)


class Sort(OfList):
    name, level = "sort", 2
    spaces: tuple[Space, ...] = tuple(Space(Subsets(99, length)) for length in (3, 4))
    lowest = 1

    def solve(self, operands: Operands) -> tuple[int, ...]:
        return tuple(sorted(operands))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"items": join(operands, language)}

    def write(self, solution: Any, language: str) -> str:
        return join(solution, language)

    def chance(self, operands: Operands) -> float:
        return 1 / (6 if len(operands) == 3 else 24)


class Reverse(Repeat):
    name = "reverse"

    def solve(self, operands: Operands) -> tuple[int, ...]:
        return operands[::-1]


class Count(ProblemKind):
    """How often the first word of the operands stands in the list made of them."""

    name, level = "count", 2
    spaces: tuple[Space, ...] = (
        Space(Arrangements(len(words("things", "en")), 2), range(1, 6), range(1, 6), share=0.4),
        Space(Arrangements(len(words("things", "en")), 3), range(1, 6), Subsets(5, 2), share=0.6),
    )

    def operands(self, row: tuple[int, ...], times: int, others: Any) -> Operands | None:
        target, *rest = row
        if len(rest) == 1:
            return (target, *[target] * times, *rest * others)
        if rest[0] > rest[1]:
            return None
        first, both = 1 + others[0], 1 + others[1]
        return (target, *[target] * times, *rest[:1] * first, *rest[1:] * (both - first))

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return (operands[0], *shuffled(operands[1:], rng))

    def identity(self, operands: Operands) -> Operands:
        return (self.name, operands[0], *sorted(operands[1:]))

    def solve(self, operands: Operands) -> int:
        return operands[1:].count(operands[0])

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        target, *listed = things(operands, language)
        return {"target": target, "items": join(listed, language)}

    def chance(self, operands: Operands) -> float:
        return 1 / 5


class WeekdayAfter(ProblemKind):
    """A weekday up to thirty days later."""

    name, level = "weekday-after", 2

    spaces: tuple[Space, ...] = (Space(range(7), range(2, 31)),)

    def solve(self, operands: Operands) -> int:
        return sum(operands) % 7

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"day": WEEKDAYS[language][operands[0]], "n": operands[1]}

    def write(self, solution: Any, language: str) -> str:
        return WEEKDAYS[language][solution]

    def chance(self, operands: Operands) -> float:
        return 1 / 7


class AddDigit(ProblemKind):
    """Two digits plus one digit, half of the time with a carry."""

    name, level, weight = "add-digit", 2, 1.5

    spaces: tuple[Space, ...] = (Space(range(10, 100), range(1, 10)),)

    def identity(self, operands: Operands) -> Operands:
        return ("add", min(operands), max(operands))

    def solve(self, operands: Operands) -> int:
        return operands[0] + operands[1]

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"a": operands[0], "b": operands[1]}

    def chance(self, operands: Operands) -> float:
        return 1 / 98  # sums from 11 to 108


class SubtractDigit(AddDigit):
    name = "subtract-digit"

    def identity(self, operands: Operands) -> Operands:
        return ("subtract", *operands)

    def solve(self, operands: Operands) -> int:
        return operands[0] - operands[1]


class Sequence(ProblemKind):
    """Four terms with a constant difference."""

    name, level = "sequence", 2

    spaces: tuple[Space, ...] = (Space(range(1, 61), range(2, 11)),)

    def identity(self, operands: Operands) -> Operands:
        return ("arithmetic-term", *operands, 5)

    def solve(self, operands: Operands) -> int:
        start, step = operands
        return start + 4 * step

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        start, step = operands
        return {"items": join((start + step * index for index in range(4)), language)}

    def chance(self, operands: Operands) -> float:
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
