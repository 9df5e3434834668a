"""Decontamination and topic classifiers on one core, beside peers on the same texts, and whether they agree.

    python benchmarks/cleaning_models.py decontamination
    python benchmarks/cleaning_models.py topics --peers-python /tmp/peers/bin/python

`decontamination`: 20,000 items and the documentation of installed packages with planted items, ours and datatrove's
filter (extra `cluster`; its word splitter, spaCy, replaced by splitting at white space, and its hashes by SHA-1, as it
cannot call xxhash 4). `topics`: docstrings of mathematical packages against those of others, one in five held out, by
ours, scikit-learn, and fastText in an environment of its own (pip install fasttext-wheel). Times are those of the
process. Each part writes its results into results/cleaning_models.json.
"""

import argparse
import ast
import hashlib
import json
import random
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).with_name("results") / "cleaning_models.json"
REPEATS = 3
MATHEMATICAL = ("sympy", "mpmath", "networkx", "scipy/stats", "scipy/special", "scipy/linalg", "scipy/optimize")
MATHEMATICAL += ("scipy/integrate", "numpy/linalg", "numpy/polynomial", "sklearn/linear_model", "sklearn/decomposition")
OTHER = (
    "transformers",
    "huggingface_hub",
    "jinja2",
    "pydantic",
    "datasets",
    "rich",
    "typer",
    "fsspec",
    "aiohttp",
    "httpx",
)
OTHER += (
    "_pytest",
    "pip",
    "setuptools",
    "torch/distributed",
    "torch/utils",
    "accelerate",
    "trl",
    "peft",
)

FASTTEXT = r"""
import json, sys, time
import fasttext

given = json.load(open(sys.argv[1]))
options = dict(lr=0.5, epoch=5, wordNgrams=2, dim=16, bucket=2**20, thread=1, seed=0, verbose=0)
start = time.process_time()
model = fasttext.train_supervised(sys.argv[2], **options)
training = time.process_time() - start
start = time.process_time()
scores = []
for text in given["test"]:  # `model.predict` needs numpy < 2; its C++ half does not
    found = {label: share for share, label in model.f.predict(" ".join(text.split()) + "\n", 2, 0.0, "strict")}
    scores.append(found.get("__label__1", 0.0))
print(json.dumps({"training_seconds": training, "scoring_seconds": time.process_time() - start, "scores": scores}))
"""


def installed_docstrings(packages: tuple[str, ...]) -> Iterator[str]:
    """Docstrings of more than 300 characters, each once."""
    seen = set()
    for package in packages:
        for path in sorted(Path(sysconfig.get_path("purelib"), package).rglob("*.py")):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                    text = ast.get_docstring(node) or ""
                    key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                    if len(text) > 300 and key not in seen:
                        seen.add(key)
                        yield text


def process_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def decontamination(arguments: argparse.Namespace) -> dict[str, Any]:
    """Items found, tokens a second, and documents on which datatrove says otherwise."""
    from data_recipes.cleaning.overlap import Item, ItemIndex
    from data_recipes.cleaning.words import split_words

    rng = random.Random(0)
    # Items of packages that the documents are not from.
    sources = [text.split() for text in installed_docstrings(MATHEMATICAL)]
    items = []
    for number in range(20_000):
        words = sources[number % len(sources)]
        length = rng.randint(13, 60)
        start = rng.randrange(max(1, len(words) - length))
        items.append(Item("made", str(number), " ".join(words[start : start + length])))
    items = list({item.question: item for item in items if len(item.question.split()) >= 13}.values())
    texts = list(installed_docstrings(OTHER))
    documents = ["\n\n".join(texts[start : start + 4]) for start in range(0, len(texts), 4)]
    planted = rng.sample(range(len(documents)), 500)
    forms = (str, str.upper, lambda text: text.replace(" ", "\n"), lambda text: f"({text})")
    for number, place in enumerate(planted):
        question = forms[number % len(forms)](items[number].question)
        documents[place] = f"{documents[place][:500]}\n{question}\n{documents[place][500:]}"
    index = ItemIndex(items, {"made": 13}, shortest=5)
    index.find(split_words(documents[:10]))

    def ours() -> tuple[int, list[list[Any]]]:
        count, found = 0, []
        for start in range(0, len(documents), 512):
            words = split_words(documents[start : start + 512])
            count += len(words.hashes)
            found += index.find(words, least=0.1)
        return count, found

    runs = [process_seconds(ours) for _ in range(REPEATS)]
    seconds = statistics.median(run[0] for run in runs)
    words, found = runs[0][1]
    flagged = {number for number, each in enumerate(found) if any(one.share >= 0.5 for one in each)}
    of_items = {items[number].id: place for number, place in enumerate(planted)}
    recalled = sum(any(one.item == item and one.share == 1 for one in found[place]) for item, place in of_items.items())
    any_run = {number for number, each in enumerate(index.find(split_words(documents))) if each}
    result = {
        "items": len(items),
        "documents": len(documents),
        "words": words,
        "words_a_second": words / seconds,
        "planted_found": f"{recalled} of {len(planted)}",
        "others_flagged": len(flagged - set(planted)),
    }
    result["datatrove"] = _datatrove([item.question for item in items], documents, set(planted), words, norms=True)
    # With the same words, and numbers as they are, a document is flagged by both or by none.
    same = [_in_our_words(given) for given in ([item.question for item in items], documents)]
    theirs = _datatrove(*same, any_run, words, norms=False)
    result["with_the_same_words"] = {
        "flagged_by_both": theirs["planted_found"],
        "by_datatrove_alone": theirs["others_flagged"],
    }
    return result


def _datatrove(items: list[str], documents: list[str], planted: set[int], words: int, *, norms: bool) -> dict[str, Any]:
    from datatrove.data import Document
    from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.text import TextNormConfig, ngrams, simplify_text
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Splitter(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        sent_tokenize = span_tokenize = word_tokenize  # type: ignore[assignment]

    norm = TextNormConfig() if norms else TextNormConfig(*[False] * len(fields(TextNormConfig)))
    config = NGramsDecontConfig(n_grams=13, norm_config=norm, hash_config=HashConfig(hash_fc="sha1"))
    with tempfile.TemporaryDirectory() as folder:
        step = NGramsDecontFilter(folder, config, language=Splitter())  # type: ignore[arg-type]
    # What its indexer writes; that one needs lighteval.
    step._index_hashes = {
        step.hash_func(" ".join(gram)): "made"
        for item in items
        for gram in ngrams(simplify_text(item, step.config.norm_config).split(), 13)
    }
    seconds, verdicts = process_seconds(
        lambda: [step.filter(Document(text=text, id="")) is not True for text in documents]
    )
    said = {number for number, verdict in enumerate(verdicts) if verdict}
    return {
        "words_a_second": words / seconds,
        "planted_found": f"{len(said & planted)} of {len(planted)}",
        "others_flagged": len(said - planted),
    }


def _in_our_words(texts: list[str]) -> list[str]:
    """The texts with one space between words as we see them."""
    from data_recipes.cleaning.words import split_words

    found = []
    for text in texts:
        words = split_words([text])
        places = zip(words.starts.tolist(), words.ends.tolist(), strict=True)
        found.append(" ".join(text[start:end].lower() for start, end in places))
    return found


def topics(arguments: argparse.Namespace) -> dict[str, Any]:
    """Accuracy, precision and recall at one half on held-out docstrings, and seconds."""
    from data_recipes.cleaning import topics as ours
    from data_recipes.cleaning.topic_examples import Examples
    from data_recipes.ordering import permutation

    texts, labels = [], []
    for label, packages in ((1, MATHEMATICAL), (0, OTHER)):
        found = list(installed_docstrings(packages))
        texts += found
        labels += [label] * len(found)
    order = permutation(len(texts), 1)
    train, test = order[: len(texts) * 4 // 5], order[len(texts) * 4 // 5 :]
    y = np.array(labels)
    result: dict[str, Any] = {"documents": len(texts), "positives": int(y.sum()), "characters": sum(map(len, texts))}

    def train_ours() -> ours.TopicClassifier:
        values = ours._values([texts[place] for place in train])
        return ours.learn("math", Examples(values, y[train], [], np.empty(0, int), {}, {}))

    train_ours().probabilities(texts[:2])  # compiles
    seconds, classifier = process_seconds(train_ours)
    again = train_ours()
    scoring, scores = process_seconds(lambda: classifier.probabilities([texts[place] for place in test]))
    size = classifier.weights.nbytes
    result["ours"] = _figures(scores, y[test], seconds, scoring, size) | {
        "same_bytes_again": bool(np.array_equal(again.weights, classifier.weights))
    }
    result["scikit-learn"] = _scikit_learn(texts, y, train, test)
    if arguments.peers_python:
        with tempfile.TemporaryDirectory() as place:
            given, examples = Path(place, "test.json"), Path(place, "train.txt")
            given.write_text(json.dumps({"test": [texts[one] for one in test]}))
            examples.write_text("".join(f"__label__{y[one]} {' '.join(texts[one].split())}\n" for one in train))
            command = [str(arguments.peers_python), "-c", FASTTEXT, str(given), str(examples)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        result["fastText"] = _figures(
            np.array(found["scores"]), y[test], found["training_seconds"], found["scoring_seconds"], None
        )
    return result


def _scikit_learn(texts: list[str], y: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier

    vectorizer = HashingVectorizer(n_features=2**20, ngram_range=(1, 2), alternate_sign=False)
    model = SGDClassifier(loss="log_loss", alpha=1e-6, random_state=0)
    seconds, _ = process_seconds(lambda: model.fit(vectorizer.transform([texts[one] for one in train]), y[train]))
    scoring, scores = process_seconds(
        lambda: model.predict_proba(vectorizer.transform([texts[one] for one in test]))[:, 1]
    )
    return _figures(scores, y[test], seconds, scoring, model.coef_.nbytes)


def _figures(scores: np.ndarray, y: np.ndarray, training: float, scoring: float, size: int | None) -> dict[str, Any]:
    said = scores >= 0.5
    right = int((said & (y == 1)).sum())
    return {
        "accuracy": float((said == (y == 1)).mean()),
        "precision": right / int(said.sum()),
        "recall": right / int((y == 1).sum()),
        "training_seconds": training,
        "scoring_documents_a_second": len(y) / scoring,
        "weights_bytes": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("decontamination", "topics"))
    parser.add_argument("--peers-python", type=Path, help="Python of an environment with fasttext-wheel.")
    arguments = parser.parse_args()
    found = {"decontamination": decontamination, "topics": topics}[arguments.part](arguments)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(results | {arguments.part: found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
