"""Drawing problems: every kind by name, and a seeded stream of problems of one side of the held-out split."""

from collections.abc import Sequence
from random import Random

from data_recipes.errors import DataError
from data_recipes.synthesis.programs import arithmetic, basic, calendar
from data_recipes.synthesis.programs.problem import LANGUAGES, Problem, ProblemKind, is_heldout, put_into_words


def all_kinds() -> dict[str, ProblemKind]:
    """Every kind by name, easiest first."""
    kinds = sorted([*basic.KINDS, *arithmetic.KINDS, *calendar.KINDS], key=lambda kind: kind.level)
    return {kind.name: kind for kind in kinds}


class ProblemSource:
    """Draws problems of one side of the split; the same seed gives the same problems.

    `level_weights` gives the share of each level; kinds share their level by their own weight.
    """

    def __init__(
        self,
        *,
        seed: int | str,
        heldout: bool,
        level_weights: dict[int, float],
        kinds: Sequence[str] | None = None,
    ) -> None:
        known = all_kinds()
        unknown = sorted(set(kinds or ()) - set(known))
        if unknown:
            raise DataError(f"unknown kind of problem {', '.join(unknown)}. Known: {', '.join(known)}.")
        chosen = [known[name] for name in (kinds or known)]
        chosen = [kind for kind in chosen if level_weights.get(kind.level, 0) > 0]
        if not chosen:
            raise DataError(f"no kind of problem has one of the levels {sorted(level_weights)}.")
        total = {
            level: sum(kind.weight for kind in chosen if kind.level == level)
            for level in {kind.level for kind in chosen}
        }
        self.kinds = chosen
        self.weights = [level_weights[kind.level] * kind.weight / total[kind.level] for kind in chosen]
        self.heldout = heldout
        self.rng = Random(f"problems-{seed}-{heldout}")

    def draw(self, *, language: str | None = None, kind: ProblemKind | None = None) -> Problem:
        """The next problem, in English or Chinese with equal chance unless a language is given."""
        kind = kind or self.rng.choices(self.kinds, self.weights)[0]
        language = language or self.rng.choice(LANGUAGES)
        while True:
            operands = kind.draw(self.rng)
            if is_heldout(kind, operands) == self.heldout:
                return put_into_words(kind, operands, language, self.rng)
