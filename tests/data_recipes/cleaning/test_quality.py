"""Scores of models: the same whatever is scored beside a document, on their scale, and refused before work begins."""

import json
import pickle
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tiny_encoder import make_encoder

from data_recipes.cleaning.scorers import LoadedEncoder, find_encoder
from data_recipes.cleaning.steps.base import Batch, Step
from data_recipes.cleaning.steps.quality import Quality, QualitySettings, as_scores
from data_recipes.cleaning.steps.topic_encoder import TopicEncoder, TopicEncoderSettings
from data_recipes.errors import DataError

WORDS = [f"w{number}" for number in range(200)]


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("scorer") / "edu", WORDS, num_labels=1)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder") / "math", WORDS, id2label={0: "math", 1: "other"})


def texts_of(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.choice((3, 20, 40, 90, 300)))) for _ in range(count)]


def quality(scorer: Path | str, **settings: Any) -> Quality:
    return Quality(QualitySettings(step="quality", scorer=str(scorer), **settings))


def columns_of(step: Step[Any], texts: Sequence[str]) -> pa.Table:
    return pa.table(step.signals(Batch("web", [""] * len(texts), texts, {})), schema=step.schema())


def test_a_score_is_that_of_the_model_alone_and_the_same_in_any_company(regression: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    texts = [*texts_of(60, 1), "", "   "]
    encoder = LoadedEncoder(find_encoder(str(regression)), max_tokens=512, batch_tokens=1024, dtype="float32")
    together = encoder.logits(texts)
    assert together.std() > 0.1
    order = list(range(len(texts)))
    random.Random(2).shuffle(order)
    assert np.array_equal(encoder.logits([texts[number] for number in order]), together[order])
    for some in ([0], [5, 3], order[:17]):
        assert np.array_equal(encoder.logits([texts[number] for number in some]), together[some])
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(regression),
        AutoTokenizer.from_pretrained(regression),
    )
    with torch.inference_mode():
        alone = [
            model(**tokenizer(text, truncation=True, max_length=128, return_tensors="pt")).logits for text in texts
        ]
    assert np.abs(torch.cat(alone).numpy() - together).max() < 1e-4  # which is what scores are rounded to


def test_scores_are_on_the_scale_rounded_and_judged_by_the_threshold(regression: Path) -> None:
    step = quality(regression, column="edu", at_least=1.0)
    assert step.costly
    table = columns_of(step, texts_of(40, 3))
    scores = table["edu"].to_numpy()
    assert scores.min() == 0
    assert 0 < np.median(scores) <= scores.max() <= 5
    assert np.array_equal(scores, scores.astype(np.float64).round(4).astype(np.float32))
    reasons = step.reasons("web", table)
    assert reasons == ["edu below 1" if score < 1 else None for score in scores]
    assert quality(regression).reasons("web", columns_of(quality(regression), ["w1"])) == [None]
    logits = np.array([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [0, 0, 0]])
    assert as_scores(logits) == pytest.approx([0, 2.5, 5, 2.5], abs=0.01)
    assert quality(regression, column="edu", at_least=2.0).fingerprint() == step.fingerprint()
    assert quality(regression, column="edu", max_tokens=64).fingerprint() != step.fingerprint()


def test_a_moved_scorer_is_the_same_and_one_with_other_weights_is_not(regression: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(regression, moved)
    assert quality(moved).fingerprint() == quality(regression).fingerprint()
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert quality(moved).fingerprint() != quality(regression).fingerprint()


def length_as_score(texts: Sequence[str]) -> list[float]:
    return [len(text) for text in texts]


def test_a_function_scores_in_a_program_of_ones_own_and_travels_to_other_processes() -> None:
    step = Quality(QualitySettings(step="quality", scorer="lengths"), scorer=length_as_score)
    copy = pickle.loads(pickle.dumps(step))
    assert copy.fingerprint() == step.fingerprint()
    assert columns_of(copy, ["", "abc", "abcdefgh"])["quality"].to_pylist() == [0, 3, 5]
    broken = Quality(QualitySettings(step="quality", scorer="nan"), scorer=lambda texts: [float("nan")] * len(texts))
    with pytest.raises(DataError, match="NaN"):
        columns_of(broken, ["a"])


def test_the_encoder_of_a_topic_goes_by_the_name_of_the_label(classifier: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped"
    shutil.copytree(classifier, swapped)
    config = json.loads((swapped / "config.json").read_text())
    config["id2label"] = {"0": "other", "1": "math"}
    (swapped / "config.json").write_text(json.dumps(config))
    step, other = (
        TopicEncoder(TopicEncoderSettings(step="topic-encoder", models={"math": str(one)}))
        for one in (classifier, swapped)
    )
    table, mirrored = (columns_of(one, texts_of(20, 4)) for one in (step, other))
    assert table["encoder_math"].to_numpy() == pytest.approx(1 - mirrored["encoder_math"].to_numpy(), abs=2e-4)
    reasons = step.reasons("web", table)
    assert reasons == [None if one >= 0.5 else "on none of the topics" for one in table["encoder_math"].to_pylist()]
    assert len(set(reasons)) == 2


def test_models_that_are_not_there_or_of_another_kind_are_refused_before_work_begins(
    regression: Path, classifier: Path, tmp_path: Path
) -> None:
    def broken(name: str, source: Path = regression, **change: Any) -> Path:
        folder = tmp_path / name
        shutil.copytree(source, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | change))
        return folder

    without = broken("without")
    (without / "model.safetensors").unlink()
    untold = broken("untold")
    (untold / "tokenizer.json").unlink()
    (tmp_path / "empty").mkdir()
    for scorer, expected in (
        (tmp_path / "absent", "no such model on this machine"),
        (tmp_path / "empty", r"no config.json"),
        (without, r"no \*.safetensors"),
        (untold, "no tokenizer"),
        (
            broken("causal", architectures=["LlamaForCausalLM"]),
            "holds LlamaForCausalLM; expected a sequence classifier",
        ),
        ("nobody/no-such-scorer", "cannot be fetched .*hf download nobody/no-such-scorer"),
    ):
        with pytest.raises(DataError, match=expected):
            quality(scorer).inputs()
    with pytest.raises(DataError, match="a folder has no revision"):
        quality(regression, revision="main").inputs()

    def encoder(**settings: Any) -> TopicEncoder:
        return TopicEncoder(TopicEncoderSettings(step="topic-encoder", **settings))

    with pytest.raises(DataError, match=r"has the labels math, other, expected 'code'. .*label_of: \{code: ...\}"):
        encoder(models={"code": str(classifier)}).inputs()
    encoder(models={"code": str(classifier)}, label_of={"code": "math"}).inputs()
    with pytest.raises(DataError, match="has one output, LABEL_0"):
        encoder(models={"math": str(regression)}).inputs()


@pytest.mark.gpu
def test_scores_on_a_gpu_are_those_of_the_cpu(regression: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    texts = texts_of(60, 1)
    on_gpu = columns_of(quality(regression), texts)["quality"].to_numpy()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert columns_of(quality(regression), texts)["quality"].to_numpy() == pytest.approx(on_gpu, abs=1e-3)
