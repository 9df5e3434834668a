"""Normalisers and pre-tokenizers done in compiled code: where a text falls into the words that BPE merges within.

Known are the forms of `train.py`, of GPT-2 and Llama 3, and of Llama and its kin (words marked before them, whether
cut there or not), each also with digits apart. What a character is (letter, number, space, digit) is asked of
`tokenizers` itself, once a process, so that both always mean the same version of Unicode.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from tokenizers import Regex, pre_tokenizers

from data_recipes.tokens.merges import CODE_POINTS, PADDING, Merges, Words, at, compiled
from data_recipes.tokens.seams import GPT2, LLAMA3, members

LETTER, NUMBER, SPACE, LINE_END, DIGIT, MARK, BLANK, GOES_ON = 1, 2, 4, 8, 16, 32, 64, 128
# How a text is cut: not at all, before marks, before runs of marks, by the regular expression of GPT-2 or one like that
# of Llama 3.
WHOLE, MARKS, MARK_RUNS, LIKE_GPT2, LIKE_LLAMA3 = range(5)
NO_CONTRACTIONS, AS_WRITTEN, EITHER_CASE = range(3)
NOT_APART, EACH_APART, RUNS_APART = range(3)
DIGIT_CLASSES = (r"\d", r"\p{N}", r"\p{Nd}", "[0-9]")


@dataclass(frozen=True)
class Form:
    """How a tokenizer makes words. `kinds` (uint8) and `characters` (int32) say what each code point is, and its id;
    `byte_ids` the id of each byte (int32); `mark` the id that comes before a text (-1: none), if the text does not
    begin with one (`unless_there`)."""

    rule: int
    contractions: int
    most_digits: int
    digits: int
    digits_first: bool
    kinds: np.ndarray
    characters: np.ndarray
    byte_ids: np.ndarray
    mark: int
    unless_there: bool
    spaces_become: str

    def in_words(self, model: dict[str, Any]) -> "Form":
        """For merges without dropout: a text that is one word falls into many, where no merge joins a mark to what is
        before it but another mark. Their ids are the same, and the memory of words is of use."""
        mark = self.spaces_become
        if self.rule != WHOLE or not mark or self.characters[ord(mark)] < 0:
            return self
        for merge in model["merges"]:
            left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
            if right.startswith(mark) and not left.endswith(mark):
                return self
        return replace(self, rule=MARK_RUNS)

    def words(self, texts: Sequence[bytes]) -> Words:
        """The words of texts, given as UTF-8."""
        data = np.frombuffer(b"".join([*texts, bytes(PADDING)]), dtype=np.uint8)
        text_ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
        ends = np.empty(len(data) - PADDING + len(texts), dtype=np.int64)
        counts = np.zeros(len(texts), dtype=np.int64)
        marked = np.zeros(len(texts), dtype=np.bool_)
        rules = (self.rule, self.contractions, self.most_digits, self.digits, self.digits_first)
        kinds = np.empty(len(data) - PADDING, dtype=np.uint8)
        _kinds(data, self.kinds, kinds)
        found = _cut(data, kinds, text_ends, *rules, self.mark >= 0, self.unless_there, ends, counts, marked)
        return Words(data, ends[:found], counts, marked)


def form_of(described: dict[str, Any], merges: Merges) -> Form | None:
    """The form of a tokenizer described as in tokenizer.json; None if it is not known here."""
    if any(not token["special"] for token in described["added_tokens"]):
        return None
    normalizers = members(described["normalizer"], "normalizers")
    cutters = members(described["pre_tokenizer"], "pretokenizers")
    prefix, replaced, unless_there = "", dict[str, str](), False
    for one in normalizers:
        if one["type"] == "Prepend":
            prefix = one["prepend"] + prefix
        elif one["type"] == "Replace" and len(one["pattern"].get("String", "")) == len(one["content"]) == 1:
            _replace(replaced, one["pattern"]["String"], one["content"])
            prefix = prefix.replace(one["pattern"]["String"], one["content"])
        else:
            return None
    rule, contractions, most_digits = WHOLE, NO_CONTRACTIONS, 1
    digits, digits_first, byte_level, mark = NOT_APART, False, False, ""
    kinds = character_kinds()
    for number, one in enumerate(cutters):
        if byte_level:
            return None
        if one["type"] == "Metaspace" and not prefix and not mark and rule == WHOLE:
            mark = one["replacement"]
            if one["prepend_scheme"] != "never" and number:
                return None  # digits before it are words by now, and each may have a mark of its own
            if one["prepend_scheme"] != "never":
                prefix, unless_there = mark, True
            rule = MARKS if one["split"] else WHOLE
            _replace(replaced, " ", mark)
        elif is_digit_cut(one) and digits == NOT_APART:
            digits = EACH_APART if one["type"] == "Split" or one["individual_digits"] else RUNS_APART
            digits_first = rule not in (LIKE_GPT2, LIKE_LLAMA3)
            kinds = kinds.copy()
            kinds[digits_of(one)] |= DIGIT
        elif one["type"] == "ByteLevel" and not one["add_prefix_space"] and not mark:
            byte_level = True
            if one["use_regex"]:
                if rule != WHOLE:
                    return None
                rule, contractions, most_digits = LIKE_GPT2, AS_WRITTEN, 2**40
        elif _known_split(one) is not None and rule == WHOLE and not mark:
            rule, contractions, most_digits = _known_split(one) or (0, 0, 0)
        else:
            return None
    if rule in (LIKE_GPT2, LIKE_LLAMA3) and (prefix or set(replaced.values()) - {" "} or "'" in replaced):
        return None
    byte_ids = merges.byte_ids
    characters = merges.characters()
    if byte_level:
        characters[:] = -1
        byte_ids = np.array([merges.vocabulary.get(letter, -1) for letter in byte_letters()], dtype=np.int32)
    if byte_ids.min() < 0:
        return None
    mark = mark or replaced.get(" ", "")
    became, kinds = {other: (characters[ord(other)], kinds[ord(other)]) for other in replaced.values()}, kinds.copy()
    for character, other in replaced.items():
        identity, kinds[ord(character)] = became[other]
        if identity < 0 and not other.isascii():
            return None
        characters[ord(character)] = identity if identity >= 0 else byte_ids[ord(other)]
    for character in [mark, *(one for one, other in replaced.items() if other == mark)] if mark else []:
        kinds[ord(character)] |= MARK
    if len(prefix) > 1 or (prefix and characters[ord(prefix)] < 0):
        return None
    return Form(
        rule,
        contractions,
        most_digits,
        digits,
        digits_first,
        kinds,
        characters,
        byte_ids,
        int(characters[ord(prefix)]) if prefix else -1,
        unless_there,
        mark,
    )


def _replace(replaced: dict[str, str], character: str, other: str) -> None:
    """Add a replacement that is made after those in `replaced`."""
    for before, after in replaced.items():
        if after == character:
            replaced[before] = other
    replaced.setdefault(character, other)


def _known_split(one: dict[str, Any]) -> tuple[int, int, int] | None:
    """Rule, contractions and digits of a word of a regular expression that is known."""
    from data_recipes.tokens.train import PIECES

    known = {
        PIECES: (LIKE_LLAMA3, NO_CONTRACTIONS, 1),
        GPT2: (LIKE_GPT2, AS_WRITTEN, 2**40),
        LLAMA3: (LIKE_LLAMA3, EITHER_CASE, 3),
        LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"): (LIKE_LLAMA3, EITHER_CASE, 1),
    }
    if one["type"] != "Split" or one["behavior"] != "Isolated" or one["invert"]:
        return None
    return known.get(one["pattern"].get("Regex"))


def is_digit_cut(one: dict[str, Any]) -> bool:
    """Whether a pre-tokenizer only sets digits apart."""
    if one["type"] == "Digits":
        return True
    isolates = one["type"] == "Split" and one["behavior"] == "Isolated" and not one["invert"]
    return isolates and one["pattern"].get("Regex") in DIGIT_CLASSES


def digits_of(one: dict[str, Any]) -> np.ndarray:
    """The code points (int64) that such a pre-tokenizer sets apart."""
    return _digits("" if one["type"] == "Digits" else one["pattern"]["Regex"]).copy()


@cache
def _digits(pattern: str) -> np.ndarray:
    cutter = pre_tokenizers.Split(Regex(pattern), "isolated") if pattern else pre_tokenizers.Digits()
    # Each between two letters, so that what is not cut off is part of a longer piece.
    pieces = cutter.pre_tokenize_str("x" + "x".join(every_character()) + "x")
    return np.array([ord(piece) for piece, _ in pieces if len(piece) == 1 and piece != "x"], dtype=np.int64)


def every_character() -> str:
    """All code points that can stand in a text, less planes 4 to 13, which are empty, and the two for private use."""
    return "".join(map(chr, [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xF0000)]))


@cache
def character_kinds() -> np.ndarray:
    """What each code point is to the regular expressions of `tokenizers`: uint8."""
    kinds = np.zeros(CODE_POINTS, dtype=np.uint8)
    known = ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s"))
    text = every_character()
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    runs = pre_tokenizers.Split(Regex("|".join(f"{pattern}+" for _, pattern in known)), "isolated")
    for run, (start, end) in runs.pre_tokenize_str(text):  # each of one kind, or of none
        for kind, pattern in known:
            if not pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(run[0]):
                kinds[points[start:end]] |= kind
    kinds[[ord("\r"), ord("\n")]] |= LINE_END
    kinds[ord(" ")] |= BLANK
    kinds.flags.writeable = False
    return kinds


def byte_letters() -> list[str]:
    """The letter that ByteLevel writes for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


@compiled
def _kinds(data, table, kinds):  # pragma: no cover - compiled
    """What each byte's character is; the bytes after a character's first are marked."""
    place, size = 0, len(kinds)
    while place < size:
        first = np.int64(data[at(place)])
        if first < 0x80:
            kinds[at(place)] = table[at(first)]
            place += 1
            continue
        if first < 0xE0:
            width, point = 2, first & 0x1F
        elif first < 0xF0:
            width, point = 3, first & 0x0F
        else:
            width, point = 4, first & 0x07
        for byte in range(place + 1, place + width):
            point = point << 6 | (np.int64(data[at(byte)]) & 0x3F)
        kinds[at(place)] = table[at(point)]
        for byte in range(place + 1, place + width):
            kinds[at(byte)] = table[at(point)] | GOES_ON
        place += width


@compiled
def _contraction(data, place, end, contractions):  # pragma: no cover - compiled
    """The length of an apostrophe with one of s, t, re, ve, m, ll, d after it; 0 if there is none."""
    if place + 1 >= end or data[at(place)] != 0x27:
        return 0
    first = data[at(place + 1)]
    second = data[at(place + 2)] if place + 2 < end else np.uint8(0)
    if contractions == EITHER_CASE:
        if first == 0xC5 and second == 0xBF:  # the long s, which is an s in another case
            return 3
        first = first | 0x20 if 0x41 <= first <= 0x5A else first
        second = second | 0x20 if 0x41 <= second <= 0x5A else second
    if first == 0x73 or first == 0x74 or first == 0x6D or first == 0x64:
        return 2
    if (first == 0x72 or first == 0x76) and second == 0x65:
        return 3
    return 3 if first == 0x6C and second == 0x6C else 0


@compiled
def _run(kinds, place, end, wanted, unwanted):  # pragma: no cover - compiled
    """The end of the characters that are of a kind in `wanted` (0: any) and of none in `unwanted`."""
    if wanted:
        while place < end and kinds[at(place)] & wanted:
            place += 1
    else:
        while place < end and not kinds[at(place)] & unwanted:
            place += 1
    return place


@compiled
def _word_end(data, kinds, place, end, like_gpt2, contractions, most_digits):  # pragma: no cover - compiled
    """The end of the word that begins at `place`, by the first alternative that fits."""
    not_sign = LETTER | NUMBER | SPACE
    if contractions != NO_CONTRACTIONS:
        length = _contraction(data, place, end, contractions)
        if length:
            return place + length
    kind = kinds[at(place)]
    if kind & LETTER:
        return _run(kinds, place + 1, end, LETTER, 0)
    following = place + 1
    while following < end and kinds[at(following)] & GOES_ON:
        following += 1
    if kind & NUMBER:
        count = 1
        while following < end and kinds[at(following)] & NUMBER:
            if not kinds[at(following)] & GOES_ON:
                count += 1
                if count > most_digits:
                    break
            following += 1
        return following
    if following < end:
        if kinds[at(following)] & LETTER and (kind & BLANK if like_gpt2 else not kind & LINE_END):
            return _run(kinds, following, end, LETTER, 0)
        if kind & BLANK:
            if like_gpt2 and kinds[at(following)] & NUMBER:
                return _run(kinds, following, end, NUMBER, 0)
            if not kinds[at(following)] & not_sign:
                following = _run(kinds, following, end, 0, not_sign)
                return following if like_gpt2 else _run(kinds, following, end, LINE_END, 0)
    if not kind & SPACE:
        following = _run(kinds, following, end, 0, not_sign)
        return following if like_gpt2 else _run(kinds, following, end, LINE_END, 0)
    following = _run(kinds, following, end, SPACE, 0)
    if not like_gpt2:
        for last in range(following - 1, place - 1, -1):
            if kinds[at(last)] & LINE_END:
                return last + 1
    if following == end:
        return end
    last = following - 1
    while kinds[at(last)] & GOES_ON:
        last -= 1
    return last if last > place else following


@compiled
def _digits_end(kinds, place, end, digits):  # pragma: no cover - compiled
    """The end of what begins at `place` and is all digits (or one digit), or no digit at all."""
    if not kinds[at(place)] & DIGIT:
        return _run(kinds, place, end, 0, DIGIT)
    if digits == RUNS_APART:
        return _run(kinds, place, end, DIGIT, 0)
    place += 1
    while place < end and kinds[at(place)] & GOES_ON:
        place += 1
    return place


@compiled
def _cut(
    data, kinds, text_ends, rule, contractions, most_digits, digits, digits_first, has_mark, unless_there,
    ends, counts, marked,
):  # fmt: skip  # pragma: no cover - compiled
    place, found = 0, 0
    for text in range(len(text_ends)):
        text_end, begun = text_ends[text], found
        if has_mark and place < text_end and not (unless_there and kinds[at(place)] & MARK):
            marked[text] = True
            if (digits != NOT_APART and kinds[at(place)] & DIGIT) or (rule == MARKS and kinds[at(place)] & MARK):
                ends[at(found)] = place  # the mark is a word of its own
                found += 1
        while place < text_end:
            part_end = text_end
            if digits != NOT_APART and digits_first:
                part_end = _digits_end(kinds, place, text_end, digits)
            while place < part_end:
                if rule == WHOLE:
                    end = part_end
                elif rule == MARKS:
                    end = _run(kinds, place + 1, part_end, 0, MARK)
                    while end < part_end and kinds[at(end)] & GOES_ON:  # within a mark that is first
                        end = _run(kinds, end + 1, part_end, 0, MARK)
                elif rule == MARK_RUNS:
                    end = _run(kinds, _run(kinds, place, part_end, MARK, 0), part_end, 0, MARK)
                else:
                    like_gpt2 = rule == LIKE_GPT2
                    end = _word_end(data, kinds, place, part_end, like_gpt2, contractions, most_digits)
                if digits == NOT_APART or digits_first:
                    place = end
                    ends[at(found)] = end
                    found += 1
                while place < end:
                    place = _digits_end(kinds, place, end, digits)
                    ends[at(found)] = place
                    found += 1
        counts[text] = found - begun
    return found
