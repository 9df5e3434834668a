"""Rules for English web text: those of Gopher, FineWeb and C4 that judge a document.

C4's rules on single lines are the step `web-lines`. The same words give the same verdicts as datatrove 0.10.1
(`GopherQualityFilter`, `GopherRepetitionFilter`, `FineWebQualityFilter`), except that lines are those with text in
them. A word is what `words.py` says, so punctuation alone is none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numba
import numpy as np
import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.limits import Limit, RuleStep
from data_recipes.cleaning.measures import LETTER, character_kinds, characters_of, measure, shares
from data_recipes.cleaning.repetition import repeated_ngram_characters, top_ngram_characters
from data_recipes.cleaning.steps.base import Batch, StepSettings
from data_recipes.cleaning.words import Words, split_words

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Gopher's, section A.1.1."""
COUNTS = ("words", "stop_words", "sentences", "lorem_ipsum")
TOP_NGRAMS, REPEATED_NGRAMS = (2, 3, 4), (5, 6, 7, 8, 9, 10)
SHARES = (
    *("mean_word_length", "words_with_letters", "hashes_per_word", "ellipses_per_word", "curly_per_word"),
    *("line_feeds_per_word", "bullet_lines", "ellipsis_lines", "ended_lines", "short_lines"),
    *("copied_lines", "copied_line_characters", "copied_paragraphs", "copied_paragraph_characters"),
    *(f"top_{n}gram" for n in TOP_NGRAMS),
    *(f"repeated_{n}grams" for n in REPEATED_NGRAMS),
)

REASONS = {
    "min_words": "fewer than {:.0f} words",
    "max_words": "more than {:.0f} words",
    "min_mean_word_length": "words shorter than {:g} letters on average",
    "max_mean_word_length": "words longer than {:g} letters on average",
    "max_hashes_per_word": "more than {:g} hash signs a word",
    "max_ellipses_per_word": "more than {:g} ellipses a word",
    "max_bullet_lines": "more than {:.0%} of lines with bullets",
    "max_ellipsis_lines": "more than {:.0%} of lines ending in an ellipsis",
    "min_words_with_letters": "fewer than {:.0%} of words with letters",
    "min_stop_words": "fewer than {:.0f} different stop words",
    "max_copied_paragraphs": "more than {:.0%} of paragraphs repeated",
    "max_copied_paragraph_characters": "more than {:.0%} of characters in repeated paragraphs",
    "max_copied_lines": "more than {:.0%} of lines repeated",
    "max_copied_line_characters": "more than {:.0%} of characters in repeated lines",
    **{f"max_top_{n}gram": f"one {n}-gram makes more than {{:.0%}}" for n in TOP_NGRAMS},
    **{f"max_repeated_{n}grams": f"more than {{:.0%}} of characters in repeated {n}-grams" for n in REPEATED_NGRAMS},
    "min_ended_lines": "fewer than {:.0%} of lines end a sentence",
    "max_short_lines": "more than {:.0%} of lines short",
    "max_line_feeds_per_word": "more than {:g} line ends a word",
    "max_lorem_ipsum": "lorem ipsum",
    "max_curly_per_word": "more than {:g} curly brackets a word",
    "min_sentences": "fewer than {:.0f} sentences",
}


class WebRulesSettings(StepSettings):
    step: Literal["web-rules"] = "web-rules"
    short_line: int = Field(30, ge=0)
    """Characters of the longest line that counts as short. FineWeb."""

    # Rae et al. 2021 (Gopher, arXiv 2112.11446), section A.1.1.
    min_words: Limit = 50
    max_words: Limit = 100_000
    min_mean_word_length: Limit = 3
    max_mean_word_length: Limit = 10
    max_hashes_per_word: Limit = 0.1
    max_ellipses_per_word: Limit = 0.1
    max_bullet_lines: Limit = 0.9
    max_ellipsis_lines: Limit = 0.3
    min_words_with_letters: Limit = 0.8
    min_stop_words: Limit = 2

    # Gopher, Table A1.
    max_copied_lines: Limit = 0.3
    max_copied_paragraphs: Limit = 0.3
    max_copied_paragraph_characters: Limit = 0.2
    max_top_2gram: Limit = 0.20
    max_top_3gram: Limit = 0.18
    max_top_4gram: Limit = 0.16
    max_repeated_5grams: Limit = 0.15
    max_repeated_6grams: Limit = 0.14
    max_repeated_7grams: Limit = 0.13
    max_repeated_8grams: Limit = 0.12
    max_repeated_9grams: Limit = 0.11
    max_repeated_10grams: Limit = 0.10

    # Penedo et al. 2024 (FineWeb, arXiv 2406.17557), section 3.5. datatrove's default for the second is 0.01.
    min_ended_lines: Limit = 0.12
    max_copied_line_characters: Limit = 0.1
    max_short_lines: Limit = 0.67
    max_line_feeds_per_word: Limit = 0.3  # datatrove's FineWebQualityFilter only

    # Raffel et al. 2020 (C4), section 2.2.
    min_sentences: Limit = 5
    max_lorem_ipsum: Limit = 0
    # Ours: C4 allows none, which drops every page that quotes a line of code or a BibTeX entry.
    max_curly_per_word: Limit = 0.03


class WebRules(RuleStep[WebRulesSettings]):
    name: ClassVar[str] = "web-rules"
    Settings = WebRulesSettings
    prefix: ClassVar[str] = "web_"
    reasons_by_limit: ClassVar[Mapping[str, str]] = REASONS

    def schema(self) -> pa.Schema:
        return english_schema("web_")

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        return english_signals(batch.texts, "web_", short_line=self.settings.short_line)


def english_schema(prefix: str) -> pa.Schema:
    counts = [(prefix + name, pa.int64()) for name in COUNTS]
    return pa.schema(counts + [(prefix + name, pa.float64()) for name in SHARES])


def english_signals(texts: Sequence[str], prefix: str, *, short_line: int) -> dict[str, Sequence[Any]]:
    """What the rules for English text look at. Shares of n-grams are of all characters, as in datatrove."""
    found = measure(texts, short_line=short_line)
    words = split_words(texts)
    count = np.diff(words.offsets)
    columns: dict[str, Any] = {
        "words": count,
        "stop_words": _kinds_of_stop_words(words),
        "sentences": found["sentences"],
        "lorem_ipsum": np.array([text.lower().count("lorem ipsum") for text in texts], dtype=np.int64),
        "mean_word_length": shares(_word_characters(words), count),
        "words_with_letters": shares(_words_with_letters(texts, words), count),
        "line_feeds_per_word": shares(found["line_feeds"], count),
    }
    for name in ("hashes", "ellipses", "curly"):
        columns[f"{name}_per_word"] = shares(found[name], count)
    for name in ("bullet_lines", "ellipsis_lines", "ended_lines", "short_lines", "copied_lines"):
        columns[name] = shares(found[name], found["lines"])
    columns["copied_paragraphs"] = shares(found["copied_paragraphs"], found["paragraphs"])
    columns["copied_line_characters"] = shares(
        found["copied_line_characters"], found["characters"] - found["line_feeds"]
    )
    columns["copied_paragraph_characters"] = shares(found["copied_paragraph_characters"], found["characters"])
    for n in TOP_NGRAMS:
        columns[f"top_{n}gram"] = shares(top_ngram_characters(words, n), found["characters"])
    for n in REPEATED_NGRAMS:
        columns[f"repeated_{n}grams"] = shares(repeated_ngram_characters(words, n), found["characters"])
    return {prefix + name: columns[name] for name in (*COUNTS, *SHARES)}


def _word_characters(words: Words) -> np.ndarray:
    """Characters of the words of each text."""
    before = np.zeros(len(words.starts) + 1, dtype=np.int64)
    np.cumsum(words.ends - words.starts, out=before[1:])
    return np.diff(before[words.offsets])


def _kinds_of_stop_words(words: Words) -> np.ndarray:
    """How many of the stop words each text has."""
    kinds = np.zeros(len(words.offsets) - 1, dtype=np.int64)
    for stop_word in split_words(STOP_WORDS).hashes:
        places = np.flatnonzero(words.hashes == stop_word)
        kinds += np.diff(np.searchsorted(places, words.offsets)) > 0
    return kinds


def _words_with_letters(texts: Sequence[str], words: Words) -> np.ndarray:
    codes, bounds = characters_of(texts)
    return _count_with_letters(codes, bounds, words.offsets, words.starts, words.ends, character_kinds())


@numba.njit(cache=True, nogil=True)
def _count_with_letters(codes, bounds, offsets, starts, ends, kinds):  # pragma: no cover - compiled
    result = np.zeros(len(offsets) - 1, dtype=np.int64)
    for text in range(len(offsets) - 1):
        for word in range(offsets[text], offsets[text + 1]):
            for place in range(bounds[text] + starts[word], bounds[text] + ends[word]):
                if kinds[codes[place]] & LETTER:
                    result[text] += 1
                    break
    return result
