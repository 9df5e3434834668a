"""The kinds of problems as docs/problems.md shows them, each with an example.

python -m data_recipes.synthesis.programs.catalogue docs/problems.md     # writes the tables there anew
"""

import re
import sys
from pathlib import Path
from random import Random

from data_recipes.synthesis.programs.draw import Stock, about_how_many, all_kinds
from data_recipes.synthesis.programs.problem import Problem, ProblemKind, put_into_words

HEAD = "| kind | different problems, about | an example | its answer |\n|---|---:|---|---|"
TABLES = re.compile(r"(<!-- level (\d): begin -->\n).*?(<!-- level \2: end -->)", re.DOTALL)


def example(kind: ProblemKind, language: str = "en") -> Problem:
    """A problem of a kind, always the same one."""
    operands = Stock(kind, len(kind.spaces) - 1, seed=0, unit=0, units=1).draw(heldout=False)
    assert operands is not None
    return put_into_words(kind, kind.arrange(operands, Random(kind.name)), language, Random(kind.name))


def rounded(number: int) -> str:
    """1,200 or 3.4e+07."""
    return f"{float(f'{number:.2g}'):,.0f}" if number < 1e6 else f"{number:.0e}"


def table(level: int) -> str:
    rows = []
    for kind in all_kinds().values():
        if kind.level == level:
            problem = example(kind)
            number = about_how_many({kind.name: 1.0}, heldout=False, enough=10**30)
            asked = problem.question.replace("\n", "<br>").replace("|", r"\|")
            rows.append(f"| `{kind.name}` | {rounded(number)} | {asked} | {problem.answer.replace(chr(10), '<br>')} |")
    return "\n".join([HEAD, *rows])


def with_tables(page: str) -> str:
    """A page with the table of each level between its marks."""
    return TABLES.sub(lambda found: f"{found[1]}{table(int(found[2]))}\n{found[3]}", page)


if __name__ == "__main__":
    for place in map(Path, sys.argv[1:]):
        place.write_text(with_tables(place.read_text(encoding="utf-8")), encoding="utf-8")
