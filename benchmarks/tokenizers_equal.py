"""Do the fast back ends give the ids of `tokenizers` on everything? Compares them, document by document.

    python benchmarks/tokenizers_equal.py --megabytes 1000 --out benchmarks/results/tokenizers_equal.json

Text: every file of Python's installation and of the system's documentation (binary ones too: their bytes, read
as UTF-8 with replacement, are as good as noise), problems in English and Chinese as the miniature computes them, and
adversarial text: random code points, every pair of bytes, digits of all scripts between letters, control characters,
long runs, spellings of control and byte tokens. Tokenizers: the miniature's form and Llama's with digits apart, with a
vocabulary learnt from the same text, each with every fast back end that takes it. Exit 1 if any id differs.
"""

import argparse
import itertools
import json
import random
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from data_recipes.corpus.build import generated
from data_recipes.corpus.held_out import GENERATED
from data_recipes.tokens import train
from data_recipes.tokens.encoders import CompiledEncoder, GigatokenEncoder
from data_recipes.tokens.tokenizer import LoadedTokenizer, load_tokenizer

LONGEST = 20_000  # characters of a document: `tokenizers` is quadratic in none of the forms, but slow
BATCH = 2_000_000
FORMS = ("miniature", "Llama, digits apart")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1_000, help="of text")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop after so long, with what was compared"
    )
    parser.add_argument("--vocabulary", type=int, default=32_768)
    parser.add_argument("--tokenizers", type=Path, help="folder to keep the trained tokenizers in")
    parser.add_argument("--form", choices=FORMS, default=FORMS[0])
    parser.add_argument("--out", type=Path, help="the figures of this form are put among those of others there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        tokenizer = tokenizer_of(arguments.form, arguments.tokenizers or Path(place), arguments.vocabulary)
        result = compare(tokenizer, arguments.megabytes * 10**6, 60 * arguments.minutes)
    print(json.dumps(result, indent=2))
    if arguments.out:
        forms = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
        arguments.out.write_text(json.dumps(forms | {arguments.form: result}, indent=2) + "\n")
    sys.exit(1 if result["batches that differ"] else 0)


def compare(tokenizer: LoadedTokenizer, limit: int, seconds: float) -> dict[str, Any]:
    """All back ends encode all of the text: how much there was of each kind, and how often ids were not the same."""
    engines: list[CompiledEncoder | GigatokenEncoder] = [CompiledEncoder(tokenizer)]
    try:
        engines.append(GigatokenEncoder(tokenizer))
    except Exception as refused:
        print(f"gigatoken: {refused!s:.100}", file=sys.stderr)
    sizes: dict[str, int] = {}
    tokens = differing = 0
    start = time.monotonic()
    for kind, texts in batches(limit):
        sizes[kind] = sizes.get(kind, 0) + sum(len(text.encode()) for text in texts)
        ids, lengths = tokenizer.encode(texts)
        tokens += len(ids)
        for engine in engines:
            own, own_lengths = engine.encode(texts)
            if not (np.array_equal(own, ids) and np.array_equal(own_lengths, lengths)):
                differing += 1
                wrong = [
                    text for text in texts if not np.array_equal(tokenizer.encode([text])[0], engine.encode([text])[0])
                ]
                print(f"{engine.name}: {len(wrong)} of {len(texts)}: {wrong[:1]!r:.300}", file=sys.stderr)
        if time.monotonic() - start > seconds:
            break
        print(
            f"{sum(sizes.values()) / 1e6:,.0f} MB, {kind}, {time.monotonic() - start:,.0f} s",
            file=sys.stderr,
            flush=True,
        )
    return {
        "back ends": [engine.name for engine in engines],
        "vocabulary": tokenizer.vocab_size,
        "bytes": sizes,
        "bytes in all": sum(sizes.values()),
        "tokens": tokens,
        "batches that differ": differing,
    }


def batches(limit: int) -> Iterator[tuple[str, list[str]]]:
    """Documents of one kind at a time: noise of some kind, problems, and for the rest files of text."""
    done = 0
    for kind, source, share in (
        ("adversarial", adversarial(), 0.02),
        ("bytes of files that are no text", files(text=False), 0.01),
        ("generated problems", problems(), 0.03),
        ("files of text", files(text=True), 1.0),
        ("generated problems", problems(), 1.0),  # where the machine has too few files
    ):
        until = min(limit, done + int(share * limit))
        held: list[str] = []
        size = 0
        for text in source:
            for start in range(0, len(text), LONGEST):
                held.append(text[start : start + LONGEST])
            size += len(text.encode())
            if size >= BATCH or done + size >= until:
                yield kind, held
                done += size
                held, size = [], 0
                if done >= until:
                    break


def files(*, text: bool) -> Iterator[str]:
    """Files of the installation, each content once, in an order by seed; of those that are no text 200 kB each."""
    roots = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")]
    roots += [Path(root) for root in ("/usr/share", "/usr/include", "/usr/lib", "/etc", "/opt") if Path(root).is_dir()]
    paths = sorted({path for root in roots for path in root.rglob("*") if path.is_file() and not path.is_symlink()})
    random.Random(0).shuffle(paths)
    seen = set()
    for path in paths:
        try:
            content = path.read_bytes()[: 10**7]
        except OSError:
            continue
        digest = xxhash.xxh3_128_digest(content)
        if digest not in seen:
            seen.add(digest)
            try:
                decoded = content.decode()
                if text:
                    yield decoded
            except UnicodeDecodeError:
                if not text:
                    yield content[:200_000].decode(errors="replace")


def problems() -> Iterator[str]:
    """Without end: what the miniature computes, in English and Chinese."""
    for pair in zip(*(generated(domain, seed=0, heldout=False) for domain in GENERATED), strict=True):
        yield from (document.text for document in pair)


def adversarial(seed: int = 0) -> Iterator[str]:
    """Without end: text that a hand-written scanner would get wrong first."""
    draw = random.Random(seed)
    everything = [chr(point) for point in itertools.chain(range(0xD800), range(0xE000, 0x110000))]
    digits = [character for character in everything if character.isnumeric()]
    spaces = [
        *" \t\r\n\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2000\u200b\u2028\u2029\u202f\u205f\u3000\ufeff",
        "  ",
        "\r\n",
        "\n\n",
    ]
    words = [
        "the",
        "don't",
        "I'LL",
        "'s",
        "'ſ",
        "天地",
        "é",
        "e\u0301",
        "👩‍👩‍👧",
        "ﬁ",
        "▁",
        "▁▁",
        "_",
        "x",
        "Ж",
        "نص",
        "한",
    ]
    spelt = ["<s>", "</s>", "<unk>", "<pad>", "<|eot_id|>", "<0x0A>", "<0xE2>", "<0x", ">", "Ġ", "Ċ"]
    signs = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~，。！？“”…—")
    mixed = [*words, *spaces, *spelt, *signs, *draw.choices(digits, k=60), *(chr(point) for point in range(32))]
    pairs = (bytes([first, second, *draw.choices(range(256), k=2)]) for first in range(256) for second in range(256))
    yield from (b"".join(itertools.islice(pairs, 5_000)).decode(errors="replace") for _ in range(14))
    while True:
        yield "".join(draw.choices(everything, k=5_000))
        yield "".join(draw.choices(everything[:0x3000], k=5_000))
        yield draw.randbytes(10_000).decode(errors="replace")
        yield "".join(draw.choices(mixed, k=5_000))
        yield "".join(draw.choice(mixed) * draw.choice((1, 1, 1, 2, 3, 50)) for _ in range(2_000))
        yield draw.choice(["", "a", " ", "▁"]).join(draw.choices(digits, k=3_000))
        yield draw.choice(mixed) * 5_000
        yield "".join(map(chr, draw.choices(range(256), k=5_000)))
        yield "".join(draw.choices(spaces, k=3_000)) + "".join(draw.choices([*spaces, *signs, "a", "1"], k=3_000))


def tokenizer_of(form: str, folder: Path, size: int) -> LoadedTokenizer:
    """A tokenizer of one form, trained once and kept in `folder`."""
    place = folder / f"{form.split(',')[0]}-{size}"
    if not (place / "tokenizer.json").is_file():
        trainee = Tokenizer(models.BPE())
        if form == "miniature":
            trainee.normalizer, trainee.pre_tokenizer = train.normalizer(), train.pre_tokenizer()
        else:
            trainee.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Metaspace(),
                    pre_tokenizers.Punctuation(),
                    pre_tokenizers.Digits(individual_digits=True),
                ]
            )
        sample = list(itertools.islice(files(text=True), 3_000))
        sample += list(itertools.islice(problems(), 2_000))
        alphabet = train.commonest_characters(sample, size // 10)
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        trainee.train_from_iterator((text[:100_000] for text in sample), trainer)
        model = json.loads(trainee.to_str())["model"]
        made = train.assemble(model["vocab"], [tuple(merge) for merge in model["merges"]])
        if form != "miniature":
            made.pre_tokenizer = pre_tokenizers.Digits(individual_digits=True)
            made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        place.mkdir(parents=True)
        train.save(made, place)
    return load_tokenizer(place)


if __name__ == "__main__":
    main()
