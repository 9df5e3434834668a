"""Program-generated problems in English and Chinese whose answers are computed, never written down.

A kind of problem counts its problems, so that each has a number; it makes operands of a number, solves them, and shows
its work. `forms/` holds the ways of asking. A problem's identity is what it asks, whatever the language, wording or
order: `is_heldout` splits on it, so no problem is both trained on and scored.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from importlib.resources import files
from math import prod
from random import Random
from typing import Any

import yaml

LANGUAGES = ("en", "zh")
HELDOUT_PERCENT = 10
ANSWER_MARK = {"en": "Answer: ", "zh": "答案："}
Operands = tuple[Any, ...]


@cache
def load_forms() -> dict[str, dict[str, list[str]]]:
    """Kind -> language -> ways of asking, of all files of `forms/`."""
    found: dict[str, dict[str, list[str]]] = {}
    for file in sorted((files("data_recipes.synthesis.programs") / "forms").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            found |= yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


@cache
def words(group: str, language: str) -> list[str]:
    """The lexicon's words of a group, in the same order in each language."""
    text = (files("data_recipes.synthesis.programs") / "lexicon.yaml").read_text(encoding="utf-8")
    column = LANGUAGES.index(language)
    return [pair[column] for pair in yaml.safe_load(text)[group]]


class Space:
    """The problems of a kind, or a part of them: every combination of the values in some ranges, by number.

    `share` is how often the part is drawn from among those of its kind.
    """

    def __init__(self, *ranges: Sequence[Any], share: float = 1.0) -> None:
        self.ranges = ranges
        self.share = share
        self.size = prod(len(values) for values in ranges)
        self._sized = [(values, len(values)) for values in ranges]

    def at(self, number: int) -> list[Any]:
        """The values of one combination, 0 <= number < size."""
        values = []
        for choices, size in self._sized:
            number, place = divmod(number, size)
            values.append(choices[place])
        return values


class ProblemKind(ABC):
    """One kind of problem. Operands are plain numbers (indices for words), the same in every language."""

    name: str
    level: int  # 1 is easiest
    weight: float = 1.0  # share among the kinds of its level
    spaces: tuple[Space, ...]

    @cached_property
    def forms(self) -> dict[str, list[str]]:
        """Language -> ways of asking."""
        return load_forms()[self.name]

    def operands(self, *values: Any) -> Operands | None:
        """Operands of a combination of a space's values, another for each: None where it is no problem of this kind,
        or the same as another combination's."""
        return values

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        """The same problem as it will be asked: its operands in some order, with names for what may have any."""
        return operands

    @abstractmethod
    def solve(self, operands: Operands) -> Any:
        """The answer, computed directly and exactly."""

    @abstractmethod
    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        """Values for the placeholders of its forms."""

    def write(self, solution: Any, language: str) -> str:
        """The answer, written in a language."""
        return str(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Any]:
        """Worked steps and their result, computed in another way than by `solve`; no steps for level 1."""
        return [], self.solve(operands)

    def identity(self, operands: Operands) -> Operands:
        """Problems with equal identities ask the same and lie on the same side of the held-out split."""
        return (self.name, *operands)

    def chance(self, operands: Operands) -> float:
        """Probability of a right answer by guessing among the possible ones; here, among numbers of its length."""
        return 10.0 ** -len(self.write(self.solve(operands), "en"))


@dataclass(slots=True)
class Problem:
    """A problem put into words of one language."""

    asked: ProblemKind
    language: str
    operands: Operands
    question: str
    steps: list[str]
    answer: str

    @property
    def kind(self) -> str:
        return self.asked.name

    @property
    def level(self) -> int:
        return self.asked.level

    @property
    def chance(self) -> float:
        return self.asked.chance(self.operands)

    @property
    def response(self) -> str:
        """The assistant's turn: the bare answer, or the steps and then the marked answer."""
        if not self.steps:
            return self.answer
        return "\n".join([*self.steps, ANSWER_MARK[self.language] + self.answer])


def is_heldout(kind: ProblemKind, operands: Operands) -> bool:
    """Whether a problem belongs to the held-out side: a hash of its identity, independent of the seed."""
    digest = sha256(repr(kind.identity(operands)).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELDOUT_PERCENT


def put_into_words(kind: ProblemKind, operands: Operands, language: str, rng: Random) -> Problem:
    """Write the question, solve it and check: the worked steps must arrive at the solver's answer."""
    solution = kind.solve(operands)
    steps, result = kind.work(operands, language)
    if result != solution:
        raise AssertionError(f"{kind.name}{operands}: the steps give {result}, the solver {solution}")
    forms = kind.forms[language]
    form = forms[int(rng.random() * len(forms))]
    return Problem(
        kind, language, operands, form.format(**kind.fields(operands, language)), steps, kind.write(solution, language)
    )
