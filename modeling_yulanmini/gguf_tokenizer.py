"""A Hugging Face byte-fallback BPE tokenizer in the form that llama.cpp calls "llama" (SentencePiece).

llama.cpp merges, anywhere in a text, the neighbours whose union is the token of the highest score. The merges of the
BPE are therefore put into scores: earlier merges score higher. A BPE that first cuts a text into pieces has no
counterpart there; a class for each kind of piece, scored above the next, keeps tokens from growing across most cuts.
What remains is measured on a text, see `agreement`.
"""

import re
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer

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
    content = read_json(path)
    model = content.get("model", {})
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        raise CheckpointError(
            f"{path}: a {model.get('type')} tokenizer, byte_fallback {model.get('byte_fallback')}; "
            "only BPE with byte fallback, as YuLan-Mini's, is written to GGUF."
        )
    added = {entry["id"]: entry for entry in content.get("added_tokens", [])}
    by_id = {index: token for token, index in model["vocab"].items()} | {
        index: entry["content"] for index, entry in added.items()
    }
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
    roles = {role: ids.get(token_text(settings.get(f"{role}_token"))) for role in ("bos", "eos", "unk", "pad")}
    special = {role: index for role, index in roles.items() if index is not None}
    if "<|eot_id|>" in ids:
        special["eot"] = ids["<|eot_id|>"]
    return GgufVocabulary(
        tokens=tokens,
        scores=token_scores,
        types=types,
        adds_bos=adds_bos(content, settings),
        adds_space_prefix=adds_space_prefix(content),
        special_ids=special,
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


def adds_bos(tokenizer: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether encoding a text puts the first token in front, by the post-processor or, failing that, by the flag."""
    processor = tokenizer.get("post_processor") or {}
    for part in processor.get("processors", [processor]):
        if part.get("type") == "TemplateProcessing":
            return "SpecialToken" in part["single"][0]
    return bool(settings.get("add_bos_token", False))


def adds_space_prefix(tokenizer: dict[str, Any]) -> bool:
    """Whether a text is given a space in front, as SentencePiece does."""
    parts: list[dict[str, Any]] = []
    for stage in ("normalizer", "pre_tokenizer"):
        node = tokenizer.get(stage) or {}
        parts += node.get("normalizers") or node.get("pretokenizers") or [node]
    return any(
        (part.get("type") == "Prepend" and part.get("prepend") == METASPACE)
        or (part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") != "never")
        for part in parts
    )


def chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    """The chat template without the marks that only trainers know."""
    beside = folder / "chat_template.jinja"
    template = beside.read_text(encoding="utf-8") if beside.is_file() else settings.get("chat_template")
    return GENERATION_MARK.sub("", template) if isinstance(template, str) else None


def agreement(folder: Path, vocabulary: GgufVocabulary, text: str) -> float:
    """The share of the tokenizer's own token boundaries in `text` that llama.cpp's algorithm finds too."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own = tokenizer.encode(text, add_special_tokens=False).ids
    theirs = sentencepiece_encode(vocabulary, text)
    return len(boundaries(vocabulary, own) & boundaries(vocabulary, theirs)) / max(1, len(own))


def boundaries(vocabulary: GgufVocabulary, ids: list[int]) -> set[tuple[int, int]]:
    """Where in the bytes of a text each token ends, and which token it is."""
    ends, position = set(), 0
    for index in ids:
        is_byte = vocabulary.types[index] == gguf.TokenType.BYTE
        position += 1 if is_byte else len(vocabulary.tokens[index].replace(METASPACE, " ").encode())
        ends.add((position, index))
    return ends


def sentencepiece_encode(vocabulary: GgufVocabulary, text: str) -> list[int]:
    """Token ids of a text by llama.cpp's SentencePiece algorithm (greedy by score, leftmost first), without BOS."""
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    text = (" " if vocabulary.adds_space_prefix else "") + text
    symbols: list[str | None] = list(text.replace(" ", METASPACE))
    before, after = list(range(-1, len(symbols) - 1)), [*range(1, len(symbols)), -1]
    queue: list[tuple[float, int, int, str]] = []

    def consider(left: int, right: int) -> None:
        if left >= 0 and right >= 0:
            union = f"{symbols[left]}{symbols[right]}"
            if union in ids:
                heappush(queue, (-vocabulary.scores[ids[union]], left, right, union))

    for position in range(1, len(symbols)):
        consider(position - 1, position)
    while queue:
        _, left, right, union = heappop(queue)
        if symbols[left] is None or symbols[right] is None or f"{symbols[left]}{symbols[right]}" != union:
            continue
        symbols[left], symbols[right] = union, None
        after[left] = after[right]
        if after[right] >= 0:
            before[after[right]] = left
        consider(before[left], left)
        consider(left, after[left])
    encoded: list[int] = []
    for symbol in symbols:
        if symbol is not None:
            pieces = [symbol] if symbol in ids else [f"<0x{byte:02X}>" for byte in symbol.encode()]
            encoded += [ids[piece] for piece in pieces]
    return encoded
