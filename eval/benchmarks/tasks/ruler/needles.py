"""The kinds of RULER (Hsieh et al., 2024) that hide sentences: needles in a haystack, and chains of variables.

Prompts and numbers are RULER's; haystacks, keys and values are made here.
"""

import random
import string
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from eval.benchmarks.tasks.ruler.haystack import Frame, Needle, build
from eval.benchmarks.tasks.ruler.words import distinct, identifier, number, sentence, word_pair

GRASS = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
DRAW: dict[str, Callable[[random.Random], str]] = {"words": word_pair, "numbers": number, "uuids": identifier}


def needle_question(
    rng: random.Random,
    tokenizer: Any,
    length: int,
    *,
    haystack: str,
    keys: str = "words",
    values: str = "numbers",
    key_count: int = 1,
    value_count: int = 1,
    query_count: int = 1,
    depths: Sequence[float] | None = None,
) -> dict[str, Any]:
    """A question for the values of `query_count` of `key_count` keys, with `value_count` values each.

    `haystack`: "repeat" (one remark over and over), "prose", or "needles" (further keys and values, not asked for).
    `depths` (0 to 1) of the needles, by default drawn; asked-for keys come first.
    """
    key_count = max(key_count, query_count)
    count = key_count * value_count
    # Distractors are drawn from the same keys and values, so none of them answers the question by chance.
    spare = 64 + length // 8 if haystack == "needles" else 0
    names = distinct(DRAW[keys], key_count + spare, rng)
    facts = distinct(DRAW[values], count + spare, rng)
    asked, answers = names[:query_count], facts[: query_count * value_count]
    texts = [NEEDLE.format(kind=values, key=names[i // value_count], value=facts[i]) for i in range(count)]
    places = list(depths) if depths is not None else [rng.random() for _ in texts]
    others = iter(zip(names[key_count:], facts[count:], strict=True))

    def filler() -> str:
        if haystack == "repeat":
            return GRASS
        if haystack == "prose":
            return sentence(rng)
        key, value = next(others)
        return NEEDLE.format(kind=values, key=key, value=value)

    one = query_count * value_count == 1
    kind = values.removesuffix("s") if one else values
    query = asked[0] if len(asked) == 1 else ", ".join(asked[:-1]) + ", and " + asked[-1]
    hidden = f"A special magic {kind} is" if one else f"Some special magic {kind} are"
    question = f"What {'is' if one else 'are all'} the special magic {kind} for {query} mentioned in the provided text?"
    frame = Frame(
        before=(
            f"{hidden} hidden within the following text. Make sure to memorize it. "
            f"I will quiz you about the {kind} afterwards.\n"
        ),
        after=f"\n{question}",
        answer_start=f"The special magic {kind} for {query} mentioned in the provided text {'is' if one else 'are'}",
        new_tokens=128,
        joiner=" " if haystack == "prose" else "\n",
    )
    needles = [Needle(text, depth) for text, depth in zip(texts, places, strict=True)]
    built = build(tokenizer, frame, length=length, needles=needles, filler=filler)
    return built | {"outputs": answers, "needles": texts}


def chain(rng: random.Random, names: Sequence[str], value: str) -> list[str]:
    """Assignments that hand a value on from the first name to the last."""
    handed = [f"VAR {after} = VAR {before}" for before, after in pairwise(names)]
    return [f"VAR {names[0]} = {value}", *handed]


def variable_question(rng: random.Random, tokenizer: Any, length: int, *, hops: int = 4) -> dict[str, Any]:
    """Which variables have a value that is handed on `hops` times; with a short worked example before it."""

    def letters(count: int) -> Callable[[random.Random], str]:
        return lambda source: "".join(source.choices(string.ascii_uppercase, k=count))

    ask = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
    question = "\nQuestion: Find all variables that are assigned the value {value} in the text above."
    start = (
        "Answer: According to the chain(s) of variable assignment in the text above, {count} variables are assigned "
        "the value {value}, they are:"
    )
    shown = distinct(letters(3), hops + 1, rng)
    names = distinct(letters(5), hops + 1, rng)
    values = distinct(lambda source: str(source.randrange(10_000, 100_000)), 2, rng)
    example = ask + "\n".join(line for step in chain(rng, shown, values[0]) for line in (GRASS, step))
    example += question.format(value=values[0]) + " " + start.format(count=hops + 1, value=values[0])
    frame = Frame(
        before=f"{example} {' '.join(shown)}\n\n{ask}",
        after=question.format(value=values[1]),
        answer_start=start.format(count=hops + 1, value=values[1]),
        new_tokens=64,
        joiner="\n",
    )
    texts = chain(rng, names, values[1])
    needles = [Needle(text, depth) for text, depth in zip(texts, sorted(rng.random() for _ in texts), strict=True)]
    built = build(tokenizer, frame, length=length, needles=needles, filler=lambda: GRASS)
    return built | {"outputs": names, "needles": texts}
