"""Long texts cut for encoding: always the ids of the whole, for each kind of tokenizer, or no cut at all."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_forms import CORPUS, SHREDS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from data_recipes.reading import documents
from data_recipes.reading.documents import LongText
from data_recipes.tokens import seams, tokenizer, train
from data_recipes.tokens.bpe_dropout import DropoutEncoder
from data_recipes.tokens.encoders import GigatokenEncoder, HuggingFaceEncoder, choose_encoder
from data_recipes.tokens.tokenizer import LoadedTokenizer, load_tokenizer

TEXTS = st.lists(st.sampled_from(SHREDS), min_size=1, max_size=60).map("".join)


def byte_level(folder: Path, regex: str | None) -> None:
    made = Tokenizer(models.BPE())
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex is None)
    split = None if regex is None else pre_tokenizers.Split(Regex(regex), "isolated")
    made.pre_tokenizer = to_bytes if split is None else pre_tokenizers.Sequence([split, to_bytes])
    made.decoder = decoders.ByteLevel()
    save(made, folder, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def ours(folder: Path) -> None:
    made = Tokenizer(models.BPE())
    made.normalizer, made.pre_tokenizer = train.normalizer(), train.pre_tokenizer()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, show_progress=False))
    model = json.loads(made.to_str())["model"]
    train.save(train.assemble(model["vocab"], [tuple(merge) for merge in model["merges"]]), folder)


def llama(folder: Path, *, metaspace: bool) -> None:
    """As published Llama-style tokenizers are: words marked before them, no pre-tokenizer that cuts, bytes."""
    trainee = Tokenizer(models.BPE())
    trainee.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    trainee.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, limit_alphabet=90, show_progress=False))
    model = json.loads(trainee.to_str())["model"]
    whole = train.assemble(model["vocab"], [tuple(merge) for merge in model["merges"]])
    whole.normalizer, whole.pre_tokenizer = None, None
    if metaspace:
        whole.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        whole.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    train.save(whole, folder)


def save(made: Tokenizer, folder: Path, **options) -> None:
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False, **options)
    )
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))


KINDS = {
    "GPT-2": lambda folder: byte_level(folder, None),
    "Llama 3": lambda folder: byte_level(folder, seams.LLAMA3),
    "ours": ours,
    "Llama": lambda folder: llama(folder, metaspace=False),
    "Llama, Metaspace": lambda folder: llama(folder, metaspace=True),
}


@pytest.fixture(scope="module", params=KINDS)
def loaded(request, tmp_path_factory) -> LoadedTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    KINDS[request.param](folder)
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        for module in (documents, tokenizer):
            patch.setattr(module, "CHUNK_CHARACTERS", 7)
        yield


@pytest.mark.usefixtures("small_chunks")
def test_every_kind_can_be_cut_and_most_texts_are(loaded):
    assert loaded.seams is not None
    text = ", ".join(CORPUS)
    parts = [part for _, part in loaded.parts(text)]
    assert "".join(parts) == text
    assert len(parts) > 500
    assert len(list(loaded.parts("天地玄黄，宇宙洪荒。" * 9))) > 4


@pytest.mark.usefixtures("small_chunks")
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_ids_and_places_are_those_of_the_whole(loaded, text):
    whole = loaded.backend.encode(text, add_special_tokens=False)
    ids, lengths = loaded.encode(["a", text, ""])
    assert ids[lengths[0] :].tolist() == whole.ids
    located = loaded.locate(text, bos=False)
    assert located.ids.tolist() == [*whole.ids, loaded.eos_id]
    assert located.begins.tolist() == [*(begin for begin, _ in whole.offsets), len(text)]


@pytest.mark.usefixtures("small_chunks")
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_every_back_end_gives_the_whole_part_by_part(loaded, text):
    whole = loaded.backend.encode(text, add_special_tokens=False).ids
    encoder, _ = choose_encoder(loaded, dropout=0.0, seed=0)
    halves = [text[: len(text) // 2], text[len(text) // 2 :]]
    for one in {HuggingFaceEncoder(loaded), encoder}:
        for given_as in (text, LongText(lambda: iter(["", *halves]), len(text))):
            assert np.concatenate([np.empty(0, int), *one.encode_long(given_as)]).tolist() == whole


@pytest.mark.usefixtures("small_chunks")
def test_no_cut_is_made_where_a_merge_could_join(tmp_path):
    """Trained without any pre-tokenizer, a vocabulary has tokens that reach from a letter into a sign."""
    trainee = Tokenizer(models.BPE())
    trainee.train_from_iterator(CORPUS * 3, trainers.BpeTrainer(vocab_size=900, show_progress=False))
    model = json.loads(trainee.to_str())["model"]
    whole = train.assemble(model["vocab"], [tuple(merge) for merge in model["merges"]])
    whole.normalizer, whole.pre_tokenizer = None, None
    train.save(whole, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert any(left[-1].isalpha() and right[0] in seams.SIGNS for left, right in model["merges"])
    for text in (", ".join(CORPUS), ". ".join(CORPUS[::3]), "".join(SHREDS) * 20):
        assert loaded.encode([text])[0].tolist() == loaded.backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", ["GPT-2", "Llama 3"])
def test_gigatoken_is_among_the_back_ends(tmp_path, kind):
    KINDS[kind](tmp_path)
    encoder, note = choose_encoder(load_tokenizer(tmp_path), dropout=0.0, seed=0)
    assert isinstance(encoder, GigatokenEncoder), note


@pytest.mark.parametrize("kind", ["GPT-2", "ours"])
def test_dropout_is_the_same_whether_cut_or_not(tmp_path, monkeypatch, kind):
    KINDS[kind](tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = " ".join(CORPUS[::7])
    encoder = DropoutEncoder(loaded.backend, rate=0.2, seed=3)
    whole = encoder.encode([text])[0]
    monkeypatch.setattr(documents, "CHUNK_CHARACTERS", 50)
    stretches = list(encoder.encode_long(text))
    assert len(stretches) > 20
    assert np.array_equal(np.concatenate(stretches), whole)
    assert not np.array_equal(whole, loaded.encode([text])[0])


def edited(folder: Path, change) -> LoadedTokenizer:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return load_tokenizer(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(normalizer={"type": "Strip", "strip_left": True, "strip_right": True}),
        lambda content: content["pre_tokenizer"].update(add_prefix_space=True),
        lambda content: content.update(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": r"\w+\s"},
                "behavior": "Isolated",
                "invert": False,
            }
        ),
        lambda content: content["added_tokens"][0].update(special=False, rstrip=True),
    ],
    ids=["strips", "adds a space", "another pattern", "a token that takes the space after it"],
)
def test_what_is_not_known_to_have_seams_is_encoded_whole(tmp_path, change):
    byte_level(tmp_path, None)
    loaded = edited(tmp_path, change)
    assert loaded.seams is None
    text = "a the fox, " * 40_000
    assert list(loaded.parts(text)) == [(0, text)]


@pytest.mark.usefixtures("small_chunks")
def test_added_tokens_are_never_cut(tmp_path):
    byte_level(tmp_path, None)
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    made.add_tokens([AddedToken("<think> it, over", normalized=False), AddedToken("fox.")])
    made.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path)
    text = "a (b) <think> it, over the fox. And (so) on; fox.fox. <think> it, over" * 5
    assert loaded.encode([text])[0].tolist() == loaded.backend.encode(text, add_special_tokens=False).ids
    assert len(list(loaded.parts(text))) > 5
