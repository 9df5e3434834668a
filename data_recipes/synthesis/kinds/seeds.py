"""What is taken of a seed's row for a prompt."""

from collections.abc import Mapping
from typing import Any

from data_recipes.synthesis.kinds.base import Unusable

CHARACTERS = 8000
"""Of a seed's text; ours. With a prompt it is about 2,500 tokens of English, so that question and answer fit 8K."""


def seed_text(seed: Mapping[str, Any], column: str = "text", characters: int = CHARACTERS) -> str:
    """A column's text without empty ends, cut at the last end of a paragraph or line that fits; `Unusable` without."""
    value = seed.get(column)
    text = value.replace("\r\n", "\n").strip() if isinstance(value, str) else ""
    if not text:
        raise Unusable(f"no {column}")
    if len(text) <= characters:
        return text
    for end in ("\n\n", "\n", " "):
        cut = text.rfind(end, characters // 2, characters)
        if cut > 0:
            return text[:cut].rstrip()
    return text[:characters].rstrip()
