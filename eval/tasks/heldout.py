"""Bits per byte by domain on held-out text, for any causal language model (train/scoring/heldout.py)."""

from pathlib import Path

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
        domains = [
            HeldoutDomain(
                name,
                loaded.tokenizer(documents, add_special_tokens=False)["input_ids"],
                sum(len(document.encode()) for document in documents),
            )
            for name, documents in inputs.items()
        ]
        records = heldout_scores(
            loaded.model,
            domains,
            Protocol(context, stride, tuple(self.start_tokens(loaded.tokenizer))),
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
