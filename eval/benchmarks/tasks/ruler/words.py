"""Words, keys and filler prose for generated haystacks: nothing is fetched, and a seed gives the same text anywhere."""

import json
import random
import uuid
from collections.abc import Callable
from pathlib import Path

LISTS: dict[str, list[str]] = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
ADJECTIVES, NOUNS, VERBS = LISTS["adjectives"], LISTS["nouns"], LISTS["verbs"]
NAMES, PLACES, TIMES = LISTS["names"], LISTS["places"], LISTS["times"]


def sentence(rng: random.Random) -> str:
    """A plain statement of about 15 tokens; there are some 10^15 of them, so two are hardly ever the same."""
    keeper = f"The {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} keeper of {rng.choice(PLACES)}"
    subject = rng.choice((rng.choice(NAMES), keeper))
    thing = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    end = rng.choice((f" beside the {rng.choice(NOUNS)}", f" near {rng.choice(PLACES)}", ""))
    return f"{subject} {rng.choice(VERBS)} the {thing}{end} {rng.choice(TIMES)}."


def word_pair(rng: random.Random) -> str:
    """A key such as "frosty-lantern"; there are about 30,000."""
    return f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}"


def number(rng: random.Random) -> str:
    """Seven digits."""
    return str(rng.randrange(10**6, 10**7))


def identifier(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def distinct(draw: Callable[[random.Random], str], count: int, rng: random.Random) -> list[str]:
    """That many different draws."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw(rng)] = None
    return list(found)


def vocabulary(rng: random.Random, count: int) -> list[str]:
    """Different words in random order: single ones first, then compounds such as "coldharbor"."""
    words = sorted({*ADJECTIVES, *NOUNS, *VERBS})
    rng.shuffle(words)
    known = set(words)
    while len(words) < count:
        compound = rng.choice(ADJECTIVES) + rng.choice(NOUNS)
        if compound not in known:
            known.add(compound)
            words.append(compound)
    return words[:count]
