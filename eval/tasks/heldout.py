"""Bits per byte by domain on held-out text, for any causal language model (train/scoring/heldout.py)."""

from pathlib import Path
from typing import Any

from pydantic import Field

from eval.errors import EvalError
from eval.metrics import compute
from eval.model_loading import LoadedModel
from eval.tasks.base import Task, TaskResult, score_row
from train.launch.world import World
from train.scoring.heldout import HeldoutDomain, Protocol, heldout_scores, heldout_texts


class Heldout(Task):
    """`context` of a window in tokens, by default the model's (at most 4,096); it advances by `stride` targets, by
    default half of that. `bytes_per_domain` of UTF-8 text are scored, by default all."""

    name = "heldout"
    context: int | None = Field(default=None, ge=1)
    stride: int | None = Field(default=None, ge=1)
    bytes_per_domain: int | None = Field(default=None, ge=1)
    tokens_per_batch: int = Field(default=8_192, ge=1)

    def read(self, data: Path) -> dict[str, list[str]]:
        return heldout_texts(data / "heldout", bytes_per_domain=self.bytes_per_domain)

    def score(self, loaded: LoadedModel, inputs: dict[str, list[str]], *, progress: bool = False) -> TaskResult:
        """A row a domain, with `loss` (nats a token), `tokens` and `bytes`."""
        context = self.context or min(loaded.max_length, 4_096)
        if context > loaded.max_length:
            raise EvalError(
                f"context {context}: the model's is {loaded.max_length} tokens (max_position_embeddings of its "
                "config.json); ask for at most that."
            )
        stride = self.stride or max(1, context // 2)
        if stride >= context:
            raise EvalError(f"stride {stride}: expected less than the context of {context} tokens.")
        start = tuple(self.start_tokens(loaded.tokenizer))
        domains = [
            tokenized(name, documents, loaded.tokenizer, whole=bool(start)) for name, documents in inputs.items()
        ]
        records = heldout_scores(
            loaded.model,
            domains,
            Protocol(context, stride, start),
            World(loaded.device, rank=0, size=1),
            tokens_per_batch=self.tokens_per_batch,
            progress=progress,
        )
        rows = []
        for record in records:
            domain, count = record.pop("domain"), record.pop("documents")
            del record["bits_per_byte"]  # computed by the metric, as for anybody
            nats = record["loss"] * record["tokens"]
            found = compute("bits_per_byte", predictions=[nats], references=[record["bytes"]])
            rows.append(
                score_row("bits per byte", domain, found["bits_per_byte"], better="lower", count=count, **record)
            )
        return TaskResult(rows)


def tokenized(name: str, documents: list[str], tokenizer: Any, *, whole: bool) -> HeldoutDomain:
    """A domain's documents as ids, and how many of their bytes are scored: without a token before a document (`whole`
    false) its first one is not predicted, and its bytes are not counted. `EvalError` where nothing is left."""
    ids = tokenizer(documents, add_special_tokens=False)["input_ids"]
    size = sum(len(document.encode()) for document in documents)
    if not whole:
        size -= sum(len(document.encode()) - bytes_after_first(tokenizer, document) for document in documents)
        if size == 0:
            raise EvalError(f"{name}: no document is longer than a token, so nothing is scored with start=none.")
    return HeldoutDomain(name, ids, size)


def bytes_after_first(tokenizer: Any, document: str) -> int:
    """The UTF-8 bytes of a document behind its first token; one token may be a part of a character."""
    spans = tokenizer(document, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    begin, end = spans[0]
    parts = sum(span == (begin, end) for span in spans) if end - begin == 1 else 1
    first = len(document[begin:end].encode())
    return len(document.encode()) - (first if parts == 1 else 1)
