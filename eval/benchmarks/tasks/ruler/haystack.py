"""Text of a given number of tokens with needles at given depths, measured with the tokenizer of the model.

A prompt is: what stands before, the haystack, what stands after, and the beginning of the answer. With the new tokens
it fits into `length`. The depth of a needle is the share of the filler's tokens that stand before it.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from eval.errors import EvalError


@dataclass(frozen=True)
class Frame:
    """What stands around a haystack, and how many tokens the answer may take."""

    before: str
    after: str
    answer_start: str
    new_tokens: int
    joiner: str = " "


@dataclass(frozen=True)
class Needle:
    text: str
    depth: float  # 0 (before the filler) to 1 (behind it)


def tokens(tokenizer: Any, text: str, *, special: bool = True) -> int:
    return len(tokenizer(text, add_special_tokens=special)["input_ids"])


def prompt_text(text: str, answer_start: str) -> str:
    """The whole prompt as the harness joins it."""
    return f"{text} {answer_start}"


def build(
    tokenizer: Any, frame: Frame, *, length: int, needles: Sequence[Needle], filler: Callable[[], str]
) -> dict[str, Any]:
    """`input`, `gen_prefix`, and of each needle, in the order given, the `depths` reached in percent.

    As many units of filler as fit; each needle stands between the two units that come nearest to its depth.
    `EvalError` where the needles alone do not fit.
    """
    length -= 1  # for a token before the text, which the model may be given though its tokenizer writes none
    fixed = tokens(tokenizer, prompt_text(frame.before + frame.after, frame.answer_start)) + frame.new_tokens
    fixed += sum(tokens(tokenizer, frame.joiner + needle.text, special=False) for needle in needles)
    if fixed > length:
        raise EvalError(
            f"RULER: {length + 1} tokens are too few for a question, which takes {fixed + 1} without its haystack."
        )
    units: list[str] = []
    counts: list[int] = []
    while sum(counts) < length - fixed:
        drawn = [filler() for _ in range(32)]
        units += drawn
        encoded = tokenizer([frame.joiner + unit for unit in drawn], add_special_tokens=False)["input_ids"]
        counts += map(len, encoded)
    kept = bisect_left(list(accumulate(counts)), length - fixed)
    while True:
        context, depths = place(units[:kept], counts[:kept], needles, frame.joiner)
        text = frame.before + context + frame.after
        excess = tokens(tokenizer, prompt_text(text, frame.answer_start)) + frame.new_tokens - length
        if excess <= 0 or kept == 0:
            break
        kept -= max(1, min(kept, excess // max(counts)))
    if excess > 0:
        raise EvalError(f"RULER: {length + 1} tokens are too few for a question, by {excess}.")
    return {"input": text, "gen_prefix": frame.answer_start, "depths": depths}


def place(
    units: Sequence[str], counts: Sequence[int], needles: Sequence[Needle], joiner: str
) -> tuple[str, list[float]]:
    """The haystack with its needles, and the depth that each has reached, in percent of the filler's tokens."""
    before = [0, *accumulate(counts)]
    whole = max(1, before[-1])
    slots = [min(range(len(before)), key=lambda slot: abs(before[slot] - needle.depth * whole)) for needle in needles]
    parts = [(slot, 1, unit) for slot, unit in enumerate(units)]
    # A needle of slot s stands before unit s; needles of one slot keep their order.
    parts += [(slot, 0, needle.text) for slot, needle in zip(slots, needles, strict=True)]
    parts.sort(key=lambda part: part[:2])
    return joiner.join(part[2] for part in parts), [100 * before[slot] / whole for slot in slots]
