"""Back ends for byte fallback: the ids of `tokenizers` for every form that the published tokenizer could have."""

import json
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_forms import BYTE_FALLBACK_FORMS, CORPUS, SHREDS, of_form
from tokenizers import Regex, pre_tokenizers

from data_recipes.tokens import encoders, words
from data_recipes.tokens.encoders import CompiledEncoder, GigatokenEncoder, HuggingFaceEncoder, choose_encoder
from data_recipes.tokens.probes import Mismatch
from data_recipes.tokens.tokenizer import LoadedTokenizer, load_tokenizer

SHREDDED = st.lists(st.sampled_from(SHREDS), max_size=60).map("".join)
DIGITS = [chr(point) for point in range(0x20000) if chr(point).isnumeric()]
BYTES = bytes(range(256))


@pytest.fixture(scope="module", params=BYTE_FALLBACK_FORMS)
def form(request, tmp_path_factory) -> tuple[str, LoadedTokenizer]:
    return request.param, of_form(tmp_path_factory.mktemp("form"), request.param)


@pytest.fixture(scope="module")
def both(form) -> list:
    """The back end that a build takes, and our own, whichever that is."""
    return [choose_encoder(form[1], dropout=0.0, seed=0)[0], CompiledEncoder(form[1])]


def assert_same(loaded: LoadedTokenizer, back_ends: list, texts: list[str]) -> None:
    ids, lengths = loaded.encode(texts)
    for encoder in back_ends:
        own, own_lengths = encoder.encode(texts)
        assert np.array_equal(own_lengths, lengths)
        assert np.array_equal(own, ids)


def test_a_build_takes_the_back_end_that_the_table_says(form):
    encoder, note = choose_encoder(form[1], dropout=0.0, seed=0)
    assert (encoder.name, note) == (BYTE_FALLBACK_FORMS[form[0]][2], None)


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(SHREDDED | st.text(), max_size=4))
def test_ids_are_those_of_tokenizers(form, both, texts):
    assert_same(form[1], both, texts)


def test_ids_of_bytes_digits_and_long_runs(form, both):
    every = [bytes([first, second, 0x80]).decode(errors="replace") for first in BYTES for second in BYTES[::5]]
    runs = [
        piece * count
        for piece in ("a", " ", "\n", " \n", "7", "天", "▁", "é", "'", "\u3000", "🙂")
        for count in (2, 65, 999)
    ]
    assert_same(form[1], both, ["".join(every), *every[::97], "a".join(DIGITS), "".join(DIGITS), *runs, *CORPUS, ""])


def test_words_are_kept_apart_in_the_memory_of_words(form, monkeypatch):
    """With room for two words only, each takes the other's place all the time; none may pass for another."""
    from data_recipes.tokens import merges

    monkeypatch.setattr(merges, "CACHED_WORDS", 2)
    assert_same(form[1], [CompiledEncoder(form[1])], CORPUS + [f"{a}{b}" for a in SHREDS for b in SHREDS[::7]])


def test_threads_share_an_encoder(form):
    encoder = CompiledEncoder(form[1])
    alone = encoder.encode(CORPUS)[0]
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(ids, alone) for ids, _ in pool.map(encoder.encode, [CORPUS] * 8))


def test_kinds_are_those_of_the_engine_for_every_character():
    kinds = words.character_kinds()
    left_out = "".join(map(chr, [*range(0x40000, 0xE0000, 97), *range(0xF0000, 0x110000, 97)]))
    for pattern in (r"\p{L}", r"\p{N}", r"\s"):
        assert pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(left_out) == [
            (left_out, (0, len(left_out)))
        ]
    for kind, character in [(words.LETTER, "天"), (words.NUMBER, "²"), (words.SPACE, "\u2028"), (words.SPACE, "\x85")]:
        assert kinds[ord(character)] == kind
    letters = [point for point in range(0x3000) if unicodedata.category(chr(point)).startswith("L")]
    assert (kinds[letters] == words.LETTER).all()


def test_digits_stay_cut_where_a_merge_has_one(tmp_path):
    loaded = of_form(tmp_path, "Llama, digits")
    description = json.loads(loaded.backend.to_str())
    assert encoders.without_digit_cuts(description) is None
    model = description["model"]
    model["vocab"]["12"] = len(model["vocab"])
    model["merges"].append(["1", "2"])
    assert encoders.without_digit_cuts(description) == description["pre_tokenizer"]


def test_a_text_is_one_word_where_a_merge_joins_a_mark_to_what_is_before_it(tmp_path):
    of_form(tmp_path, "Llama, digits")
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] |= {"e▁": len(content["model"]["vocab"]), "e▁f": len(content["model"]["vocab"]) + 1}
    content["model"]["merges"] = [["e", "▁"], ["e▁", "f"], *content["model"]["merges"]]
    path.write_text(json.dumps(content))
    loaded = load_tokenizer(tmp_path)
    encoder = CompiledEncoder(loaded)
    assert encoder.form.rule == words.WHOLE
    assert_same(loaded, [encoder], [*CORPUS, "the fox"])
    assert choose_encoder(loaded, dropout=0.0, seed=0)[0].name == "gigatoken"


def test_a_back_end_that_is_wrong_is_not_taken(tmp_path, monkeypatch):
    loaded = of_form(tmp_path, "miniature")
    right = CompiledEncoder.encode
    monkeypatch.setattr(
        CompiledEncoder, "encode", lambda self, texts: (right(self, texts)[0] ^ 1, right(self, texts)[1])
    )
    encoder, note = choose_encoder(loaded, dropout=0.0, seed=0)
    assert isinstance(encoder, HuggingFaceEncoder)
    assert "not gigatoken: " in note
    assert "not compiled BPE: its ids differ" in note


def test_a_wrong_id_in_a_sample_is_noticed(form):
    encoder = choose_encoder(form[1], dropout=0.0, seed=0)[0]
    assert isinstance(encoder, GigatokenEncoder | CompiledEncoder)
    ids, lengths = encoder.encode(CORPUS)
    encoder.check(CORPUS, ids, lengths)
    with pytest.raises(Mismatch, match="differ from those of tokenizers"):
        encoder.check(CORPUS, ids ^ 1, lengths)
