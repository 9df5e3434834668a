"""What a run will take, from its seeds alone: requests, tokens, and the first question as it will be asked."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from random import Random
from typing import Any

from data_recipes.cleaning.pipeline.inputs import Inventory
from data_recipes.endpoint.request import Answer
from data_recipes.synthesis.kinds.base import Rejected, Unusable
from data_recipes.synthesis.run import Run
from data_recipes.synthesis.seeds import Seed, seeds_of
from data_recipes.synthesis.summary import cost

SAMPLED = 256
TOKENS_A_CHARACTER = {True: 0.25, False: 0.7}
"""Of ASCII, and of others: about right for English and Chinese with the tokenizers of today's models."""


class Asked(Exception):
    """A kind has asked its first question."""


def about_tokens(text: str) -> float:
    """A guess at the tokens of a text, without any tokenizer."""
    ascii = sum(character.isascii() for character in text)
    return ascii * TOKENS_A_CHARACTER[True] + (len(text) - ascii) * TOKENS_A_CHARACTER[False]


def estimate(run: Run, inventory: Inventory) -> dict[str, Any]:
    """Counts of a run that is yet to begin. Tokens are a guess from a sample of the seeds, or what seeds took that were
    made here before with the same settings."""
    sampled, seeds = _sample(run, inventory)
    questions = [_first_question(run, seed) for seed in sampled]
    asked = [question for question in questions if question is not None]
    share = len(asked) / max(len(questions), 1)
    requests = round(seeds * share) * run.kind.questions * run.votes
    each = sum(map(about_tokens, asked)) / max(len(asked), 1)
    most = run.settings.get("max_tokens", run.settings.get("max_completion_tokens"))
    found: dict[str, Any] = {
        "seeds": seeds,
        "unusable_seeds": seeds - round(seeds * share),
        "requests": requests,
        "prompt_tokens": round(requests * each),
        "answer_tokens": None if most is None else requests * most,
        "basis": f"{len(questions)} seeds; answers as long as max_tokens allows",
        "first_prompt": next(iter(asked), None),
    }
    measured = _measured(run)
    if measured["seeds"]:
        for name, counted in (("prompt_tokens", "prompt_tokens"), ("answer_tokens", "completion_tokens")):
            found[name] = round(measured[counted] / measured["seeds"] * seeds)
        found["basis"] = f"{measured['seeds']:,} seeds made here before"
    if run.prices is not None and found["answer_tokens"] is not None:
        tokens = {"prompt_tokens": found["prompt_tokens"], "completion_tokens": found["answer_tokens"]}
        found["cost"] = round(cost(tokens, run.prices), 6)
    return found


def _sample(run: Run, inventory: Inventory) -> tuple[list[Seed], int]:
    """The first seed and some of the others, all with the same chance; and how many there are."""
    names = [*run.kind.columns, *run.kind.optional_columns]
    units = range(len(inventory.units))
    seeds: Iterator[Seed] = chain.from_iterable(seeds_of(inventory, unit, names, run.columns) for unit in units)
    rng, sampled, count = Random(0), list[Seed](), 0
    for seed in islice(seeds, run.limit):
        if count < SAMPLED:
            sampled.append(seed)
        elif (place := rng.randrange(count + 1)) < SAMPLED and place:
            sampled[place] = seed
        count += 1
    return sampled, count


def _first_question(run: Run, seed: Seed) -> str | None:
    """All that is sent with the first request for a seed; None where there will be none."""
    sent: list[str] = []

    async def ask(user: str, system: str | None = None, history: Sequence[Mapping[str, str]] = (), **_: Any) -> Answer:
        sent.append("\n\n".join([*filter(None, [system]), *(message["content"] for message in history), user]))
        raise Asked

    if isinstance(seed.values, str):
        return None
    with suppress(Asked, Unusable, Rejected):
        asyncio.run(run.kind.make(seed.values, ask))
    return sent[0] if sent else None


def _measured(run: Run) -> Counter[str]:
    """Seeds of shards that were made in this folder with the same settings, and the tokens that they took."""
    total: Counter[str] = Counter()
    for path in (run.work / "made").glob("[!.]*.json"):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if record.get("asked") == run.asked:
            total += Counter({name: record.get(name, 0) for name in ("seeds", "prompt_tokens", "completion_tokens")})
    return total
