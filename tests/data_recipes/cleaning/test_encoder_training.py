"""A fine-tuned encoder tells unseen documents apart as its manifest says, and `topic-encoder` judges by it."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from test_topic import MATH, WEB, documents, write
from tiny_encoder import make_encoder

from data_recipes.cleaning.encoder_training import train_encoder
from data_recipes.cleaning.steps.base import Batch
from data_recipes.cleaning.steps.topic_encoder import TopicEncoder, TopicEncoderSettings
from data_recipes.errors import DataError


@pytest.mark.slow
def test_a_small_encoder_learns_a_topic_and_judges_by_it(tmp_path: Path) -> None:
    math, web = documents(MATH, 200, 1), documents(WEB, 200, 2)
    base = make_encoder(tmp_path / "base", " ".join([*math, *web]).split(), num_labels=1, initializer_range=0.1)
    # As TinyBERT is published: a vocabulary, and a config that does not say what it is the config of.
    (base / "vocab.txt").write_text("\n".join(json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]))
    for path in base.glob("tokenizer*"):
        path.unlink()
    config = json.loads((base / "config.json").read_text())
    left_out = ("model_type", "architectures", "id2label", "label2id")
    (base / "config.json").write_text(json.dumps({key: config[key] for key in config if key not in left_out}))
    sides = [write(tmp_path / "math.jsonl", math)], [write(tmp_path / "web.jsonl", web)]
    with pytest.raises(DataError, match="no such model"):
        train_encoder(*sides, tmp_path / "out", topic="math", base=str(tmp_path / "absent"))
    manifest = train_encoder(*sides, tmp_path / "out", topic="math", base=str(base), rate=1e-3, epochs=3)
    assert manifest["held_out"]["positives"] == 20
    stated = manifest["held_out"]["by_threshold"][4]
    assert json.loads((tmp_path / "out/config.json").read_text())["id2label"] == {"0": "other", "1": "math"}
    step = TopicEncoder(TopicEncoderSettings(step="topic-encoder", models={"math": str(tmp_path / "out")}))
    assert step.inputs().keys() == {"math"}
    assert step.details([]) == {"math": manifest["held_out"]}
    texts = documents(MATH, 60, 3) + documents(WEB, 60, 4)
    table = pa.table(step.signals(Batch("web", [""] * 120, texts, {})), schema=step.schema())
    kept = [reason is None for reason in step.reasons("web", table)]
    assert sum(kept[:60]) / 60 == pytest.approx(stated["recall"], abs=0.1)
    assert sum(kept[:60]) > 54
    assert sum(kept[60:]) < 6
