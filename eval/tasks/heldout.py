"""Loss and bits per byte by domain on held-out text, for any causal language model.

Documents are scored one by one in overlapping windows: every token counts once, predicted with at least
`context - stride` tokens before it where the document has them. Bits per byte divide by the UTF-8 bytes of
the text itself, so models with different tokenizers can be compared.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from tqdm import tqdm

from eval.errors import EvalError
from eval.model_loading import LoadedModel

IGNORED = -100


@dataclass(frozen=True)
class Window:
    """Token ids, of which those from `first_target` on are predicted."""

    ids: list[int]
    first_target: int


def windows_of(ids: list[int], *, start: list[int], context: int, stride: int) -> list[Window]:
    """Cut one document into windows of at most `context` tokens that advance by `stride` targets.

    `start` (zero or one token) stands before the first token of the document; without it that token is not
    predicted, as nothing precedes it.
    """
    stream = [*start, *ids]
    windows = []
    target = 1
    while target < len(stream):
        # The first window predicts as much as it holds, the later ones `stride` tokens each.
        end = min(len(stream), context if target == 1 else target + stride)
        begin = max(0, end - context)
        windows.append(Window(stream[begin:end], target - begin))
        target = end
    return windows


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
    """{domain: {"loss" (nats a token), "bits_per_byte", "tokens", "bytes", "documents"}}.

    `context` in tokens, by default the model's (at most 4,096); `stride` by default half of it. `start`:
    "eos" (what precedes a document in pretraining here), "bos", or "none".
    """
    context = min(context or min(loaded.max_length, 4_096), loaded.max_length)
    stride = stride or max(1, context // 2)
    if not 1 <= stride < context:
        raise EvalError(f"stride {stride}: expected at least 1 and less than the context of {context} tokens.")
    before = start_tokens(loaded.tokenizer, start)
    scores = {}
    bar = tqdm(total=sum(map(len, texts.values())), desc="held-out text", unit="doc", disable=not progress)
    for domain, documents in texts.items():
        encoded = loaded.tokenizer(documents, add_special_tokens=False)["input_ids"]
        windows = [
            window for ids in encoded for window in windows_of(ids, start=before, context=context, stride=stride)
        ]
        nats = sum(batch_nats(loaded, batch) for batch in batches(windows, tokens_per_batch))
        tokens = sum(len(window.ids) - window.first_target for window in windows)
        size = sum(len(document.encode()) for document in documents)
        scores[domain] = {
            "loss": nats / max(tokens, 1),
            "bits_per_byte": nats / math.log(2) / size,
            "tokens": tokens,
            "bytes": size,
            "documents": len(documents),
        }
        bar.update(len(documents))
    bar.close()
    return scores


def start_tokens(tokenizer: Any, start: str) -> list[int]:
    """The token that stands before a document, as a list of one or none."""
    choices = {"eos": tokenizer.eos_token_id, "bos": tokenizer.bos_token_id, "none": None}
    if start not in choices:
        raise EvalError(f"start '{start}': expected eos, bos or none.")
    token = choices[start]
    if token is None and start != "none":
        raise EvalError(f"start '{start}': this tokenizer has no such token; use none.")
    return [] if token is None else [token]


def batches(windows: list[Window], tokens_per_batch: int) -> list[list[Window]]:
    """Windows of like length together, so that little is padded."""
    grouped: list[list[Window]] = []
    for window in sorted(windows, key=lambda window: len(window.ids), reverse=True):
        if not grouped or (len(grouped[-1]) + 1) * len(grouped[-1][0].ids) > tokens_per_batch:
            grouped.append([])
        grouped[-1].append(window)
    return grouped


@torch.inference_mode()
def batch_nats(loaded: LoadedModel, batch: list[Window]) -> float:
    """Summed negative log-likelihood of the targets of a batch, in nats."""
    width = len(batch[0].ids)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    labels = torch.full((len(batch), width), IGNORED)
    for row, window in enumerate(batch):
        ids[row, : len(window.ids)] = torch.tensor(window.ids)
        labels[row, window.first_target : len(window.ids)] = torch.tensor(window.ids[window.first_target :])
    # Padding lies behind every real token: the causal mask alone keeps it out of sight.
    logits = loaded.model(input_ids=ids.to(loaded.device), use_cache=False).logits[:, :-1].float()
    targets = labels[:, 1:].to(loaded.device)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return float(losses.double().sum())
