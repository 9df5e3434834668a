"""A Chinese reference work to look things up in: passages found by TF-IDF of pairs of characters, names by its titles.

All of it is held in memory: an encyclopedia, not the web.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data_recipes.instruct.prose import HAN

_RUNS = re.compile(f"[{HAN}]+|[A-Za-z]+|[0-9]+")
_IS_HAN = re.compile(f"[{HAN}]")
_MARKED = re.compile(r"《([^《》\n]{1,30})》|「([^「」\n]{2,20})」|“([^“”\n]{2,20})”")
_YEARS = re.compile(r"(?<![0-9])[0-9]{3,4}(?=\s*年)")
_LATIN_NAMES = re.compile(r"\b[A-Z][A-Za-z]+(?:[ ·-][A-Z][A-Za-z]+)*")
LONGEST_TITLE = 12
"""Characters; longer titles are found in title marks only."""
KEYWORDS = 16
"""Terms of a question that it is looked up by: the rarest ones."""


@dataclass(frozen=True)
class Found:
    """A passage that is near a question: `nearness` is the cosine of their TF-IDF weights."""

    nearness: float
    title: str
    text: str


class Reference:
    """Passages (title, text) that can be looked up."""

    def __init__(self, passages: Iterable[tuple[str, str]]) -> None:
        self.passages = [(title.strip(), text) for title, text in passages]
        self.titles = {title for title, _ in self.passages if 2 <= len(title) <= LONGEST_TITLE}
        self._numbers: dict[str, int] = {}
        terms, places, counts = [], [], []
        for place, (title, text) in enumerate(self.passages):
            for term, count in Counter(terms_of(f"{title} {text}")).items():
                terms.append(self._numbers.setdefault(term, len(self._numbers)))
                places.append(place)
                counts.append(count)
        order = np.argsort(np.array(terms, dtype=np.int64), kind="stable")
        self._places = np.array(places, dtype=np.int64)[order]
        frequency = np.bincount(terms, minlength=len(self._numbers)) if terms else np.zeros(0, dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(frequency)])
        self._rarity = np.log((1 + len(self.passages)) / (1 + frequency)) + 1
        weights = (1 + np.log(np.array(counts, dtype=np.float64)[order])) * np.repeat(self._rarity, frequency)
        lengths = np.sqrt(np.bincount(self._places, weights**2, minlength=len(self.passages)))
        self._weights = weights / np.maximum(lengths[self._places], 1e-12) if len(weights) else weights

    def look_up(self, question: str, most: int) -> list[Found]:
        """The passages nearest to a question, the nearest first; those that share no term are none."""
        numbers = {self._numbers[term] for term in terms_of(question) if term in self._numbers}
        keywords = sorted(numbers, key=lambda number: (-self._rarity[number], number))[:KEYWORDS]
        if not keywords:
            return []
        scores: dict[int, float] = {}
        for number in keywords:
            stretch = slice(self._starts[number], self._starts[number + 1])
            for place, weight in zip(self._places[stretch].tolist(), self._weights[stretch].tolist(), strict=True):
                scores[place] = scores.get(place, 0.0) + weight * self._rarity[number]
        length = float(np.sqrt((self._rarity[keywords] ** 2).sum()))
        best = sorted(scores, key=lambda place: (-scores[place], place))[:most]
        return [Found(float(scores[place] / length), *self.passages[place]) for place in best]

    def entities(self, text: str) -> list[str]:
        """What a text names: in title or quotation marks, years, capitalised words, and titles of the reference."""
        found = [next(filter(None, match.groups())) for match in _MARKED.finditer(text)]
        found += _YEARS.findall(text)
        found += _LATIN_NAMES.findall(text)
        place = 0
        while place < len(text):
            lengths = range(min(LONGEST_TITLE, len(text) - place), 1, -1)
            title = next(
                (text[place : place + size] for size in lengths if text[place : place + size] in self.titles), None
            )
            if title is not None:
                found.append(title)
            place += len(title) if title else 1
        return list(dict.fromkeys(found))


def terms_of(text: str) -> list[str]:
    """Pairs of neighbouring Chinese characters, and words and numbers of others."""
    terms = []
    for run in _RUNS.findall(text):
        if _IS_HAN.match(run) and len(run) > 1:
            terms += [run[place : place + 2] for place in range(len(run) - 1)]
        else:
            terms.append(run.lower())
    return terms
