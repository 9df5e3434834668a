"""The two kinds of RULER that ask for frequent words: in a numbered list, and in a coded text."""

import math
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eval.benchmarks.tasks.ruler.haystack import prompt_text, tokens
from eval.benchmarks.tasks.ruler.words import distinct, vocabulary
from eval.errors import EvalError

COMMON = 10
CODED = 3


def largest(size: Callable[[int], int], most: int, room: int) -> int:
    """The largest number up to `most` whose size is at most `room`, or one within 8 tokens of it. -1: not even 0.

    Sizes grow nearly in proportion, so that guessing in between takes a few steps where halving takes a dozen.
    """
    low, low_size = 0, size(0)
    if low_size > room:
        return -1
    high, high_size = most, size(most)
    if high_size <= room:
        return most
    while high - low > 1 and room - low_size > 8:
        guess = low + (high - low) * (room - low_size) // (high_size - low_size)
        middle = min(max(guess, low + 1), high - 1)
        found = size(middle)
        if found <= room:
            low, low_size = middle, found
        else:
            high, high_size = middle, found
    return low


def numbered(rng: random.Random, common: Sequence[str], rare: Sequence[str], often: int, seldom: int) -> str:
    words = [*common] * often + [*rare] * seldom
    rng.shuffle(words)
    return " ".join(f"{place}. {word}" for place, word in enumerate(words, 1))


@dataclass(frozen=True)
class Frequencies:
    """How often the common and the other words stand in the list, and in the example before it (of `shown` words)."""

    often: int
    seldom: int
    shown: int
    shown_often: int
    shown_seldom: int


# RULER's own, from 4,096 tokens on; and those for shorter texts, or a tokenizer that needs many tokens.
LONG, SHORT = Frequencies(30, 3, 40, 10, 3), Frequencies(6, 1, 20, 3, 1)
ASK_COMMON = (
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n"
)
QUESTION_COMMON = f"\nQuestion: What are the {COMMON} most common words in the above list?"
START_COMMON = f"Answer: The top {COMMON} words that appear most often in the list are:"


def common_words(rng: random.Random, tokenizer: Any, length: int) -> dict[str, Any]:
    """The ten words that stand most often in a numbered list; after a short example."""
    words = vocabulary(rng, LONG.shown + COMMON + length // 8)
    shown, words = words[: LONG.shown], words[LONG.shown :]
    common, rest = words[:COMMON], words[COMMON:]
    order = rng.getrandbits(64)
    for frequencies in (LONG, SHORT) if length >= 4096 else (SHORT,):
        text = list_that_fits(frequencies, shown, common, rest, order, tokenizer, length)
        if text is not None:
            return {"input": text, "gen_prefix": START_COMMON, "outputs": common, "needles": [], "depths": []}
    raise EvalError(f"RULER: {length} tokens are too few for a list of common words.")


def list_that_fits(
    frequencies: Frequencies,
    shown: Sequence[str],
    common: Sequence[str],
    rest: Sequence[str],
    order: int,
    tokenizer: Any,
    length: int,
    new_tokens: int = 120,
) -> str | None:
    """The question with as many of the other words as fit; None where not even one does."""
    parts = shown[:COMMON], shown[COMMON : frequencies.shown]
    example = numbered(random.Random(order), *parts, frequencies.shown_often, frequencies.shown_seldom)
    answer = " ".join(f"{place}. {word}" for place, word in enumerate(shown[:COMMON], 1))
    before = f"{ASK_COMMON}{example}{QUESTION_COMMON} {START_COMMON} {answer}\n{ASK_COMMON}"

    def text(count: int) -> str:
        list_ = numbered(random.Random(order), common, rest[:count], frequencies.often, frequencies.seldom)
        return before + list_ + QUESTION_COMMON

    def size(count: int) -> int:
        return tokens(tokenizer, prompt_text(text(count), START_COMMON)) + new_tokens + 1

    count = largest(size, len(rest), length)
    return text(count) if count > 0 else None


def coded_words(rng: random.Random, tokenizer: Any, length: int, *, new_tokens: int = 50) -> dict[str, Any]:
    """The three most frequent coded words of a text whose frequencies follow Zipf's law with exponent 2.

    The most frequent of all is "....", which the question says to ignore.
    """
    ask = (
        "Read the following coded text and track the frequency of each coded word. "
        "Find the three most frequently appeared coded words. "
    )
    question = (
        "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
        "What are the three most frequently appeared words in the above coded text?"
    )
    start = "Answer: According to the coded text above, the three most frequently appeared words are:"
    coded = distinct(lambda source: "".join(source.choices(string.ascii_lowercase, k=6)), max(20, length // 50), rng)
    order = rng.getrandbits(64)

    def text(count: int) -> str:
        shares = [6 / math.pi**2 / rank**2 for rank in range(1, len(coded) + 2)]
        words = [word for word, share in zip(["....", *coded], shares, strict=True) for _ in range(int(count * share))]
        random.Random(order).shuffle(words)
        return ask + " ".join(words) + question

    def size(count: int) -> int:
        return tokens(tokenizer, prompt_text(text(count), start)) + new_tokens + 1

    count = largest(size, length, length)
    if count < 60:  # below that the third and the fourth word may stand equally often
        raise EvalError(f"RULER: {length} tokens are too few for a coded text.")
    return {"input": text(count), "gen_prefix": start, "outputs": coded[:CODED], "needles": [], "depths": []}
