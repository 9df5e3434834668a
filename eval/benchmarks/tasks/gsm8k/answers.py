"""Judges answers to GSM8K: the number that a worked answer ends in, compared as a number.

The last of these counts: a \\boxed{...}, what follows "answer is" (or "answer:", "####"); else the last number of the
answer. What follows a further question, which a base model likes to ask itself, is not part of the answer.
"""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from data_recipes.answers.final import last_boxed, without_further_questions

# Thousands are joined by commas; a minus sign belongs to the number unless it stands between two.
NUMBER = r"(?:(?<![\w.)\]])-)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+(?![\d.,]\d))?"
MARK = re.compile(r"answer\s*(?:is|was|:|=)\**\s*:?|####", re.IGNORECASE)
# A number beyond these digits is no answer, only work for whoever compares it.
MOST_DIGITS = 100


def plain_numbers(text: str) -> str:
    """TeX and money as plain numbers: `\\$1{,}000` is 1,000, `\\frac{3}{4}` is 3/4, `-$5` is -5."""
    text = re.sub(r"\\d?t?frac\s*\{(\d+)\}\s*\{(\d+)\}", r"\1/\2", text)
    text = text.replace("{,}", ",").replace("\\,", "").replace("\\!", "").replace("\u2212", "-")
    return re.sub(r"\\?[$€£]\s*(?=[-.\d])", "", text)


def numbers(text: str) -> list[Fraction]:
    found = []
    for match in re.finditer(NUMBER, plain_numbers(text)):
        plain = re.sub(r"[,\s]", "", match[0])
        if len(plain) <= MOST_DIGITS and not re.search(r"/0+$", plain):
            top, _, bottom = plain.partition("/")
            found.append(Fraction(top) / int(bottom or 1))
    return found


def final_number(text: str) -> Fraction | None:
    """The number that a worked answer ends in, or None where it holds none."""
    text = without_further_questions(text)
    boxed = last_boxed(text)
    marks = list(MARK.finditer(text))
    if boxed and (not marks or boxed[0] > marks[-1].start()) and (inside := numbers(boxed[1])):
        return inside[-1]
    end = len(text)
    for mark in reversed(marks):
        line, end = text[mark.end() : end].lstrip().split("\n")[0], mark.start()
        # "The answer is 3 x 6 = 18 dollars out of 20": what follows the last equals sign, then the first number.
        if after := numbers(line.split("=")[-1]) or numbers(line):
            return after[0]
    everywhere = numbers(text)
    return everywhere[-1] if everywhere else None


def gold_number(answer: str) -> Fraction:
    """The number of a GSM8K answer, which stands behind `####`."""
    return numbers(answer.split("####")[-1])[-1]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    return {"exact_match": float(final_number(results[0]) == gold_number(doc["answer"]))}
