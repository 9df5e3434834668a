"""What the rules of heuristic filters count in a text: characters by kind, lines, paragraphs; many texts in one pass.

A line is what stands between line feeds and has a character other than spaces. A paragraph is a run of lines with no
empty one between. Texts are best tidy (`tidy-text`), so that spaces at line ends make no line differ from another.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache

import numba
import numpy as np
import regex

SPACE, LETTER, DIGIT, CHINESE, TERMINAL, PUNCTUATION, ODD = (1 << bit for bit in range(7))
_LINE_FEED, _FULL_STOP, _ELLIPSIS, _HASH, _OPEN_CURLY, _WIDE = ord("\n"), ord("."), ord("…"), ord("#"), ord("{"), 0x3000
# Shorter runs of one character are common in good text: "...", "====", Chinese laughter.
_RUN = 6

MEASURES = np.dtype(
    [
        ("characters", np.int64),
        ("spaces", np.int64),
        ("letters", np.int64),
        ("digits", np.int64),
        ("chinese", np.int64),  # ideographs; also letters
        ("punctuation", np.int64),
        ("odd", np.int64),  # control, private and unassigned characters, the replacement character
        ("line_feeds", np.int64),
        ("hashes", np.int64),  # "#"
        ("ellipses", np.int64),  # "..." and "…"
        ("curly", np.int64),  # "{"
        ("sentences", np.int64),  # ends of sentences, several marks in a row counted once
        ("in_runs", np.int64),  # characters in runs of at least 6 of the same, spaces left out
        ("lines", np.int64),
        ("ended_lines", np.int64),  # the last character ends a sentence
        ("ellipsis_lines", np.int64),
        ("bullet_lines", np.int64),
        ("short_lines", np.int64),
        ("longest_line", np.int64),
        ("copied_lines", np.int64),  # lines that occurred before in the text
        ("copied_line_characters", np.int64),
        ("paragraphs", np.int64),
        ("copied_paragraphs", np.int64),
        ("copied_paragraph_characters", np.int64),
    ]
)


def measure(texts: Sequence[str], *, short_line: int = 30, bullets: str = "•-") -> np.ndarray:
    """A record of `MEASURES` for each text. Short lines have at most `short_line` characters."""
    codes, bounds = characters_of(texts)
    marks = np.array([ord(mark) for mark in bullets], dtype=np.uint32)
    measures = np.zeros(len(texts), dtype=MEASURES)
    _measure(codes, bounds, character_kinds(), marks, short_line, measures)
    return measures


def characters_of(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The code points of texts one after the other (uint32), and where each text begins and the last ends (int64)."""
    bounds = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)), out=bounds[1:])
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32), bounds


def shares(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Counts over totals, 0 where there is nothing."""
    return counts / np.maximum(totals, 1)


@cache
def character_kinds() -> np.ndarray:
    """For each code point what it is: bits of SPACE, LETTER, ..., ODD."""
    kinds = np.full(0x110000, ODD, dtype=np.uint8)
    # The rest is unassigned or private.
    for code in (*range(0xD800), *range(0xF900, 0x32400), *range(0xE0000, 0xE0200)):
        character = chr(code)
        category = unicodedata.category(character)
        odd = category in ("Cc", "Cn", "Co", "Cs") or code == 0xFFFD
        kinds[code] = (
            SPACE * character.isspace()
            + LETTER * character.isalpha()
            + DIGIT * character.isdigit()
            + PUNCTUATION * (category[0] == "P")
            + ODD * (odd and not character.isspace())
        )
    for first, last in ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)):
        kinds[first : last + 1] |= CHINESE
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x20000))))
    for character in regex.findall(r"\p{Sentence_Terminal}", everything):
        kinds[ord(character)] |= TERMINAL
    return kinds


@numba.njit(cache=True, nogil=True)
def _measure(codes, bounds, kinds, bullets, short_line, measures):  # pragma: no cover - compiled
    most_lines = _most_lines(codes, bounds)
    size = 4
    while size < 2 * most_lines + 2:
        size *= 2
    lines_seen, paragraphs_seen = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint64)
    lines_stamp, paragraphs_stamp = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for text in range(len(bounds) - 1):
        record = measures[text]
        first, end = bounds[text], bounds[text + 1]
        record.characters = end - first
        line = first  # where the line begins
        left, right = -1, -1  # its first and last characters that are no spaces
        value = np.uint64(0)
        paragraph = np.uint64(0)
        paragraph_lines = 0
        paragraph_characters = 0
        stops = 0
        run = 0
        for place in range(first, end + 1):
            code = codes[place] if place < end else np.uint32(_LINE_FEED)
            kind = kinds[code]
            if place < end:
                record.line_feeds += code == _LINE_FEED
                record.spaces += kind & SPACE != 0
                record.letters += kind & LETTER != 0
                record.digits += kind & DIGIT != 0
                record.chinese += kind & CHINESE != 0
                record.punctuation += kind & PUNCTUATION != 0
                record.odd += kind & ODD != 0
                record.hashes += code == _HASH
                record.curly += code == _OPEN_CURLY
            stops = stops + 1 if code == _FULL_STOP else 0
            record.ellipses += code == _ELLIPSIS or (stops > 0 and stops % 3 == 0)
            if kind & SPACE == 0 and place > first and code == codes[place - 1]:
                run += 1
                record.in_runs += _RUN if run == _RUN - 1 else run >= _RUN
            else:
                run = 0
            if kind & TERMINAL and not (place + 1 < end and _goes_on(code, kinds[codes[place + 1]])):
                record.sentences += 1
            if code != _LINE_FEED:
                if kind & SPACE == 0:
                    if left < 0:
                        left = place
                    right = place
                value = (value ^ np.uint64(code)) * np.uint64(0x9E3779B97F4A7C15)
                value ^= value >> np.uint64(29)
                continue
            if left >= 0:
                length = place - line
                record.lines += 1
                last = codes[right]
                record.ended_lines += kinds[last] & TERMINAL != 0
                record.ellipsis_lines += last == _ELLIPSIS or (
                    right - line >= 2 and last == _FULL_STOP and codes[right - 1] == last and codes[right - 2] == last
                )
                for bullet in bullets:
                    record.bullet_lines += codes[left] == bullet
                record.short_lines += length <= short_line
                record.longest_line = max(record.longest_line, length)
                if _seen(lines_seen, lines_stamp, value, text + 1):
                    record.copied_lines += 1
                    record.copied_line_characters += length
                paragraph = (paragraph ^ value) * np.uint64(0x9E3779B97F4A7C15)
                paragraph ^= paragraph >> np.uint64(29)
                paragraph_characters += length + (paragraph_lines > 0)
                paragraph_lines += 1
            if paragraph_lines and (left < 0 or place >= end):
                record.paragraphs += 1
                if _seen(paragraphs_seen, paragraphs_stamp, paragraph, text + 1):
                    record.copied_paragraphs += 1
                    record.copied_paragraph_characters += paragraph_characters
                paragraph = np.uint64(0)
                paragraph_lines = 0
                paragraph_characters = 0
            line = place + 1
            left, right = -1, -1
            value = np.uint64(0)


@numba.njit(inline="always")
def _goes_on(code, following):  # pragma: no cover - compiled
    """Whether a mark ends no sentence, by what follows it: `3.14`, `file.py`, `?!`; Chinese needs no space."""
    return following & TERMINAL != 0 or (code < _WIDE and following & (LETTER | DIGIT) != 0)


@numba.njit(inline="always")
def _seen(keys, stamps, key, stamp):  # pragma: no cover - compiled
    """Whether a text has had the key; remembers it. Entries with another stamp are those of other texts."""
    mask = len(keys) - 1
    slot = np.int64(key >> np.uint64(20)) & mask
    while stamps[slot] == stamp:
        if keys[slot] == key:
            return True
        slot = (slot + 1) & mask
    keys[slot] = key
    stamps[slot] = stamp
    return False


@numba.njit(cache=True, nogil=True)
def _most_lines(codes, bounds):  # pragma: no cover - compiled
    most = 1
    for text in range(len(bounds) - 1):
        lines = 1
        for place in range(bounds[text], bounds[text + 1]):
            lines += codes[place] == _LINE_FEED
        most = max(most, lines)
    return most
