"""What is taken of a seed's row for a prompt."""

from collections.abc import Mapping
from typing import Any

from data_recipes.answers.final import final_answer, last_boxed
from data_recipes.synthesis.kinds.base import Unusable

CHARACTERS = 8000
"""Of a seed's text; ours. With a prompt it is about 2,500 tokens of English, so that question and answer fit 8K."""


def seed_text(seed: Mapping[str, Any], column: str = "text", characters: int = CHARACTERS) -> str:
    """A column's text without empty ends, cut at the last end of a paragraph or line that fits; `Unusable` without."""
    text = text_of(seed.get(column))
    if not text:
        raise Unusable(f"no {column}")
    if len(text) <= characters:
        return text
    for end in ("\n\n", "\n", " "):
        cut = text.rfind(end, characters // 2, characters)
        if cut > 0:
            return text[:cut].rstrip()
    return text[:characters].rstrip()


def whole_seed_text(seed: Mapping[str, Any], column: str) -> str:
    """A column's text that means nothing when it is cut; `Unusable` where it is absent or too long."""
    text = text_of(seed.get(column))
    if not text:
        raise Unusable(f"no {column}")
    if len(text) > CHARACTERS:
        raise Unusable(f"{column} too long")
    return text


def gold_answer(seed: Mapping[str, Any], column: str = "answer") -> str | None:
    """The final answer that a seed gives, None without: of a worked solution what is boxed, or follows `####`."""
    value = seed.get(column)
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else text_of(value)
    boxed = last_boxed(text)
    if boxed or "answer is" in text.lower():
        return final_answer(text).strip() or None
    return text.rpartition("####")[2].strip() or None


def text_of(value: Any) -> str:
    """A text with lines ended by `\\n` and no empty ends; nothing of what is no text."""
    return value.replace("\r\n", "\n").replace("\r", "\n").strip() if isinstance(value, str) else ""
