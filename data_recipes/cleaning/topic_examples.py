"""Examples for topic classifiers: documents on a topic and others, read, sampled, split, and what was learnt measured.

Neither the order nor the number of files matters: texts are known by their hashes. So whatever is trained in a fixed
order of these gives the same bytes.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.errors import DataError
from data_recipes.manifest import check_new_folder
from data_recipes.ordering import permutation, seed_of
from data_recipes.reading.files import content_fingerprint, examine, list_files, units_of
from data_recipes.reading.formats import read_parts
from data_recipes.recipes.source import Source

TOPIC_NAME = r"[a-z][a-z0-9_]*"
MOST_DOCUMENTS = 50_000
FEWEST_DOCUMENTS = 50
HELD_OUT = 10
"""One document in so many of each side, in the order of hashes."""
MOST_SHARED = 0.05
"""A larger share of the documents on both sides is a mistake."""
CHANCE = 0.6
"""With a smaller area under the curve on held-out documents, nothing of use was learnt."""
LEVELS = tuple(level / 10 for level in range(1, 10))


@dataclass(frozen=True)
class Examples:
    """What was made of each document (`values_of`), those to learn from and those held out; labels are 1 on the topic.

    `inputs` are fingerprints of both sides' files, `counts` the documents of each that were read and that are used.
    """

    train: list[Any]
    train_labels: np.ndarray
    held: list[Any]
    held_labels: np.ndarray
    inputs: dict[str, str]
    counts: dict[str, Any]

    @property
    def weights(self) -> np.ndarray:
        """Of a document of each label: both sides weigh the same, so that a probability does not depend on how many
        examples there are of each."""
        return len(self.train) / 2 / np.bincount(self.train_labels, minlength=2)

    def order(self, epoch: int) -> np.ndarray:
        """The order to learn in (int64)."""
        return permutation(len(self.train), seed_of("topic", epoch))

    def measured(self, probabilities: np.ndarray) -> dict[str, Any]:
        """What the held-out documents' probabilities are worth: the area under the curve, and by threshold recall,
        precision and the share of the negatives that pass. `DataError` where they are no better than chance."""
        positive = self.held_labels == 1
        others = np.sort(probabilities[~positive])
        below, not_above = (np.searchsorted(others, probabilities[positive], side=side) for side in ("left", "right"))
        auc = float((below + not_above).sum() / 2 / (positive.sum() * len(others)))
        if not auc >= CHANCE:
            raise DataError(
                "the classifier tells held-out positives from negatives no better than chance (area under the curve "
                f"{auc:.2f}). Are the examples mixed up, or is what differs not in the words?"
            )
        levels = []
        for level in LEVELS:
            found, wrong = (int((probabilities[side] >= level).sum()) for side in (positive, ~positive))
            levels.append(
                {
                    "at_least": level,
                    "recall": found / int(positive.sum()),
                    "precision": found / max(found + wrong, 1),
                    "negatives_passing": wrong / len(others),
                }
            )
        return {"positives": int(positive.sum()), "negatives": len(others), "auc": auc, "by_threshold": levels}


def check_examples(
    positives: Sequence[Path], negatives: Sequence[Path], out: Path, *, topic: str, text: str | None
) -> dict[str, int]:
    """How many files there are on each side; `DataError` where some cannot be read, or `out` cannot be written."""
    if not re.fullmatch(TOPIC_NAME, topic):
        raise DataError(f"topic '{topic}': expected lower-case letters, digits and '_', as in a column's name.")
    check_new_folder(out)
    sides = {"positives": positives, "negatives": negatives}
    return {name: sum(len(list_files(_source(path, text))) for path in paths) for name, paths in sides.items()}


def read_examples(
    positives: Sequence[Path],
    negatives: Sequence[Path],
    *,
    text: str | None,
    most: int,
    values_of: Callable[[Sequence[str]], Sequence[Any]],
    told: Callable[[int], Any] | None = None,
) -> Examples:
    """Read both sides, at most `most` documents of each: those whose texts have the smallest hashes, each text once.

    `values_of` makes of texts what is kept of them, None for those that are no examples.
    """
    inputs: dict[str, str] = {}
    counts: dict[str, Any] = {}
    sides: list[dict[int, Any]] = []
    for name, paths in (("positives", positives), ("negatives", negatives)):
        prints, found, seen = [], dict[int, Any](), 0
        for path in paths:
            source = _source(path, text)
            files = examine(source)
            prints.append(content_fingerprint(files))
            for texts in _texts(source, files):
                seen += len(texts)
                found.update(_by_hash(texts, values_of(texts)))
                if len(found) > 2 * most:
                    found = _smallest(found, most)
                if told is not None:
                    told(len(texts))
        sides.append(_smallest(found, most))
        inputs[name] = "+".join(sorted(prints))
        counts[name] = {"read": seen, "used": len(sides[-1])}
        if len(sides[-1]) < FEWEST_DOCUMENTS:
            raise DataError(
                f"{', '.join(map(str, paths))}: {len(sides[-1])} documents as {name}; a classifier needs at least "
                f"{FEWEST_DOCUMENTS} different ones of each."
            )
    return _split(sides[0], sides[1], inputs, counts)


def _by_hash(texts: Sequence[str], values: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    for text, value in zip(texts, values, strict=True):
        if value is not None:
            digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            yield int.from_bytes(digest, "big"), value


def _smallest(found: dict[int, Any], most: int) -> dict[int, Any]:
    return {key: found[key] for key in sorted(found)[:most]}


def _split(
    positives: dict[int, Any], negatives: dict[int, Any], inputs: dict[str, str], counts: dict[str, Any]
) -> Examples:
    shared = positives.keys() & negatives.keys()
    if len(shared) > MOST_SHARED * min(len(positives), len(negatives)):
        raise DataError(
            f"{len(shared)} of {len(positives)} positive documents are negatives as well; nothing can be learnt from "
            "that. Are both the same files?"
        )
    rows = [(key, 1, value) for key, value in positives.items()]
    rows += [(key, 0, value) for key, value in negatives.items() if key not in shared]
    rows.sort(key=lambda row: row[0])
    labels = np.array([label for _, label, _ in rows])
    held = np.zeros(len(rows), dtype=bool)
    for label in (0, 1):
        held[np.flatnonzero(labels == label)[::HELD_OUT]] = True
    train, out = ([rows[place][2] for place in np.flatnonzero(side)] for side in (~held, held))
    return Examples(train, labels[~held], out, labels[held], inputs, counts)


def _source(path: Path, text: str | None) -> Source:
    return Source(path=str(path.absolute()), text=text)


def _texts(source: Source, files: list[Any]) -> Iterator[list[str]]:
    drops: Counter[str] = Counter()
    for unit in units_of(files):
        for documents in read_parts(source, files, unit, drops):
            yield [str(text) for text in documents.texts]
