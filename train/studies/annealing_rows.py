"""The rows of the annealing study: a budget of one text in one order, cut where tails begin, and what branches off.

All trainings of a seed that keep the mixture read the same rows in the same order, whatever their tail. A richer tail
takes the place of the last rows and goes on in each domain where the rows before it stopped, so that no row is read
twice. `spread` has in all just as much of each domain as a run with the richer tail, at even shares from the first row.
"""

import json
import random
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

from data_recipes.manifest import MANIFEST_NAME, read_manifest, whole_folder, write_manifest
from data_recipes.packing.build import build_phases
from data_recipes.packing.request import corpus_sources
from data_recipes.recipes.curriculum import domain_tokens
from data_recipes.recipes.quotas import proportional_shares
from data_recipes.recipes.recipe import Domain, Recipe, Subset, load_recipe
from train.errors import TrainError

# The last mixture of the stable stage, and that of the last annealing phase: more instructions and mathematics.
USUAL, RICHER = load_recipe("25"), load_recipe("27")
CONTEXT_LENGTH = 128
PASSAGE_CHARACTERS = 600  # two or three rows
PASSAGE = re.compile(rf".{{1,{PASSAGE_CHARACTERS}}}(?=\s|$)|.{{1,{PASSAGE_CHARACTERS}}}", re.DOTALL)  # between words
START = "start"


@dataclass(frozen=True)
class Budget:
    """A whole training of `steps`, whose last `tails` (per cent of it, ascending) may be annealed; `mixed`: the tail
    whose richer rows are also spread over the whole budget."""

    steps: int
    tokens_per_step: int
    tails: tuple[int, ...]
    mixed: int

    def __post_init__(self) -> None:
        if self.tail_steps(self.tails[0]) < 1 or len({self.tail_steps(tail) for tail in self.tails}) < len(self.tails):
            raise TrainError(
                f"--steps {self.steps}: too few for tails of {', '.join(map(str, self.tails))} % of them; give at "
                f"least {-(-100 // self.tails[0])}."
            )

    def tail_steps(self, tail: int) -> int:
        """The last `tail` per cent, in steps."""
        return round(self.steps * tail / 100)

    def usual_phases(self, tail: int | None = None) -> list[str]:
        """The phases of the last `tail` per cent, or of the whole budget, with the mixture kept."""
        parts = [f"last-{part}" for part in reversed(self.tails) if tail is None or part <= tail]
        return parts if tail is not None else [START, *parts]

    def recipes(self, corpus: Path) -> tuple[list[Recipe], list[Recipe]]:
        """The phases of the usual text and of richer tails, each after the one that it continues; and those of
        `spread`, which begin at the first document again."""
        usual, richer, last = shares_of(USUAL), shares_of(RICHER), self.tail_steps(self.mixed)
        spread = {
            domain: (usual[domain] * (self.steps - last) + richer[domain] * last) / self.steps for domain in usual
        }
        names = self.usual_phases()
        starts = [0, *(self.steps - self.tail_steps(tail) for tail in reversed(self.tails)), self.steps]
        sources = corpus_sources(corpus)

        def recipe(name: str, steps: int, shares: Mapping[str, float], after: str | None) -> Recipe:
            tokens = proportional_shares(
                [round(1e9 * share) for share in shares.values()], steps * self.tokens_per_step
            )
            subsets = tuple(
                Subset(name=domain, domain=cast(Domain, domain), tokens=count, source=sources[domain])
                for domain, count in zip(shares, tokens, strict=True)
            )
            return Recipe(name=name, context_length=CONTEXT_LENGTH, subsets=subsets, after=after)

        kept = [
            recipe(name, end - begin, usual, before)
            for name, before, (begin, end) in zip(names, [None, *names], pairwise(starts), strict=False)
        ]
        richer_tails = [
            recipe(f"richer-{tail}", self.tail_steps(tail), richer, before)
            for tail, before in zip(reversed(self.tails), names, strict=False)
        ]
        return [*kept, *richer_tails], [
            recipe("spread-start", self.steps - last, spread, None),
            recipe(f"spread-{self.mixed}", last, spread, "spread-start"),
        ]


def shares_of(recipe: Recipe) -> dict[str, float]:
    """The share of each domain in a mix."""
    tokens = domain_tokens(recipe)
    return {domain: count / recipe.tokens for domain, count in tokens.items()}


def build_rows(budget: Budget, corpus: Path, tokenizer: Path, out: Path, *, seed: int) -> None:
    """Build them below `out`, or find them there; the seed gives the order of the text."""
    passages = out / "passages"
    write_passages(corpus, passages, seed=seed)
    for recipes in budget.recipes(passages):
        build_phases(
            recipes, out / "rows", tokenizer=tokenizer, store=out / "store", seed=seed, workers=1, progress=False
        )


def write_passages(corpus: Path, out: Path, *, seed: int) -> None:
    """A corpus with the documents cut into passages, all of them shuffled.

    A tail has so few rows that whole documents, some of hundreds of rows, would make it a text of its own: a model at
    a high rate then learns a few documents by heart, and what a tail does to that is not what annealing does.
    """
    made_from = {"corpus": read_manifest(corpus, kind="corpus")["fingerprint"]}
    cut = {"pattern": PASSAGE.pattern}
    if (out / MANIFEST_NAME).is_file():
        there = read_manifest(out, kind="corpus")
        if (there["inputs"], there["config"]) == (made_from, cut):
            return
    shutil.rmtree(out, ignore_errors=True)
    counts = {}
    with whole_folder(out) as partial:
        (partial / "train").mkdir()
        for domain, source in corpus_sources(corpus).items():
            with Path(str(source.path)).open(encoding="utf-8") as file:
                passages = [passage for line in file for passage in PASSAGE.findall(json.loads(line)["text"])]
            random.Random(seed).shuffle(passages)
            with (partial / "train" / f"{domain}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps({"text": passage}, ensure_ascii=False) + "\n" for passage in passages)
            counts[domain] = len(passages)
        write_manifest(partial, kind="corpus", inputs=made_from, config=cut, counts=counts, seed=seed)
