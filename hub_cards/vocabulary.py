"""The words that the Hub knows (vocabulary.yaml), and the nearest one to a word that it does not."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def vocabulary() -> dict[str, list[str]]:
    """Lists of licences, languages, tags and metadata keys by name."""
    return yaml.safe_load(Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8"))


def nearest(word: Any, known: Iterable[str]) -> str:
    """'; did you mean ...?' for the nearest known word, or nothing."""
    near = get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
