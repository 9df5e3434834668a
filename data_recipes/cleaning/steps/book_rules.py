"""Rules for books, scanned ones above all: length, noise of character recognition, tables of contents.

In English and Chinese. The limits are ours; nobody has published any for books, whose makers (Gutenberg, CBook, Library
of Congress) give them out as they are.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numba
import numpy as np
import pyarrow as pa

from data_recipes.cleaning.limits import Limit, RuleStep
from data_recipes.cleaning.measures import CHINESE, DIGIT, LETTER, character_kinds, characters_of, measure, shares
from data_recipes.cleaning.repetition import repeated_ngram_characters
from data_recipes.cleaning.steps.base import Batch, StepSettings
from data_recipes.cleaning.words import Words, split_words

# "Chapter IV ........ 12", "第三章……45", "The Voyage   17".
_CONTENTS_LINE = re.compile(
    r"^[^\n]{1,120}?(?:(?:[ \t]{0,3}[.·…_]){3,200}|[ \t]{3,200}|\t)[ \t]{0,20}[\divxlc]{1,5}[ \t]{0,20}$", re.MULTILINE
)
# A page's number, alone or between dashes.
_PAGE_LINE = re.compile(r"^[ \t\-–—\[]*(?:\d{1,4}|[ivxlc]{1,6})[ \t\-–—\]]*$", re.MULTILINE)
_HYPHEN_END = re.compile(r"[a-z](?:-|¬)$", re.MULTILINE)
REASONS = {
    "min_words": "fewer than {:.0f} words",
    "max_words": "more than {:.0f} words",
    "max_odd": "more than {:.1%} control, private or replacement characters",
    "max_mixed_words": "more than {:.1%} of words with digits or capitals inside",
    "max_single_letters": "more than {:.0%} of words of one letter",
    "max_mean_word_length": "words longer than {:g} letters on average",
    "min_letters": "less than {:.0%} letters",
    "max_contents_lines": "more than {:.0%} of lines are those of a table of contents",
    "max_page_lines": "more than {:.0%} of lines are page numbers",
    "max_hyphen_lines": "more than {:.0%} of lines end within a word",
    "max_copied_line_characters": "more than {:.0%} of characters in repeated lines",
    "max_copied_paragraph_characters": "more than {:.0%} of characters in repeated paragraphs",
    "max_repeated_10grams": "more than {:.0%} of characters in repeated 10-grams",
    "max_in_runs": "more than {:.0%} in runs of one character",
}
SHARES = tuple(field.partition("_")[2] for field in REASONS if field not in ("min_words", "max_words"))


class BookRulesSettings(StepSettings):
    step: Literal["book-rules"] = "book-rules"

    min_words: Limit = 1_000  # a chapter; Chinese characters count as words
    max_words: Limit = 5_000_000  # the longest novels have 2 million; more is a collection that lost its bounds
    max_odd: Limit = 0.002
    max_mixed_words: Limit = 0.02  # clean print has under 0.5 %, the worst readable scans 2 %
    max_single_letters: Limit = 0.12  # "a" and "I" make 3 to 6 % of English
    max_mean_word_length: Limit = 10  # Gopher; spaces that were not recognised
    min_letters: Limit = 0.6  # of all but spaces; logarithm tables, price lists
    max_contents_lines: Limit = 0.3  # a book has its own; more is an index or a catalogue
    max_page_lines: Limit = 0.15
    max_hyphen_lines: Limit = 0.35
    max_copied_line_characters: Limit = 0.2  # Gopher; running heads. Short lines repeat in every long book: "Yes."
    max_copied_paragraph_characters: Limit = 0.2  # Gopher
    max_repeated_10grams: Limit = 0.2  # Gopher's 0.10 is for pages; refrains and forms of address add up in a book
    max_in_runs: Limit = 0.1


class BookRules(RuleStep[BookRulesSettings]):
    name: ClassVar[str] = "book-rules"
    Settings = BookRulesSettings
    prefix: ClassVar[str] = "book_"
    reasons_by_limit: ClassVar[Mapping[str, str]] = REASONS

    def schema(self) -> pa.Schema:
        return pa.schema([("book_words", pa.int64()), *((f"book_{name}", pa.float64()) for name in SHARES)])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        found = measure(batch.texts)
        written = found["characters"] - found["spaces"]
        words = split_words(batch.texts)
        count = np.diff(words.offsets)
        latin, characters, mixed, single = _word_shapes(batch.texts, words)
        columns: dict[str, Any] = {
            "book_words": count,
            "book_odd": shares(found["odd"], written),
            "book_mixed_words": shares(mixed, count),
            "book_single_letters": shares(single, count),
            "book_mean_word_length": shares(characters, latin),
            "book_letters": shares(found["letters"], written),
            "book_contents_lines": shares(_lines(_CONTENTS_LINE, batch.texts), found["lines"]),
            "book_page_lines": shares(_lines(_PAGE_LINE, batch.texts), found["lines"]),
            "book_hyphen_lines": shares(_lines(_HYPHEN_END, batch.texts), found["lines"]),
            "book_copied_line_characters": shares(
                found["copied_line_characters"], found["characters"] - found["line_feeds"]
            ),
            "book_copied_paragraph_characters": shares(found["copied_paragraph_characters"], found["characters"]),
            "book_repeated_10grams": shares(repeated_ngram_characters(words, 10), found["characters"]),
            "book_in_runs": shares(found["in_runs"], written),
        }
        return columns


def _lines(pattern: re.Pattern[str], texts: Sequence[str]) -> np.ndarray:
    return np.array([len(pattern.findall(text)) for text in texts], dtype=np.int64)


def _word_shapes(texts: Sequence[str], words: Words) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the words that are not Chinese: their number, their characters, how many are mixed, how many one letter."""
    codes, bounds = characters_of(texts)
    upper = np.array([chr(code).isupper() for code in range(0x250)])
    return _shapes(codes, bounds, words.offsets, words.starts, words.ends, character_kinds(), upper)


@numba.njit(cache=True, nogil=True)
def _shapes(codes, bounds, offsets, starts, ends, kinds, upper):  # pragma: no cover - compiled
    texts = len(offsets) - 1
    latin, characters = np.zeros(texts, dtype=np.int64), np.zeros(texts, dtype=np.int64)
    mixed, single = np.zeros(texts, dtype=np.int64), np.zeros(texts, dtype=np.int64)
    for text in range(texts):
        for word in range(offsets[text], offsets[text + 1]):
            first, end = bounds[text] + starts[word], bounds[text] + ends[word]
            if kinds[codes[first]] & CHINESE:
                continue
            latin[text] += 1
            characters[text] += end - first
            letters = 0
            digits = 0
            risen = False  # a capital after a small letter
            low = False
            for place in range(first, end):
                kind = kinds[codes[place]]
                letters += kind & LETTER != 0
                digits += kind & DIGIT != 0
                high = codes[place] < len(upper) and upper[codes[place]]
                risen |= high and low
                low |= kind & LETTER != 0 and not high
            # "1st" and "McDonald" are words; "tl1e", "wi11" and "tHe" are not. Digits come first in good ones.
            odd_digits = letters > 0 and digits > 0 and not kinds[codes[first]] & DIGIT
            mixed[text] += odd_digits or (risen and not (upper[codes[first]] if codes[first] < len(upper) else False))
            single[text] += letters == 1 and end - first == 1
    return latin, characters, mixed, single
