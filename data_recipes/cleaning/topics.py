"""A classifier that tells whether a text is on a topic, trained from examples: a linear model over hashed words.

Words, pairs of words and what stands between them (`$\\frac{`, `);`) are hashed into 2^20 weights, which are learnt by
AdaGrad on the logistic loss. Chosen over fastText and scikit-learn by measurement (benchmarks/cleaning_models.py): more
accurate, faster, and the same documents give the same bytes, in whatever order and files they come.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

from data_recipes.cleaning.words import split_words
from data_recipes.errors import DataError, first_line
from data_recipes.manifest import check_new_folder, read_manifest, verify_files, whole_folder, write_manifest
from data_recipes.ordering import permutation, seed_of
from data_recipes.reading.files import content_fingerprint, examine, list_files, units_of
from data_recipes.reading.formats import read_parts
from data_recipes.recipes.source import Source

KIND = "topic-classifier"
TOPIC_NAME = r"[a-z][a-z0-9_]*"
WEIGHTS = "weights.safetensors"
BUCKET_BITS = 20
EPOCHS = 5
RATE = 0.2
TRAINING_WORDS = 1000
"""So many words of a document are learnt from, which bounds memory."""
MOST_DOCUMENTS = 50_000
FEWEST_DOCUMENTS = 50
HELD_OUT = 10
"""One document in so many, by the hash of its text."""
MOST_SHARED = 0.05
"""A larger share of the positives that are negatives as well is a mistake."""
CHANCE = 0.6
"""With a smaller area under the curve on held-out documents, the classifier has learnt nothing of use."""
LEVELS = tuple(level / 10 for level in range(1, 10))
SYMBOL_CHARACTERS = 16

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)


@dataclass(frozen=True)
class TopicClassifier:
    """`weights`: float32 [2^20]."""

    topic: str
    weights: np.ndarray
    bias: float

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """That each text is on the topic, were half of all texts on it: float32; 0 where there are no words."""
        return _predict(*features(texts), self.weights, self.bias)


def features(texts: Sequence[str], most_words: int = 2**62) -> tuple[np.ndarray, np.ndarray]:
    """Buckets (uint32) of each text's words, pairs of them and symbols between them, and offsets (int64)."""
    words = split_words(texts)
    characters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    bounds = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)), out=bounds[1:])
    return _features(characters, bounds, words.hashes, words.offsets, words.starts, words.ends, most_words)


class Examples:
    """Documents as features, each text once. `most` of them are kept: those whose texts have the smallest hashes, so
    that neither the order nor the number of files matters."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.seen = 0
        self.features: dict[int, np.ndarray] = {}

    def add(self, texts: Sequence[str]) -> None:
        buckets, offsets = features(texts, TRAINING_WORDS)
        self.seen += len(texts)
        for text, found in zip(texts, np.split(buckets, offsets[1:-1]), strict=True):
            if len(found):
                digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                self.features[int.from_bytes(digest, "big")] = found.copy()
        if len(self.features) > 2 * self.most:
            self.trim()

    def trim(self) -> None:
        self.features = {key: self.features[key] for key in sorted(self.features)[: self.most]}


def check_examples(
    positives: Sequence[Path], negatives: Sequence[Path], out: Path, *, topic: str, text: str | None
) -> dict[str, int]:
    """How many files there are on each side; `DataError` where some cannot be read, or `out` cannot be written."""
    if not re.fullmatch(TOPIC_NAME, topic):
        raise DataError(f"topic '{topic}': expected lower-case letters, digits and '_', as in a column's name.")
    check_new_folder(out)
    sides = {"positives": positives, "negatives": negatives}
    return {name: sum(len(list_files(_source(path, text))) for path in paths) for name, paths in sides.items()}


def train_topic(
    positives: Sequence[Path],
    negatives: Sequence[Path],
    out: Path,
    *,
    topic: str,
    text: str | None = None,
    most: int = MOST_DOCUMENTS,
    told: Callable[[int], Any] | None = None,
) -> dict[str, Any]:
    """Train on documents on a topic and others, and write the classifier's folder; returns its manifest.

    One document in ten is held out; `held_out` in the manifest has recall, precision and the share of the negatives
    that pass, by threshold. `told` is called with the number of documents that were just read. `DataError` for too few
    documents, and for examples from which nothing can be learnt: both sides the same, or swapped in part.
    """
    check_examples(positives, negatives, out, topic=topic, text=text)
    sides: list[Examples] = []
    inputs: dict[str, str] = {}
    for name, paths in (("positives", positives), ("negatives", negatives)):
        examples = Examples(most)
        prints = []
        for path in paths:
            source = _source(path, text)
            files = examine(source)
            prints.append(content_fingerprint(files))
            for texts in _texts(source, files):
                examples.add(texts)
                if told is not None:
                    told(len(texts))
        examples.trim()
        if len(examples.features) < FEWEST_DOCUMENTS:
            where = ", ".join(map(str, paths))
            raise DataError(
                f"{where}: {len(examples.features)} documents as {name}; a classifier needs at least "
                f"{FEWEST_DOCUMENTS} different ones of each."
            )
        sides.append(examples)
        inputs[name] = "+".join(sorted(prints))
    classifier, held_out = _train(topic, *sides)
    config = {"topic": topic, "text": text, "most": most, "epochs": EPOCHS, "rate": RATE, "bucket_bits": BUCKET_BITS}
    with whole_folder(out) as folder:
        from safetensors.numpy import save_file

        save_file({"weights": classifier.weights, "bias": np.array([classifier.bias])}, folder / WEIGHTS)
        return write_manifest(
            folder,
            kind=KIND,
            inputs=inputs,
            config=config,
            counts={
                name: {"read": side.seen, "used": len(side.features)} for name, side in zip(inputs, sides, strict=True)
            },
            held_out=held_out,
        )


def load_classifier(folder: Path, topic: str) -> TopicClassifier:
    """A classifier that `train_topic` has written; `DataError` where there is none, another, or a damaged one."""
    manifest = read_classifier(folder, topic)
    problems = verify_files(folder, manifest=manifest)
    if problems:
        raise DataError(f"{problems[0]}. Train the classifier again.")
    from safetensors.numpy import load_file

    try:
        tensors = load_file(folder / WEIGHTS)
        weights, bias = tensors["weights"], float(tensors["bias"][0])
    except Exception as error:
        raise DataError(f"{folder / WEIGHTS}: not a classifier's weights ({first_line(error)}).") from error
    return TopicClassifier(topic, weights, bias)


def read_classifier(folder: Path, topic: str) -> dict[str, Any]:
    """The manifest of a classifier of this topic; `DataError` where it is of another."""
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder. A classifier of '{topic}' is trained by `yulanmini data train-topic POSITIVES "
            f"--against NEGATIVES --topic {topic} --out {folder}`."
        )
    manifest = read_manifest(folder, kind=KIND)
    if manifest["config"]["topic"] != topic:
        raise DataError(
            f"{folder}: a classifier of '{manifest['config']['topic']}', expected one of '{topic}'. Name its folder."
        )
    return manifest


def _source(path: Path, text: str | None) -> Source:
    return Source(path=str(path.absolute()), text=text)


def _texts(source: Source, files: list[Any]) -> Iterator[list[str]]:
    drops: Counter[str] = Counter()
    for unit in units_of(files):
        for documents in read_parts(source, files, unit, drops):
            yield [str(text) for text in documents.texts]


def _train(topic: str, positives: Examples, negatives: Examples) -> tuple[TopicClassifier, dict[str, Any]]:
    shared = positives.features.keys() & negatives.features.keys()
    if len(shared) > MOST_SHARED * min(len(positives.features), len(negatives.features)):
        raise DataError(
            f"{len(shared)} of {len(positives.features)} positive documents are negatives as well; nothing can be "
            "learnt from that. Are both the same files?"
        )
    rows = [(key, 1, found) for key, found in positives.features.items()]
    rows += [(key, 0, found) for key, found in negatives.features.items() if key not in shared]
    rows.sort(key=lambda row: row[0])
    labels = np.array([label for _, label, _ in rows])
    held = np.array([key % HELD_OUT == 0 for key, _, _ in rows])
    buckets, offsets = _joined([found for (_, _, found), out in zip(rows, held, strict=True) if not out])
    count = int((~held).sum())
    orders = np.stack([permutation(count, seed_of("topic", epoch)) for epoch in range(EPOCHS)])
    # Both sides weigh the same, so that the probability does not depend on how many examples there are of each.
    weight = count / 2 / np.bincount(labels[~held], minlength=2)
    weights, bias = _learn(buckets, offsets, labels[~held], orders, weight, RATE)
    held_out = measured(
        _predict(*_joined([row[2] for row, out in zip(rows, held, strict=True) if out]), weights, bias), labels[held]
    )
    if held_out["auc"] < CHANCE:
        raise DataError(
            f"the classifier tells held-out positives from negatives no better than chance (area under the curve "
            f"{held_out['auc']:.2f}). Are the examples mixed up, or is what differs not in the words?"
        )
    return TopicClassifier(topic, weights, float(bias)), held_out


def measured(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Area under the curve, and by threshold recall, precision and the share of the negatives that pass."""
    positive = labels == 1
    total, others = int(positive.sum()), int((~positive).sum())
    ranks = np.searchsorted(np.sort(probabilities[~positive]), probabilities[positive], side="left")
    ties = np.searchsorted(np.sort(probabilities[~positive]), probabilities[positive], side="right") - ranks
    auc = float((ranks + ties / 2).sum() / max(total * others, 1))
    levels = []
    for level in LEVELS:
        passing = probabilities >= level
        found = int((passing & positive).sum())
        levels.append(
            {
                "at_least": level,
                "recall": found / max(total, 1),
                "precision": found / max(int(passing.sum()), 1),
                "negatives_passing": int((passing & ~positive).sum()) / max(others, 1),
            }
        )
    return {"positives": total, "negatives": others, "auc": auc, "by_threshold": levels}


def _joined(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return np.concatenate([np.empty(0, np.uint32), *parts]), offsets


@numba.njit(cache=True, nogil=True)
def _features(characters, bounds, words, word_offsets, starts, ends, most_words):  # pragma: no cover - compiled
    result = np.empty(3 * len(words), dtype=np.uint32)
    offsets = np.zeros(len(bounds), dtype=np.int64)
    down = np.uint64(64 - BUCKET_BITS)
    count = 0
    for text in range(len(bounds) - 1):
        place = 0
        first = word_offsets[text]
        for word in range(first, min(word_offsets[text + 1], first + most_words)):
            symbol = np.uint64(0)
            # A long row of symbols counts by its end, right before the word.
            for at in range(max(place, starts[word] - SYMBOL_CHARACTERS), starts[word]):
                character = characters[bounds[text] + at]
                if character > 32:
                    symbol = (symbol ^ np.uint64(character)) * _MULTIPLIER
                    symbol ^= symbol >> _SHIFT
            if symbol != 0:
                result[count] = symbol >> down
                count += 1
            place = ends[word]
            result[count] = words[word] >> down
            count += 1
            if word > first:
                pair = (words[word - 1] * _MULTIPLIER + words[word]) * _MULTIPLIER
                result[count] = (pair ^ (pair >> _SHIFT)) >> down
                count += 1
        offsets[text + 1] = count
    return result[:count], offsets


@numba.njit(cache=True, nogil=True)
def _learn(buckets, offsets, labels, orders, weight, rate):  # pragma: no cover - compiled
    weights = np.zeros(1 << BUCKET_BITS, dtype=np.float32)
    squares = np.full(1 << BUCKET_BITS, 1e-8, dtype=np.float32)
    bias, bias_squares = 0.0, 1e-8
    for order in orders:
        for text in order:
            # A text's features together have norm 1 where each is there once: the longer, the surer.
            scale = 1 / np.sqrt(offsets[text + 1] - offsets[text])
            total = 0.0
            for place in range(offsets[text], offsets[text + 1]):
                total += weights[buckets[place]]
            error = (1 / (1 + np.exp(-(bias + total * scale))) - labels[text]) * weight[labels[text]]
            slope = np.float32(error * scale)
            for place in range(offsets[text], offsets[text + 1]):
                bucket = buckets[place]
                squares[bucket] += slope * slope
                weights[bucket] -= np.float32(rate) * slope / np.sqrt(squares[bucket])
            bias_squares += error * error
            bias -= rate * error / np.sqrt(bias_squares)
    return weights, bias


@numba.njit(cache=True, nogil=True)
def _predict(buckets, offsets, weights, bias):  # pragma: no cover - compiled
    result = np.zeros(len(offsets) - 1, dtype=np.float32)
    for text in range(len(offsets) - 1):
        size = offsets[text + 1] - offsets[text]
        if size > 0:
            total = 0.0
            for place in range(offsets[text], offsets[text + 1]):
                total += weights[buckets[place]]
            result[text] = 1 / (1 + np.exp(-(bias + total / np.sqrt(size))))
    return result
