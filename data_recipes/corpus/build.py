"""The miniature's corpus: texts by domain, held-out text set aside first, dialogues for fine-tuning.

Without a folder of the user's own it uses text found on this machine (`installed.py`); mathematics,
instruction data and dialogues are generated (`synthesis`), and Chinese is filled up with computed prose.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_recipes.corpus import installed
from data_recipes.corpus.copies import dropped_by_step, without_copies
from data_recipes.corpus.folder import Reading, read_folder
from data_recipes.corpus.held_out import GENERATED, heldout_size, keep_apart, split
from data_recipes.corpus.installed import Document, size
from data_recipes.corpus.tidy_text import clean_text
from data_recipes.errors import DataError
from data_recipes.manifest import check_new_folder, fingerprint_of, whole_folder, write_manifest
from data_recipes.recipes.recipe import DOMAINS
from data_recipes.synthesis.programs import documents as generated_documents
from data_recipes.synthesis.prose_zh import chinese_documents

# Bytes of training text by domain for 1,008 steps of 3,584 tokens: each domain's share of the published
# tokens (facts.md, 4.6) times the bytes a token of it takes, so that little has to be seen twice.
DOMAIN_BYTES = {
    "web-en": 5_600_000,
    "web-zh": 1_000_000,
    "code": 2_000_000,
    "math": 700_000,
    "books-papers-encyclopedia": 1_200_000,
    "instruction-synthetic": 900_000,
}
# Whose text stands in for a domain that the user's folder lacks, first choice first.
SUBSTITUTES = {
    "web-en": ("books-papers-encyclopedia", "web-zh", "code"),
    "web-zh": ("web-en", "books-papers-encyclopedia", "code"),
    "code": ("web-en", "books-papers-encyclopedia", "web-zh"),
    "books-papers-encyclopedia": ("web-en", "web-zh", "code"),
}
# So much more is read than is wanted: a fifth of English documentation repeats other, half of the books are licences
# that do.
EXTRA = {domain: 2.2 if domain == "books-papers-encyclopedia" else 1.4 for domain in DOMAIN_BYTES}
SHORTEST = 20
REAL_CHINESE_SHARE = 0.6  # the rest is computed prose, so that Chinese text is not all program messages
DIALOGUES = 24_000
HELDOUT_PER_KIND = 100
# A user's folder may be far larger than what a miniature reads: files are read up to this multiple of the target.
READ_MULTIPLE = 6


def build_corpus(
    out: Path,
    *,
    corpus: Path | None = None,
    seed: int = 0,
    target_bytes: int = sum(DOMAIN_BYTES.values()),
    text_column: str | None = None,
    dialogues: int = DIALOGUES,
    progress: bool = False,
) -> dict[str, Any]:
    """Write the corpus folder `out` (train/, heldout/, dialogues/, cleaning/, manifest.json); returns the manifest.

    `corpus`: the user's folder, or None for text found on this machine. `target_bytes`: UTF-8 bytes of
    training text over all domains. The same machine or folder, seed and target give the same bytes.
    Raises `DataError` for a folder that is missing, empty, or has no readable text.
    """
    check_new_folder(out)
    budgets = {domain: size * target_bytes // sum(DOMAIN_BYTES.values()) for domain, size in DOMAIN_BYTES.items()}
    # What is taken from texts that were found; the rest is made.
    wanted = budgets if corpus else {**budgets, "web-zh": int(REAL_CHINESE_SHARE * budgets["web-zh"])}
    reading = Reading()
    with (
        whole_folder(out) as folder,
        tqdm(total=target_bytes, unit="B", unit_scale=True, desc="corpus", disable=not progress) as bar,
    ):
        if corpus is None:
            found = gather_installed(wanted, seed=seed, bar=bar)
        else:
            stream = read_folder(
                Path(corpus),
                seed=seed,
                reading=reading,
                text_column=text_column,
                max_bytes=READ_MULTIPLE * target_bytes,
            )
            found = gather(stream, wanted, bar=bar)
            refuse_without_text(Path(corpus), found, reading)
        distinct = without_copies(found, folder / "cleaning")
        chosen = {domain: up_to(documents, wanted[domain]) for domain, documents in distinct.items()}
        sides = {domain: split(chosen.get(domain, []), seed=seed) for domain in DOMAINS}
        for domain in GENERATED:
            heldout, train = sides[domain]
            heldout += take(generated(domain, seed=seed, heldout=True), heldout_size(budgets[domain]) - size(heldout))
            train += take(generated(domain, seed=seed, heldout=False), budgets[domain] - size(train), bar=bar)
        if corpus is None:
            add_computed_chinese(sides["web-zh"], budgets["web-zh"], seed=seed)
        dropped = keep_apart(sides)
        substitutes = name_substitutes(sides)
        for name, index in (("heldout", 0), ("train", 1)):
            (folder / name).mkdir()
            for domain, pair in sides.items():
                if pair[index]:
                    write_lines(folder / name / f"{domain}.jsonl", (text.as_record() for text in pair[index]))
        (folder / "dialogues").mkdir()
        training = generated_documents.training_dialogues(dialogues, seed=seed)
        unseen = generated_documents.heldout_dialogues(HELDOUT_PER_KIND, seed=seed)
        dialogue_counts = {
            "train": write_lines(folder / "dialogues" / "train.jsonl", training),
            "heldout": write_lines(folder / "dialogues" / "heldout.jsonl", unseen),
        }
        return write_manifest(
            folder,
            kind="corpus",
            inputs={} if corpus is None else {"corpus": fingerprint_of(reading.used)},
            config={
                "source": "installed" if corpus is None else "folder",
                "target_bytes": target_bytes,
                "text_column": text_column,
                "dialogues": dialogues,
            },
            counts={
                "domains": {domain: describe(*pair) for domain, pair in sides.items()},
                "dialogues": dialogue_counts,
                "dropped": {**dropped_by_step(folder / "cleaning"), "near_heldout": dropped},
                "files": {
                    "used": len(reading.used),
                    "skipped": len(reading.skipped),
                    "not_needed": reading.not_needed,
                },
            },
            seed=seed,
            substitutes=substitutes,
            skipped=reading.skipped,
        )


def gather_installed(budgets: dict[str, int], *, seed: int, bar: tqdm) -> dict[str, list[Document]]:
    """Texts of this machine, those first that are kept of two copies."""
    streams = {
        "books-papers-encyclopedia": installed.reference_documents(seed=seed),
        "web-zh": installed.chinese_documents(seed=seed),
        "code": installed.code_documents(seed=seed),
        "web-en": installed.english_documents(seed=seed),
    }
    found: dict[str, list[Document]] = {}
    for domain, stream in streams.items():
        pairs = ((domain, document) for document in stream)
        found |= gather(pairs, {domain: budgets[domain]}, bar=bar)
    return found


def gather(stream: Iterable[tuple[str, Document]], budgets: dict[str, int], *, bar: tqdm) -> dict[str, list[Document]]:
    """Tidy texts by domain, copies among them, until there are `EXTRA` times what is wanted or the stream ends."""
    found: dict[str, list[Document]] = {domain: [] for domain in budgets}
    bytes_left = {domain: EXTRA[domain] * with_heldout(budget) for domain, budget in budgets.items()}
    for domain, document in stream:
        if bytes_left[domain] <= 0:
            continue
        text = clean_text(document.text)
        if len(text) < SHORTEST:
            continue
        document = Document(text, document.origin, document.language, group=document.group)
        found[domain].append(document)
        bytes_left[domain] -= document.size
        bar.update(int(document.size / EXTRA[domain]))
        if all(left <= 0 for left in bytes_left.values()):
            break
    return found


def with_heldout(budget: int) -> int:
    """Bytes that are wanted for training text of so many bytes and the held-out part."""
    return budget + heldout_size(budget)


def up_to(documents: Iterable[Document], budget: int) -> list[Document]:
    """The first documents that fill a budget and its held-out part."""
    taken: list[Document] = []
    left = with_heldout(budget)
    for document in documents:
        if left <= 0:
            break
        taken.append(document)
        left -= document.size
    return taken


def generated(domain: str, *, seed: int, heldout: bool) -> Iterator[Document]:
    """Endless generated documents of a domain."""
    make = generated_documents.math_documents if domain == "math" else generated_documents.instruction_documents
    for text, language in make(seed=seed, heldout=heldout):
        yield Document(text, f"generated:{domain}", language)


def take(stream: Iterator[Document], amount: int, *, bar: tqdm | None = None) -> list[Document]:
    """Distinct documents of a stream until `amount` bytes are full."""
    taken: dict[str, Document] = {}
    while amount > 0:
        document = next(stream)
        if document.text not in taken:
            taken[document.text] = document
            amount -= document.size
            if bar is not None:
                bar.update(document.size)
    return list(taken.values())


def add_computed_chinese(sides: tuple[list[Document], list[Document]], budget: int, *, seed: int) -> None:
    """Fill both sides of the Chinese domain up with computed prose, each side from a stream of its own."""
    seen: set[str] = set()
    for side, amount in zip(sides, (heldout_size(budget), budget), strict=True):
        amount -= size(side)
        stream = chinese_documents(seed=seed, heldout=side is sides[0])
        for text in islice(stream, 100_000):
            if amount <= 0:
                break
            if text not in seen:
                seen.add(text)
                side.append(Document(text, "generated:web-zh", "zh"))
                amount -= side[-1].size


def refuse_without_text(folder: Path, found: dict[str, list[Document]], reading: Reading) -> None:
    """`DataError` when a user's folder gave nothing."""
    if any(found.values()):
        return
    reasons = "; ".join(f"{entry['file']}: {entry['reason']}" for entry in reading.skipped[:3])
    more = f" and {len(reading.skipped) - 3} more" if len(reading.skipped) > 3 else ""
    raise DataError(
        f"{folder}: no readable text in it ({reasons}{more}). Expected .txt, .md, .rst, source code, .jsonl or "
        ".parquet with a text column."
    )


def name_substitutes(sides: dict[str, tuple[list[Document], list[Document]]]) -> dict[str, str]:
    """For each domain without training text, the one whose text takes its place."""
    return {
        domain: next(other for other in (*SUBSTITUTES[domain], *GENERATED) if sides[other][1])
        for domain, (_, train) in sides.items()
        if not train
    }


def describe(heldout: list[Document], train: list[Document]) -> dict[str, Any]:
    """Counts of a domain for the manifest."""
    return {
        "train": {"documents": len(train), "bytes": size(train)},
        "heldout": {"documents": len(heldout), "bytes": size(heldout)},
        "origins": origin_bytes(train),
    }


def origin_bytes(documents: Iterable[Document]) -> dict[str, int]:
    """Bytes by kind of origin: what stands before the colon, "files" for a user's own."""
    counts: dict[str, int] = {}
    for document in documents:
        kind = document.origin.split(":", 1)[0] if ":" in document.origin else "files"
        counts[kind] = counts.get(kind, 0) + document.size
    return dict(sorted(counts.items()))


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write JSON lines; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count
