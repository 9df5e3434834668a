"""Held-out loss: every token once, equal to token-by-token scoring, bytes counted exactly."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import DataError
from eval.errors import EvalError
from eval.suites import make_tasks
from eval.tasks.heldout import Heldout
from train.scoring.heldout import Protocol, heldout_texts

TEXTS = {
    "web-en": ["A short text.", "Another one, longer than the first. " * 12],
    "web-zh": ["今天是星期三。" * 9],
}


def score(loaded, **settings):
    """The row of each domain of TEXTS."""
    return {row["group"]: row for row in Heldout(**settings).score(loaded, TEXTS).rows}


@given(count=st.integers(0, 80), context=st.integers(2, 20), start=st.sampled_from([[], [999]]), data=st.data())
def test_windows_predict_every_token_once_with_enough_before_it(count, context, start, data):
    stride = data.draw(st.integers(1, context - 1))
    ids = list(range(count))
    predicted = []
    for window in Protocol(context, stride, tuple(start)).windows_of(ids):
        assert len(window.ids) <= context
        for at in range(window.first_target, len(window.ids)):
            token = window.ids[at]
            predicted.append(token)
            before = window.ids[:at]
            assert before == [*start, *ids][: len(start) + token][-len(before) :]
            assert len(before) >= min(len(start) + token, context - stride)
    assert predicted == (ids if start else ids[1:])


def test_loss_equals_scoring_each_token_with_its_own_window(loaded):
    context, stride = 24, 7
    scores = score(loaded, context=context, stride=stride)
    for domain, texts in TEXTS.items():
        nats, tokens = 0.0, 0
        for text in texts:
            ids = loaded.tokenizer(text, add_special_tokens=False).input_ids
            for window in Protocol(context, stride, (2,)).windows_of(ids):
                for at in range(window.first_target, len(window.ids)):
                    with torch.no_grad():
                        logits = loaded.model(torch.tensor([window.ids[:at]])).logits[0, -1]
                    nats -= torch.log_softmax(logits.double(), -1)[window.ids[at]].item()
                    tokens += 1
        assert scores[domain]["protocol"] == "overlapping windows of 24 tokens, stride 7"
        assert scores[domain]["tokens"] == tokens
        assert scores[domain]["loss"] == pytest.approx(nats / tokens, rel=1e-5)
        size = sum(len(text.encode()) for text in texts)
        assert scores[domain]["bytes"] == size
        assert scores[domain]["value"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_batching_does_not_change_scores(loaded):
    one, many = (score(loaded, context=32, tokens_per_batch=size) for size in (1, 10_000))
    for domain in TEXTS:
        assert one[domain]["loss"] == pytest.approx(many[domain]["loss"], rel=1e-5)


def test_a_model_that_knows_nothing_scores_the_logarithm_of_its_vocabulary(loaded):
    saved = loaded.model.lm_head.weight.detach().clone()
    try:
        loaded.model.lm_head.weight.data.zero_()
        scores = score(loaded)
    finally:
        loaded.model.lm_head.weight.data.copy_(saved)
    assert scores["web-en"]["loss"] == pytest.approx(math.log(loaded.model.config.vocab_size), rel=1e-5)


def test_without_a_start_token_the_first_token_is_not_scored(loaded):
    tokens = {start: score(loaded, start=start)["web-en"]["tokens"] for start in ("eos", "bos", "none")}
    assert tokens["eos"] == tokens["bos"] == tokens["none"] + len(TEXTS["web-en"])


def test_without_a_start_token_only_scored_bytes_are_divided_by(loaded):
    whole, part = score(loaded), score(loaded, start="none")
    for domain, texts in TEXTS.items():
        pieces = [loaded.tokenizer.tokenize(text, add_special_tokens=False)[0] for text in texts]
        first = sum(1 if piece.startswith("<0x") else len(piece.replace("▁", " ").encode()) for piece in pieces)
        assert part[domain]["bytes"] == whole[domain]["bytes"] - first
        nats = part[domain]["loss"] * part[domain]["tokens"]
        assert part[domain]["value"] == pytest.approx(nats / math.log(2) / part[domain]["bytes"], rel=1e-6)
    with pytest.raises(EvalError, match="a: no document is longer than a token"):
        Heldout(start="none").score(loaded, {"a": ["a"]})


def test_text_is_limited_by_bytes_but_never_to_nothing(corpus):
    sizes = (None, 1_000, 1)
    whole, part, least = (heldout_texts(corpus / "heldout", bytes_per_domain=size) for size in sizes)
    assert set(whole) == set(part) == set(least)
    for domain, documents in whole.items():
        assert len(least[domain]) == 1
        assert sum(len(text.encode()) for text in part[domain]) <= 1_000
        for document, text in zip(documents, part[domain], strict=False):
            assert text
            assert document.startswith(text)
            assert len(text.encode()) <= 125


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": -1, "context": 8}, r"task heldout: stride: .* found -1"),
        ({"stride": 8, "context": 8}, "stride 8"),
        ({"start": "x"}, "'x' is not valid. Known: eos, bos, none"),
        ({"strid": 8}, "no task of 'heldout' has a setting 'strid'. Did you mean 'stride'?"),
    ],
)
def test_bad_windows_are_named(loaded, options, message):
    with pytest.raises((EvalError, DataError), match=message):
        make_tasks("heldout", options)[0].score(loaded, TEXTS)
