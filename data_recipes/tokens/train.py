"""Train a tokenizer on a corpus folder: BPE with byte fallback, digits one by one, YuLan-Mini's special tokens.

The result is an ordinary Hugging Face folder that `AutoTokenizer` loads without this package. The published
listing gives ids 0-2 and 102-106 (facts.md, 2); ids 3-101 are not shown there and are reserved here. How the
published vocabulary was made is not public: pre-tokenisation, sampling and byte order are ours.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from data_recipes.errors import DataError
from data_recipes.manifest import check_new_folder, read_manifest, whole_folder, write_manifest

SPECIAL_TOKENS = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    **{index: f"<reserved_{index}>" for index in range(3, 102)},
    102: "<pad>",
    103: "<reasoning_step>",
    104: "<|start_header_id|>",
    105: "<|end_header_id|>",
    106: "<|eot_id|>",
}
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
# Words with the space before them; every digit alone; runs of signs; line ends apart from other spaces.
# A digit is never part of a longer token, so no token can be spelled like a byte token either.
PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
IDEOGRAPHIC_SPACE = "\u3000"
ALPHABET_SHARE = 0.3  # of the learnt vocabulary: single characters, the commonest; the others take bytes
SAMPLE_BYTES = 700_000  # of each domain, so that a large domain does not crowd the others out
MAX_LENGTH = 28_672  # the longest context of the published model (facts.md, 5)
SMALLEST_VOCABULARY, LARGEST_VOCABULARY = 512, 10_000_000


def check_training(corpus: Path, out: Path, *, vocab_size: int) -> dict[str, Any]:
    """The corpus folder's manifest; `DataError` for what `train_tokenizer` would refuse."""
    check_new_folder(out)
    corpus_manifest = read_manifest(Path(corpus), kind="corpus")
    if vocab_size < SMALLEST_VOCABULARY:
        raise DataError(
            f"vocab_size {vocab_size}: {len(SPECIAL_TOKENS)} special and {len(BYTE_TOKENS)} byte tokens are always "
            f"there; give at least {SMALLEST_VOCABULARY}."
        )
    if vocab_size > LARGEST_VOCABULARY:
        raise DataError(f"vocab_size {vocab_size}: expected at most {LARGEST_VOCABULARY:,}.")
    return corpus_manifest


def train_tokenizer(
    corpus: Path,
    out: Path,
    *,
    vocab_size: int = 3_000,
    seed: int = 0,
    sample_bytes: int = SAMPLE_BYTES,
    progress: bool = False,
) -> dict[str, Any]:
    """Train on the corpus folder's train/ and write the tokenizer folder `out`; returns its manifest.

    `vocab_size` counts special and byte tokens; a small corpus can give fewer (counts["vocab_size"] of the
    manifest tells). counts["bytes_per_token"] is the compression by domain on held-out text.
    """
    corpus_manifest = check_training(corpus, out, vocab_size=vocab_size)
    learnt = vocab_size - len(SPECIAL_TOKENS) - len(BYTE_TOKENS)
    trainee = Tokenizer(BPE())
    trainee.normalizer, trainee.pre_tokenizer = normalizer(), pre_tokenizer()
    sample = list(balanced_sample(Path(corpus), sample_bytes=sample_bytes, seed=seed))
    if not sample:
        raise DataError(f"{corpus}: no text in train/. Build the corpus again.")
    alphabet = commonest_characters(sample, int(ALPHABET_SHARE * learnt))
    trainer = BpeTrainer(
        vocab_size=learnt,
        min_frequency=2,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=progress,
    )
    trainee.train_from_iterator(sample, trainer)
    model = json.loads(trainee.to_str())["model"]
    tokenizer = assemble(model["vocab"], [tuple(merge) for merge in model["merges"]])
    with whole_folder(out) as folder:
        save(tokenizer, folder)
        return write_manifest(
            folder,
            kind="tokenizer",
            inputs={"corpus": corpus_manifest["fingerprint"]},
            config={"vocab_size": vocab_size, "sample_bytes": sample_bytes, "alphabet_share": ALPHABET_SHARE},
            counts={
                "vocab_size": tokenizer.get_vocab_size(),
                "bytes_per_token": compression(tokenizer, Path(corpus) / "heldout"),
            },
            seed=seed,
        )


def normalizer() -> normalizers.Normalizer:
    """The only change to a text: U+3000 becomes a space, as in the published data preparation."""
    return normalizers.Replace(IDEOGRAPHIC_SPACE, " ")


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(PIECES), behavior="isolated")


def assemble(learnt: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """The whole tokenizer: special tokens at their ids, then the bytes, then what was learnt, in its order."""
    vocabulary = {token: index for index, token in SPECIAL_TOKENS.items()}
    for token in [*BYTE_TOKENS, *sorted(learnt, key=lambda token: learnt[token])]:
        vocabulary[token] = len(vocabulary)
    tokenizer = Tokenizer(BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer(), pre_tokenizer()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS.values()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, its config and the special-token map."""
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # known to every version of transformers
        **roles,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "padding_side": "right",
        "model_max_length": MAX_LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": (files("data_recipes.tokens") / "chat_template.jinja").read_text(encoding="utf-8"),
    }
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", roles)):
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def documents(path: Path) -> Iterator[str]:
    """The texts of a domain's file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]


def balanced_sample(corpus: Path, *, sample_bytes: int, seed: int) -> Iterator[str]:
    """Up to `sample_bytes` of each domain in the order of a seeded shuffle, one domain after the other."""
    for path in sorted((corpus / "train").glob("*.jsonl")):
        texts = list(documents(path))
        Random(f"{seed}-{path.stem}").shuffle(texts)
        left = sample_bytes
        for text in texts:
            if left <= 0:
                break
            left -= len(text.encode())
            yield text


def commonest_characters(texts: Iterable[str], count: int) -> list[str]:
    """The commonest characters, equally common ones by code point.

    The trainer's own choice leaves that order to chance, and so its vocabulary differs from run to run.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    counts[" "] += counts.pop(IDEOGRAPHIC_SPACE, 0)
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    return [character for character in ranked[:count] if counts[character] > 1]


def compression(tokenizer: Tokenizer, folder: Path) -> dict[str, float]:
    """UTF-8 bytes per token by domain, higher is better (Table 2 of the report; its definition is not public)."""
    table = {}
    for path in sorted(folder.glob("*.jsonl")):
        texts = list(documents(path))
        tokens = sum(map(len, tokenizer.encode_batch_fast(texts, add_special_tokens=False)))
        table[path.stem] = round(sum(len(text.encode()) for text in texts) / tokens, 3) if tokens else 0.0
    return table
