"""Words and n-grams as arrays against a plain oracle, on all scripts and on what is not text."""

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_recipes.cleaning.words import _character_tables, ngram_hashes, split_words

MASK = (1 << 64) - 1
# The blocks by the names of their characters, which the code under test does not use.
IDEOGRAPH_NAMES = (
    "CJK UNIFIED",
    "CJK COMPAT",
    "HANGUL SYLLABLE",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "IDEOGRAPHIC ITERATION",
    "IDEOGRAPHIC CLOSING",
    "IDEOGRAPHIC NUMBER ZERO",
    "HENTAIGANA",
)
TEXTS = st.text(
    st.one_of(
        st.sampled_from(
            "aZ09 .,'-_\n\t中文字かガー한글éİΣß々〇①²\u0301\u3099\ufe0f\U000e0100\U00020000𝒳😀\u200d\ud800\udc00\x00ﾊﾞ"
        ),
        st.characters(),
        st.characters(categories=["Cs"]),
    ),
    max_size=40,
)


def kind_of(character: str) -> str:
    category = unicodedata.category(character)[0]
    if category == "M":
        return "m"
    if category not in "LN":
        return " "
    name = unicodedata.name(character, "")
    return "i" if name.startswith(IDEOGRAPH_NAMES) or name == "KATAKANA-HIRAGANA PROLONGED SOUND MARK" else "l"


def words_of(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer("im*|[lm]+", "".join(map(kind_of, text)))]


def hash_of(word: str) -> int:
    value = 0xCBF29CE484222325
    for character in word:
        value = ((value ^ ord(character.lower()[0])) * 0x9E3779B97F4A7C15) & MASK
        value ^= value >> 32
    return value


@given(st.lists(TEXTS, max_size=6))
@example([])
@example(["", "", ""])
@example(["a\ud83d", "\ude00b"])  # halves of a character at the end of one text and the start of the next
def test_words_are_those_of_the_oracle(texts: list[str]) -> None:
    words = split_words(texts)
    assert words.offsets.tolist()[0] == 0
    assert len(words.offsets) == len(texts) + 1
    for index, text in enumerate(texts):
        part = slice(words.offsets[index], words.offsets[index + 1])
        spans = words_of(text)
        assert list(zip(words.starts[part].tolist(), words.ends[part].tolist(), strict=True)) == spans
        assert words.hashes[part].tolist() == [hash_of(text[start:end]) for start, end in spans]


@given(st.lists(TEXTS, max_size=4), st.integers(1, 6))
def test_ngrams_are_equal_exactly_where_their_words_are(texts: list[str], n: int) -> None:
    words = split_words(texts)
    hashes, offsets = ngram_hashes(words, n)
    windows = []
    for index in range(len(texts)):
        own = words.hashes[words.offsets[index] : words.offsets[index + 1]].tolist()
        expected = [tuple(own[start : start + n]) for start in range(len(own) - n + 1)]
        assert offsets[index + 1] - offsets[index] == len(expected)
        windows += expected
    by_window = dict(zip(windows, hashes.tolist(), strict=True))
    assert [by_window[window] for window in windows] == hashes.tolist()
    assert len(set(by_window.values())) == len(by_window)


def test_hashes_are_the_same_on_every_machine() -> None:
    words = split_words(["The quick fox", "中文"])
    assert words.hashes.tolist() == [
        11191484673649155965,
        16979143854800723861,
        9556230060825091371,
        1558922297422689849,
        14949240213148016014,
    ]
    assert ngram_hashes(words, 2)[0].tolist() == [5585105556122693252, 2464750292537103087, 10057536051958151748]


def test_lower_case_and_place_in_the_text_change_no_hash() -> None:
    words = split_words(["ΣΑΣ, Straße: ÉTÉ!", "... σασ straße\tété"])
    first, second = np.split(words.hashes, [words.offsets[1]])
    assert first.tolist() == second.tolist()
    one, other = split_words(["x y a b c d"]), split_words(["a b c d"])
    assert ngram_hashes(one, 2)[0].tolist()[2:] == ngram_hashes(other, 2)[0].tolist()


def test_a_single_word_differs_from_its_ngram_of_another_length() -> None:
    words = split_words(["a a a"])
    assert len({ngram_hashes(words, n)[0][0] for n in (1, 2, 3)} | {words.hashes[0]}) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我爱NLP，2024年！", ["我", "爱", "NLP", "2024", "年"]),
        ("が\u304b\u3099x", ["が", "\u304b\u3099", "x"]),  # a composed and a decomposed character
        ("葛\U000e0100城", ["葛\U000e0100", "城"]),
        ("한국어 text", ["한", "국", "어", "text"]),
        ("𠀀𠀁 𝒳𝒴", ["𠀀", "𠀁", "𝒳𝒴"]),
        ("don't re-use e\u0301te\u0301", ["don", "t", "re", "use", "e\u0301te\u0301"]),
        ("हिन्दी", ["हिन्दी"]),
        ("😀 🇨🇳 -- \u200b", []),
    ],
)
def test_words_of_some_scripts(text: str, expected: list[str]) -> None:
    words = split_words([text])
    assert [text[start:end] for start, end in zip(words.starts, words.ends, strict=True)] == expected


def test_every_character_of_unicode_is_of_the_kind_that_its_name_says() -> None:
    kinds, _ = _character_tables()
    names = np.array([" ", "m", "l", "i"])[kinds]
    assert [hex(code) for code in range(0x110000) if kind_of(chr(code)) != names[code]] == []


def test_each_text_may_have_ngrams_of_a_length_of_its_own() -> None:
    words = split_words(["a b c d", "a b", "", "c"])
    hashes, offsets = ngram_hashes(words, np.array([3, 2, 5, 2]))
    assert offsets.tolist() == [0, 2, 3, 3, 3]
    assert hashes.tolist() == [*ngram_hashes(words, 3)[0], ngram_hashes(split_words(["a b"]), 2)[0][0]]


def test_ngrams_of_no_words_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ngram_hashes(split_words(["a"]), 0)
