"""The letter that an answer to a multiple-choice question ends in."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data_recipes.answers.final import last_boxed, without_further_questions

MARKED = re.compile(r"(?i:answer|choice|option)\s*(?:is|:|=)?\W{0,12}(?:\\text\{)?\(?([A-D])(?![\w'])(?! [a-z])")
PLAIN = re.compile(r"\(([A-D])\)|^[^\w\n]*([A-D])[^\w\n]*$", re.MULTILINE)


def final_letter(text: str, choices: Sequence[str] = ()) -> str | None:
    """The last of: a boxed letter, "answer is (B)"; else the last "(B)" or line that is a letter; else the one choice
    whose text the last line ends in."""
    text = without_further_questions(text)
    boxed = last_boxed(text)
    marked = list(MARKED.finditer(text))
    letter = re.search(r"(?<![A-Za-z])([A-D])(?![A-Za-z])", boxed[1]) if boxed else None
    if boxed and letter and (not marked or boxed[0] > marked[-1].start()):
        return letter[1]
    if marked:
        return marked[-1][1]
    if plain := list(PLAIN.finditer(text)):
        return plain[-1][1] or plain[-1][2]
    last = text.rstrip().rstrip(".").rsplit("\n", 1)[-1].lower()
    named = dict(zip("ABCD", choices, strict=False))
    ending = [letter for letter, choice in named.items() if choice and last.endswith(choice.lower())]
    return ending[0] if len(ending) == 1 else None


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    return {"acc": float(final_letter(results[0], doc["choices"]) == "ABCD"[doc["answer"]])}
