"""Drawing problems of one side of the held-out split: at random, or each at most once."""

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from itertools import accumulate
from pkgutil import iter_modules
from random import Random

from data_recipes.errors import DataError, nearest
from data_recipes.synthesis.programs import problems
from data_recipes.synthesis.programs.problem import (
    HELDOUT_PERCENT,
    LANGUAGES,
    Problem,
    ProblemKind,
    Space,
    is_heldout,
    put_into_words,
)
from data_recipes.synthesis.programs.problems.numbering import Shuffle


@cache
def all_kinds() -> dict[str, ProblemKind]:
    """Every kind by name, easiest first."""
    modules = (import_module(f"{problems.__name__}.{found.name}") for found in iter_modules(problems.__path__))
    kinds = sorted((kind for module in modules for kind in getattr(module, "KINDS", ())), key=lambda kind: kind.level)
    return {kind.name: kind for kind in kinds}


def weights_of(level_weights: Mapping[int, float], kinds: Sequence[str] | None = None) -> dict[str, float]:
    """The share of each kind: `level_weights` gives that of each level, which its kinds share by their own weight."""
    known = all_kinds()
    for name in kinds or ():
        if name not in known:
            raise DataError(f"unknown kind of problem {name}.{nearest(name, known)}")
    chosen = [known[name] for name in (kinds or known)]
    chosen = [kind for kind in chosen if level_weights.get(kind.level, 0) > 0]
    if not chosen:
        raise DataError(f"no kind of problem has one of the levels {sorted(level_weights)}.")
    total = {level: sum(kind.weight for kind in chosen if kind.level == level) for level in level_weights}
    return {kind.name: level_weights[kind.level] * kind.weight / total[kind.level] for kind in chosen}


class ProblemSource:
    """Draws problems of one side of the split, where small kinds repeat; the same seed gives the same problems."""

    def __init__(
        self,
        *,
        seed: int | str,
        heldout: bool,
        level_weights: Mapping[int, float],
        kinds: Sequence[str] | None = None,
    ) -> None:
        shares = weights_of(level_weights, kinds)
        self.kinds = [all_kinds()[name] for name in shares]
        self.weights = list(shares.values())
        self.heldout = heldout
        self.rng = Random(f"problems-{seed}-{heldout}")

    def draw(self, *, language: str | None = None, kind: ProblemKind | None = None) -> Problem:
        """The next problem, in English or Chinese with equal chance unless a language is given."""
        rng = self.rng
        kind = kind or rng.choices(self.kinds, self.weights)[0]
        language = language or rng.choice(LANGUAGES)
        while True:
            space = kind.spaces[0]
            if len(kind.spaces) > 1:
                space = rng.choices(kind.spaces, [one.share for one in kind.spaces])[0]
            operands = kind.operands(*space.at(rng.randrange(space.size)))
            if operands is not None and is_heldout(kind, operands) == self.heldout:
                return put_into_words(kind, kind.arrange(operands, rng), language, rng)


class Stock:
    """The problems of one space of a kind that a unit may draw, in a seeded order, each once."""

    def __init__(self, kind: ProblemKind, number: int, *, seed: int, unit: int, units: int) -> None:
        self.kind = kind
        self.space: Space = kind.spaces[number]
        self._order = Shuffle(self.space.size, f"{seed}-{kind.name}-{number}")
        self._places = iter(range(unit * self.space.size // units, (unit + 1) * self.space.size // units))

    def draw(self, heldout: bool) -> tuple[int | str, ...] | None:
        """Operands of the next problem on a side; None where there is none left."""
        kind, space, order = self.kind, self.space, self._order
        for place in self._places:
            operands = kind.operands(*space.at(order[place]))
            if operands is not None and is_heldout(kind, operands) == heldout:
                return operands
        return None


def distinct_problems(
    *,
    seed: int,
    heldout: bool,
    shares: Mapping[str, float],
    languages: Sequence[str],
    unit: int = 0,
    units: int = 1,
) -> Iterator[Problem]:
    """The problems of one of several units, none twice in all units together; ends when there are no more.

    Each unit draws from its own part of every space, so that units need not know of each other and no memory grows.
    A kind of which all problems have been drawn leaves its share to the others.
    """
    rng = Random(f"distinct-{seed}-{heldout}-{unit}")
    stocks, parts = [], []
    for name, share in shares.items():
        kind = all_kinds()[name]
        whole = sum(space.share for space in kind.spaces)
        for number, space in enumerate(kind.spaces):
            stocks.append(Stock(kind, number, seed=seed, unit=unit, units=units))
            parts.append(share * space.share / whole)
    bounds = list(accumulate(parts))
    while stocks:
        place = bisect(bounds, rng.random() * bounds[-1])
        stock = stocks[min(place, len(stocks) - 1)]
        operands = stock.draw(heldout)
        if operands is None:
            empty = stocks.index(stock)
            del stocks[empty], parts[empty]
            bounds = list(accumulate(parts))
            continue
        language = languages[int(rng.random() * len(languages))]
        yield put_into_words(stock.kind, stock.kind.arrange(operands, rng), language, rng)


def about_how_many(shares: Mapping[str, float], *, heldout: bool, enough: int, looks: int = 400) -> int:
    """How many different problems some kinds have on a side, about, or more than `enough`: by looking at some of each
    space, where numbers may stand for no problem."""
    side = HELDOUT_PERCENT if heldout else 100 - HELDOUT_PERCENT
    total = 0.0
    rng = Random(0)
    for name in shares:
        kind = all_kinds()[name]
        for space in kind.spaces:
            good = sum(kind.operands(*space.at(rng.randrange(space.size))) is not None for _ in range(looks))
            total += space.size * good / looks * side / 100
            if total > enough:
                return int(total)
    return int(total)
