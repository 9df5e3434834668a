"""Fine-tunes a small encoder (TinyBERT, or any that transformers can load) to tell documents on a topic from others.

It is the second stage of recall, `topic-encoder`: slower and better, and asked only of what the first lets through.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.cleaning.scorers import CHARACTERS_A_TOKEN, WANTED_FILES, LoadedEncoder, find_encoder, probabilities
from data_recipes.cleaning.topic_examples import Examples, check_examples, read_examples
from data_recipes.errors import DataError, first_line
from data_recipes.manifest import whole_folder, write_manifest
from data_recipes.places import local_folder

KIND = "topic-encoder"
MOST_DOCUMENTS = 20_000
MAX_TOKENS = 256
EPOCHS = 2
BATCH = 32
RATE = 5e-5
OTHER = "other"


def train_encoder(
    positives: Sequence[Path],
    negatives: Sequence[Path],
    out: Path,
    *,
    topic: str,
    base: str,
    revision: str | None = None,
    text: str | None = None,
    most: int = MOST_DOCUMENTS,
    rate: float = RATE,
    epochs: int = EPOCHS,
    told: Callable[[int], Any] | None = None,
) -> dict[str, Any]:
    """Fine-tune `base` (a Hub id or a folder) and write it as a model of transformers with the labels `other` and
    `topic`; returns the manifest, whose `held_out` is that of `train_topic`. `told` hears of documents read and learnt.

    The first 256 tokens of a document count. `DataError` as from `train_topic`, and where there is no such model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BertConfig

    check_examples(positives, negatives, out, topic=topic, text=text)
    folder = base_folder(base, revision)
    examples = read_examples(positives, negatives, text=text, most=most, values_of=_beginnings, told=told)
    torch.manual_seed(0)
    try:
        # TinyBERT's config does not say that it is a BERT.
        kind = AutoConfig if "model_type" in json.loads((folder / "config.json").read_text()) else BertConfig
        shape = kind.from_pretrained(folder, id2label={0: OTHER, 1: topic}, label2id={OTHER: 0, topic: 1})
        tokenizer = AutoTokenizer.from_pretrained(folder, config=shape)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=shape,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # a head for something else is replaced
        )
    except Exception as error:
        raise DataError(f"{base}: cannot be loaded ({first_line(error)}).") from error
    if tokenizer.pad_token is None:
        raise DataError(f"{base}: its tokenizer has no padding token. Choose an encoder, such as a BERT.")
    _fine_tune(model, tokenizer, examples, rate=rate, epochs=epochs, told=told)
    config = {"topic": topic, "base": base, "revision": revision, "text": text, "most": most, "epochs": epochs}
    with whole_folder(out) as partial:
        model.cpu().save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        loaded = LoadedEncoder(find_encoder(str(partial)), max_tokens=MAX_TOKENS, batch_tokens=8192, dtype="float32")
        held_out = examples.measured(probabilities(loaded.logits(examples.held))[:, 1])
        return write_manifest(
            partial,
            kind=KIND,
            inputs=examples.inputs,
            config={**config, "rate": rate, "max_tokens": MAX_TOKENS},
            counts=examples.counts,
            seed=0,
            held_out=held_out,
        )


def base_folder(base: str, revision: str | None) -> Path:
    """The folder of an encoder to begin from; `DataError` where it cannot be had."""
    folder = local_folder(base, "model")
    if folder is None:
        from huggingface_hub import snapshot_download

        try:
            # The weights of older models are pickles only; transformers reads those with `weights_only`.
            folder = Path(snapshot_download(base, revision=revision, allow_patterns=[*WANTED_FILES, "*.bin"]))
        except Exception as error:
            raise DataError(
                f"{base}: cannot be fetched ({first_line(error)}). Where there is a network, `hf download {base}` puts "
                "it into the cache; a folder with a copy does as well."
            ) from error
    if not (folder / "config.json").is_file():
        raise DataError(f"{base}: no config.json; expected an encoder as transformers saves it.")
    return folder


def _beginnings(texts: Sequence[str]) -> list[str | None]:
    return [text[: MAX_TOKENS * CHARACTERS_A_TOKEN] if text.strip() else None for text in texts]


def _fine_tune(
    model: Any, tokenizer: Any, examples: Examples, *, rate: float, epochs: int, told: Callable[[int], Any] | None
) -> None:
    """AdamW, the rate falling to 0; both sides weigh the same."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    weight = torch.tensor(examples.weights, dtype=torch.float32, device=device)
    steps = epochs * -(-len(examples.train) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1, end_factor=0, total_iters=steps)
    most = min(MAX_TOKENS, getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS)
    for epoch in range(epochs):
        order = examples.order(epoch)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            texts = [examples.train[place] for place in places]
            inputs = tokenizer(texts, truncation=True, max_length=most, padding=True, return_tensors="pt").to(device)
            labels = torch.tensor(np.asarray(examples.train_labels)[places], device=device)
            loss = torch.nn.functional.cross_entropy(model(**inputs).logits.float(), labels, weight=weight)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if told is not None:
                told(len(places))
    model.eval()
