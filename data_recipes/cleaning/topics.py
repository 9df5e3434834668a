"""A classifier that tells whether a text is on a topic, trained from examples: a linear model over hashed words.

Words, pairs of words and what stands between them (`$\\frac{`, `);`) are hashed into 2^20 weights, which are learnt by
AdaGrad on the logistic loss. Chosen over fastText and scikit-learn by measurement (benchmarks/cleaning_models.py): more
accurate, faster, and the same documents give the same bytes, in whatever order and files they come.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

from data_recipes.cleaning.topic_examples import MOST_DOCUMENTS, Examples, check_examples, read_examples
from data_recipes.cleaning.words import split_words
from data_recipes.errors import DataError, first_line
from data_recipes.manifest import read_manifest, verify_files, whole_folder, write_manifest

KIND = "topic-classifier"
WEIGHTS = "weights.safetensors"
BUCKET_BITS = 20
EPOCHS = 5
RATE = 0.2
TRAINING_WORDS = 1000
"""So many words of a document are learnt from, which bounds memory."""
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
    """Train on documents on a topic and others, and write the classifier's folder; returns its manifest, whose
    `held_out` has recall, precision and the share of the negatives that pass, by threshold.

    `told` is called with the number of documents that were just read. `DataError` for examples from which nothing can
    be learnt: too few, the same on both sides, or not told apart.
    """
    check_examples(positives, negatives, out, topic=topic, text=text)
    examples = read_examples(positives, negatives, text=text, most=most, values_of=_values, told=told)
    classifier = learn(topic, examples)
    held_out = examples.measured(_predict(*_joined(examples.held), classifier.weights, classifier.bias))
    config = {"topic": topic, "text": text, "most": most, "epochs": EPOCHS, "rate": RATE, "bucket_bits": BUCKET_BITS}
    with whole_folder(out) as folder:
        from safetensors.numpy import save_file

        save_file({"weights": classifier.weights, "bias": np.array([classifier.bias])}, folder / WEIGHTS)
        return write_manifest(
            folder, kind=KIND, inputs=examples.inputs, config=config, counts=examples.counts, held_out=held_out
        )


def learn(topic: str, examples: Examples) -> TopicClassifier:
    """The classifier of examples whose values are features."""
    buckets, offsets = _joined(examples.train)
    orders = np.stack([examples.order(epoch) for epoch in range(EPOCHS)])
    weights, bias = _learn(buckets, offsets, examples.train_labels, orders, examples.weights, RATE)
    return TopicClassifier(topic, weights, float(bias))


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


def _values(texts: Sequence[str]) -> list[np.ndarray | None]:
    """Each text's features, None where it has no words."""
    buckets, offsets = features(texts, TRAINING_WORDS)
    return [found.copy() if len(found) else None for found in np.split(buckets, offsets[1:-1])]


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
