"""Tokenizers of all forms that the published one could have, and of others, trained on a little text."""

import json
from functools import cache
from typing import Any

from made_text import WORDS, make_documents
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from data_recipes.tokens import train
from data_recipes.tokens.probes import PROBES
from data_recipes.tokens.seams import LLAMA3
from data_recipes.tokens.tokenizer import LoadedTokenizer, load_tokenizer

# What stands at seams: letters, signs, spaces of all kinds and lengths, digits, special tokens, runs without a space.
SHREDS = [
    *("a", "the", "Quick", "don't", "I'LL", "天地", "玄", "é", "e\u0301", "नमस्ते", "👩‍👩‍👧", "ﬁ", "がぎ", "한국", "Ж"),
    *(" ", "  ", "     ", "\t", "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "\u3000", "\u00a0", "\u2028", "\x0b", "\x00"),
    *("1", "2024", "3.14", "１２", "½", ",", ".", "...", ";", "(", ")", "，", "。", "！", "“", "”", "'", "’", "_", "-"),
    *("</s>", "<s>", "<pad>", "<think>", "x" * 40, "=" * 20, "天" * 30, "0" * 30, "▁", "▁▁a", "<0x0A>"),
    *(
        "'s",
        "'S",
        "'ſ",
        "'ſt",
        "'re",
        "'vE",
        "'l",
        "'",
        " 's",
        "K",
        "ß",
        "\u0085",
        "٣",
        "²",
        "Ⅷ",
        "\U0001d7d8",
        "\ufeff",
    ),
]
CORPUS = [text for domain in WORDS for text in make_documents(domain, 200)] + PROBES + ["".join(SHREDS)] * 3

WIDE_SPACE = {"type": "Replace", "pattern": {"String": "\u3000"}, "content": " "}
SPACE_TO_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
MARK_BEFORE = {"type": "Prepend", "prepend": "▁"}
DIGITS = {"type": "Digits", "individual_digits": True}


def metaspace(scheme: str, *, split: bool) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def first_then(*normalizers_of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(normalizers_of)}


def one_by_one(*cutters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(cutters)}


# Name: normaliser, pre-tokenizer, the back end that is to encode it. All with bytes for unknown characters.
BYTE_FALLBACK_FORMS: dict[str, tuple[Any, Any, str]] = {
    "miniature": (WIDE_SPACE, split(train.PIECES), "compiled BPE"),
    "Llama": (first_then(MARK_BEFORE, SPACE_TO_MARK), None, "gigatoken"),
    "Llama, digits": (first_then(MARK_BEFORE, SPACE_TO_MARK), DIGITS, "gigatoken"),
    "Llama, digits by expression": (first_then(WIDE_SPACE, MARK_BEFORE, SPACE_TO_MARK), split(r"\d"), "gigatoken"),
    "Llama, numbers whole": (
        first_then(MARK_BEFORE, SPACE_TO_MARK),
        {"type": "Digits", "individual_digits": False},
        "gigatoken",
    ),
    "marks for spaces, digits": (SPACE_TO_MARK, DIGITS, "gigatoken"),
    "Metaspace": (None, metaspace("first", split=False), "gigatoken"),
    "Metaspace, digits": (None, one_by_one(metaspace("first", split=False), DIGITS), "gigatoken"),
    "Metaspace always, digits": (WIDE_SPACE, one_by_one(metaspace("always", split=False), DIGITS), "gigatoken"),
    "digits, Metaspace never": (None, one_by_one(DIGITS, metaspace("never", split=True)), "compiled BPE"),
    "Metaspace by words": (None, metaspace("always", split=True), "compiled BPE"),
    "Metaspace by words, digits": (None, one_by_one(metaspace("always", split=True), DIGITS), "compiled BPE"),
    "digits, then the miniature's words": (WIDE_SPACE, one_by_one(DIGITS, split(train.PIECES)), "compiled BPE"),
    "Llama 3's words, digits": (None, one_by_one(split(LLAMA3), DIGITS), "compiled BPE"),
}


@cache
def byte_fallback() -> Tokenizer:
    """A vocabulary of marked words, pieces of words and runs of signs, as BPE would learn of any of the forms."""
    trainee = Tokenizer(models.BPE())
    trainee.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Digits(True)])
    spaced = [text.replace("▁", " ") for text in CORPUS]
    trainee.train_from_iterator(spaced, trainers.BpeTrainer(vocab_size=420, limit_alphabet=90, show_progress=False))
    marked = json.loads(trainee.to_str())["model"]
    trainee = Tokenizer(models.BPE())
    trainee.normalizer, trainee.pre_tokenizer = train.normalizer(), train.pre_tokenizer()
    trainee.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, limit_alphabet=90, show_progress=False))
    plain = json.loads(trainee.to_str())["model"]
    tokens = list(dict.fromkeys([*marked["vocab"], *plain["vocab"]]))
    merges = list(
        dict.fromkeys(tuple(pair) for both in zip(marked["merges"], plain["merges"], strict=False) for pair in both)
    )
    return train.assemble({token: number for number, token in enumerate(tokens)}, merges)


def of_form(folder, name: str) -> LoadedTokenizer:
    """One of `BYTE_FALLBACK_FORMS`, written to `folder` and loaded."""
    train.save(byte_fallback(), folder)
    path = folder / "tokenizer.json"
    normalizer, pre_tokenizer, _ = BYTE_FALLBACK_FORMS[name]
    content = json.loads(path.read_text()) | {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
    path.write_text(json.dumps(content))
    return load_tokenizer(folder)
