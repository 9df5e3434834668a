"""Loss and bits per byte by domain on held-out text, for any causal language model (train/scoring/heldout.py)."""

from typing import Any

from eval.errors import EvalError
from eval.model_loading import LoadedModel
from train.launch.world import World
from train.scoring.heldout import HeldoutDomain, Protocol, heldout_scores


def score_heldout(
    loaded: LoadedModel,
    texts: dict[str, list[str]],
    *,
    context: int | None = None,
    stride: int | None = None,
    start: str = "eos",
    tokens_per_batch: int = 8_192,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """{domain: {"loss" (nats a token), "bits_per_byte", "tokens", "bytes", "documents", "protocol"}}.

    `context` in tokens, by default the model's (at most 4,096); `stride` by default half of it. `start`:
    "eos" (what precedes a document in pretraining here), "bos", or "none". `EvalError` for a context that the model
    does not have.
    """
    context = context or min(loaded.max_length, 4_096)
    if context > loaded.max_length:
        raise EvalError(
            f"context {context}: the model's is {loaded.max_length} tokens (max_position_embeddings of its "
            "config.json); ask for at most that."
        )
    stride = stride or max(1, context // 2)
    if not 1 <= stride < context:
        raise EvalError(f"stride {stride}: expected at least 1 and less than the context of {context} tokens.")
    protocol = Protocol(context, stride, tuple(start_tokens(loaded.tokenizer, start)))
    domains = [
        HeldoutDomain(
            name,
            loaded.tokenizer(documents, add_special_tokens=False)["input_ids"],
            sum(len(document.encode()) for document in documents),
        )
        for name, documents in texts.items()
    ]
    world = World(loaded.device, rank=0, size=1)
    records = heldout_scores(
        loaded.model, domains, protocol, world, tokens_per_batch=tokens_per_batch, progress=progress
    )
    return {record.pop("domain"): record for record in records}


def start_tokens(tokenizer: Any, start: str) -> list[int]:
    """The token that stands before a document, as a list of one or none."""
    choices = {"eos": tokenizer.eos_token_id, "bos": tokenizer.bos_token_id, "none": None}
    if start not in choices:
        raise EvalError(f"start '{start}': expected eos, bos or none.")
    token = choices[start]
    if token is None and start != "none":
        raise EvalError(f"start '{start}': this tokenizer has no such token; use none.")
    return [] if token is None else [token]
