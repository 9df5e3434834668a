"""A Hugging Face byte-fallback BPE tokenizer in the form that llama.cpp calls "llama" (SentencePiece).

llama.cpp merges, anywhere in a text, the neighbours whose union is the token of the highest score. The merges of the
BPE are therefore put into scores: earlier merges score higher. A BPE that first cuts a text into pieces has no
counterpart there; a class for each kind of piece, scored above the next, keeps tokens from growing across most cuts.
What remains is measured on a text, see `agreement`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer, models, normalizers

from modeling_yulanmini.checkpoint_reader import read_json
from modeling_yulanmini.configuration_yulanmini import CheckpointError

METASPACE = "\u2581"  # how llama.cpp and SentencePiece spell a space inside tokens
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
# Marks for trainers (TRL's assistant masks) around what the assistant says; they render to nothing.
GENERATION_MARK = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
# Runs of signs merge first, then words (whose one leading sign or space may be all that is left of a run), then
# spaces: the order in which a left-to-right cut into [sign]word | signs | spaces leaves them over.
SIGNS, WORDS, SPACES = range(3)


@dataclass(frozen=True)
class GgufVocabulary:
    """What goes into a GGUF file's tokenizer keys; lists by token id."""

    tokens: list[str]
    scores: list[float]
    types: list[int]
    adds_bos: bool
    adds_space_prefix: bool
    special_ids: dict[str, int]
    chat_template: str | None


def read_vocabulary(folder: Path, vocab_size: int) -> GgufVocabulary | None:
    """The vocabulary of the folder's tokenizer, padded to the embedding's rows; None without a tokenizer.

    Raises `CheckpointError` for any other kind of tokenizer than BPE with byte fallback.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    content, tokenizer = read_json(path), Tokenizer.from_file(str(path))
    model = content.get("model", {})
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        raise CheckpointError(
            f"{path}: a {model.get('type')} tokenizer, byte_fallback {model.get('byte_fallback')}; "
            "only BPE with byte fallback, as YuLan-Mini's, is written to GGUF."
        )
    added = {entry["id"]: entry for entry in content.get("added_tokens", [])}
    by_id = {index: token for token, index in model["vocab"].items()}
    by_id |= {index: entry["content"] for index, entry in added.items()}
    scores = merge_scores(content)
    tokens, token_scores, types = [], [], []
    for index in range(vocab_size):
        text = by_id.get(index)
        tokens.append(f"[PAD{index}]" if text is None else text if index in added else text.replace(" ", METASPACE))
        token_scores.append(scores.get(text, -1e6) if text is not None else -1e6)
        types.append(token_type(text, added.get(index), model.get("unk_token")))
    if len(set(tokens)) != len(tokens):
        twice = next(token for token in tokens if tokens.count(token) > 1)
        raise CheckpointError(f"{path}: two tokens would be spelled {twice!r} in GGUF.")
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    ids = {token: index for index, token in by_id.items()}
    roles = {role: token_text(settings.get(f"{role}_token")) for role in ("bos", "eos", "unk", "pad")}
    roles["eot"] = "<|eot_id|>"
    # What encoding puts in front, BOS or SentencePiece's space, is seen by doing it.
    first = tokenizer.encode("a").special_tokens_mask[:1]
    return GgufVocabulary(
        tokens=tokens,
        scores=token_scores,
        types=types,
        adds_bos=1 in first if tokenizer.post_processor else bool(settings.get("add_bos_token")),
        adds_space_prefix="".join(tokenizer.encode("a", add_special_tokens=False).tokens).startswith(METASPACE),
        special_ids={role: ids[text] for role, text in roles.items() if text in ids},
        chat_template=chat_template(folder, settings),
    )


def merge_scores(tokenizer: dict[str, Any]) -> dict[str, float]:
    """By token, minus the rank of the first merge that makes it; ranks of a class follow those of the class before."""
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in tokenizer["model"]["merges"]]
    made: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        made.setdefault(left + right, rank)
    cut = bool(tokenizer.get("pre_tokenizer"))
    return {token: -float(rank + (kind_of_piece(token) * len(merges) if cut else 0)) for token, rank in made.items()}


def kind_of_piece(token: str) -> int:
    """Which kind of piece of a cut text the token is part of."""
    text = token.replace(METASPACE, " ")
    if any(character.isalnum() for character in text):
        return WORDS
    return SPACES if text.strip(" \t") == "" else SIGNS


def token_type(text: str | None, added: dict[str, Any] | None, unknown: str | None) -> int:
    """GGUF's kind of a token."""
    if text is None:
        return gguf.TokenType.UNUSED
    if text == unknown:
        return gguf.TokenType.UNKNOWN
    if added is not None:
        return gguf.TokenType.CONTROL if added.get("special") else gguf.TokenType.USER_DEFINED
    return gguf.TokenType.BYTE if BYTE_TOKEN.fullmatch(text) else gguf.TokenType.NORMAL


def token_text(entry: Any) -> str:
    """A special token in tokenizer_config.json is a string, or an object with one."""
    return entry.get("content", "") if isinstance(entry, dict) else str(entry)


def chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    """The chat template without the marks that only trainers know."""
    beside = folder / "chat_template.jinja"
    template = beside.read_text(encoding="utf-8") if beside.is_file() else settings.get("chat_template")
    return GENERATION_MARK.sub("", template) if isinstance(template, str) else None


def agreement(tokenizer: Tokenizer, vocabulary: GgufVocabulary, text: str) -> float:
    """The share of the tokenizer's own tokens in `text` that llama.cpp's algorithm finds too, in their places."""
    own = tokenizer.encode(text, add_special_tokens=False)
    theirs = llama_cpp_tokenizer(vocabulary).encode(text)
    tokens = set(zip(own.ids, own.offsets, strict=True))
    return len(tokens & set(zip(theirs.ids, theirs.offsets, strict=True))) / max(1, len(tokens))


def llama_cpp_tokenizer(vocabulary: GgufVocabulary) -> Tokenizer:
    """llama.cpp's SentencePiece algorithm (greedy by score, leftmost first), without BOS, as a BPE.

    Any two neighbours merge whose union is a token: a token's merges are all its cuts into two tokens.
    """
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    by_score = sorted(ids, key=lambda token: -vocabulary.scores[ids[token]])
    cuts = ((token[:at], token[at:]) for token in by_score for at in range(1, len(token)))
    merges = [(left, right) for left, right in cuts if left in ids and right in ids]
    tokenizer = Tokenizer(models.BPE(ids, merges, byte_fallback=True))
    spaces: list[normalizers.Normalizer] = [normalizers.Replace(" ", METASPACE)]
    if vocabulary.adds_space_prefix:
        spaces.insert(0, normalizers.Prepend(METASPACE))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    return tokenizer
