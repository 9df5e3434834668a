"""Topic classifiers: what they tell apart, the same bytes from the same documents, and examples that teach nothing."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pytest

from data_recipes.cleaning.steps.base import Batch
from data_recipes.cleaning.steps.topic import Topic, TopicSettings
from data_recipes.cleaning.topics import load_classifier, train_topic
from data_recipes.errors import DataError
from data_recipes.manifest import sha256_file

MATH = "integral theorem proof lemma polynomial matrix converges $x^2 + y_i$ prime vector $\\frac{a}{b}$ therefore"
WEB = "recipe travel cheap hotel kitchen fashion celebrity discount weather holiday football garden click here"
BOTH = "the a of and is to we in that for with on this as from one two be by are it not can have"


def documents(topical: str, count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(rng.choice((topical if rng.random() < 0.15 else BOTH).split()) for _ in range(60))
        for _ in range(count)
    ]


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def math_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("topics")
    positives = write(place / "math.jsonl", documents(MATH, 400, 1))
    negatives = write(place / "web.jsonl", documents(WEB, 800, 2))
    train_topic([positives], [negatives], place / "math", topic="math")
    return place / "math"


def step_with(model: Path, **settings: object) -> Topic:
    return Topic(TopicSettings(step="topic", models={"math": model}, **settings))  # type: ignore[arg-type]


def test_unseen_documents_are_told_apart_as_the_manifest_says(math_model: Path) -> None:
    held_out = json.loads((math_model / "manifest.json").read_text())["held_out"]
    assert held_out["positives"] > 20
    stated = held_out["by_threshold"][4]
    step = step_with(math_model)
    texts = documents(MATH, 500, 3) + documents(WEB, 500, 4)
    table = pa.table(step.signals(Batch("web", [""] * 1000, texts, {})), schema=step.schema())
    reasons = step.reasons("web", table)
    kept = [reason is None for reason in reasons]
    recall, precision = sum(kept[:500]) / 500, sum(kept[:500]) / sum(kept)
    assert recall == pytest.approx(stated["recall"], abs=0.05) and recall > 0.95  # noqa: PT018
    assert precision > 0.95
    assert step_with(math_model, action="annotate").reasons("web", table) == [None] * 1000
    assert set(step_with(math_model, probability_of={"math": 1.0}).reasons("web", table)) == {"on none of the topics"}


def test_the_same_documents_in_other_files_and_another_order_give_the_same_weights(
    math_model: Path, tmp_path: Path
) -> None:
    texts = documents(MATH, 400, 1)
    random.Random(0).shuffle(texts)
    (tmp_path / "seeds").mkdir()
    write(tmp_path / "seeds" / "b.jsonl", texts[:150])
    write(tmp_path / "seeds" / "a.jsonl", texts[150:] + texts[:10])  # some twice
    negatives = write(tmp_path / "web.jsonl", documents(WEB, 800, 2)[::-1])
    train_topic([tmp_path / "seeds"], [negatives], tmp_path / "math", topic="math")
    assert sha256_file(tmp_path / "math/weights.safetensors") == sha256_file(math_model / "weights.safetensors")


def test_probabilities_do_not_depend_on_the_batch_and_hostile_texts_have_one(math_model: Path) -> None:
    texts = [*documents(MATH, 3, 5), "", " \n\t", "\ud800 \x00", "$" * 100_000, "数学" * 50, "x" * 1_000_000]
    classifier = load_classifier(math_model, "math")
    together = classifier.probabilities(texts).tolist()
    assert together == [classifier.probabilities([text])[0] for text in texts]
    assert together[3:5] == [0, 0]
    assert all(0 <= probability <= 1 for probability in together)


def test_a_model_of_another_topic_or_kind_or_a_damaged_one_is_refused(math_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a classifier of 'math', expected one of 'code'"):
        Topic(TopicSettings(step="topic", models={"code": math_model})).inputs()
    with pytest.raises(DataError, match=r"no such folder.*yulanmini data train-topic"):
        step_with(tmp_path / "absent").inputs()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/manifest.json").write_text('{"schema_version": 1, "kind": "packed-phase"}')
    with pytest.raises(DataError, match="kind 'packed-phase', expected 'topic-classifier'"):
        step_with(tmp_path / "other").inputs()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in math_model.iterdir():
        content = bytearray(path.read_bytes())
        if path.suffix == ".safetensors":
            content[len(content) // 2] ^= 1
        (damaged / path.name).write_bytes(content)
    step = step_with(damaged)
    step.inputs()
    with pytest.raises(DataError, match=r"differs from what was recorded. Train the classifier again"):
        step.signals(Batch("web", [""], ["text"], {}))
    with pytest.raises(ValueError, match=r"no model of the topic 'maths'. Did you mean 'math'"):
        step_with(math_model, probability_of={"maths": 0.7})


def test_examples_that_teach_nothing_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    math, web = (
        write(tmp_path / "math.jsonl", documents(MATH, 200, 1)),
        write(tmp_path / "web.jsonl", documents(WEB, 200, 2)),
    )
    few = write(tmp_path / "few.jsonl", documents(WEB, 20, 2) * 10)
    noise = write(tmp_path / "noise.jsonl", documents(BOTH, 300, 6))
    more_noise = write(tmp_path / "more.jsonl", documents(BOTH, 300, 7))
    mixed = write(tmp_path / "mixed.jsonl", documents(WEB, 200, 2) + documents(MATH, 200, 1))
    out = tmp_path / "out"
    for positives, negatives, expected in (
        (math, few, "20 documents as negatives; a classifier needs at least 50 different ones of each"),
        (math, mixed, "200 of 200 positive documents are negatives as well"),
        (noise, more_noise, "no better than chance"),
        (tmp_path / "absent.jsonl", web, "no such file"),
        (math, tmp_path / "absent", "no such file or folder"),
    ):
        with pytest.raises(DataError, match=expected):
            train_topic([positives], [negatives], out, topic="math")
    with pytest.raises(DataError, match="topic 'Math!'"):
        train_topic([math], [web], out, topic="Math!")
    assert not out.exists()
