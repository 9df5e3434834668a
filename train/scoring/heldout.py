"""Loss and bits per byte on held-out text: one protocol, for the model as it trains and for any model that is scored.

Documents are scored one by one in overlapping windows. Every token counts once and is predicted with at least
`context - stride` tokens before it, where its document has them. Disjoint windows would cost half as much at a stride
of half a context, but predict the first tokens of each window from next to nothing: a score would then measure the
window's length more than the model. Bits per byte divide by the UTF-8 bytes of the text, so that models with different
tokenizers can be compared.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from train.curriculum.batches import IGNORED
from train.errors import TrainError
from train.launch.world import World
from train.scoring.token_losses import losses_of


@dataclass(frozen=True)
class HeldoutDomain:
    """The documents of a domain as token ids, without the start token, and their size as UTF-8 text."""

    name: str
    documents: list[list[int]]
    bytes: int


@dataclass(frozen=True)
class Window:
    """Token ids, of which those from `first_target` on are predicted."""

    ids: list[int]
    first_target: int


@dataclass(frozen=True)
class Protocol:
    """Windows of at most `context` tokens that advance by `stride` targets; its text stands beside every score.

    `start`, zero or one token, stands before a document's first, which is not predicted without it. In training that
    is the separator of documents, as in the packed rows.
    """

    context: int
    stride: int
    start: tuple[int, ...]

    def __str__(self) -> str:
        return f"overlapping windows of {self.context:,} tokens, stride {self.stride:,}"

    def windows_of(self, ids: Sequence[int]) -> list[Window]:
        """One document cut into windows."""
        stream = [*self.start, *ids]
        windows = []
        target = 1
        while target < len(stream):
            # The first window predicts as much as it holds, the later ones `stride` tokens each.
            end = min(len(stream), self.context if target == 1 else target + self.stride)
            begin = max(0, end - self.context)
            windows.append(Window(stream[begin:end], target - begin))
            target = end
        return windows


@torch.no_grad()
def heldout_scores(
    model: Any,
    domains: Sequence[HeldoutDomain],
    protocol: Protocol,
    world: World,
    *,
    tokens_per_batch: int,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """A record for each domain: `loss` (nats a token), `bits_per_byte`, `tokens`, `bytes`, `documents`, `protocol`.

    The model is put into evaluation mode for the time. Every rank takes its share.
    """
    was_training = model.training
    model.eval()
    records = []
    hidden = not (progress and world.is_main)
    for domain in tqdm(domains, desc="held-out text", unit="domain", leave=False, delay=3, disable=hidden):
        windows = [window for ids in domain.documents for window in protocol.windows_of(ids)]
        batches = _batches(windows, tokens_per_batch)
        total = torch.zeros((), dtype=torch.float64, device=world.device)
        for first in range(0, len(batches), world.size):
            # A forward pass is collective under sharding: ranks without a batch of their own repeat the first one.
            mine = first + world.rank
            nats = _nats(model, batches[mine if mine < len(batches) else 0], world.device)
            if mine < len(batches):
                total += nats
        loss = float(world.sum(total))
        tokens = sum(len(window.ids) - window.first_target for window in windows)
        records.append(
            {
                "domain": domain.name,
                "loss": loss / max(tokens, 1),
                "bits_per_byte": loss / math.log(2) / domain.bytes,
                "tokens": tokens,
                "bytes": domain.bytes,
                "documents": len(domain.documents),
                "protocol": str(protocol),
            }
        )
    model.train(was_training)
    return records


def _nats(model: Any, windows: list[Window], device: torch.device) -> torch.Tensor:
    """Summed negative log-likelihood of the targets of a batch, padded on the right; 0-dim float64."""
    width = max(len(window.ids) for window in windows)
    ids = torch.zeros((len(windows), width), dtype=torch.int64)
    labels = torch.full((len(windows), width), IGNORED)
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = torch.tensor(window.ids)
        labels[row, window.first_target : len(window.ids)] = torch.tensor(window.ids[window.first_target :])
    # Padding lies behind every real token, so the causal mask alone keeps it out of sight.
    return losses_of(model, ids.to(device), labels).double().sum()


def _batches(windows: list[Window], tokens_per_batch: int) -> list[list[Window]]:
    """Windows of similar length together, at most `tokens_per_batch` padded tokens a batch."""
    batches: list[list[Window]] = []
    for window in sorted(windows, key=lambda window: len(window.ids), reverse=True):
        if not batches or (len(batches[-1]) + 1) * len(batches[-1][0].ids) > tokens_per_batch:
            batches.append([])
        batches[-1].append(window)
    return batches


def load_heldout(folder: Path, tokenizer: Any, *, bytes_per_domain: int | None) -> list[HeldoutDomain]:
    """The texts of `heldout_texts` as token ids."""
    return [
        HeldoutDomain(
            name, tokenizer(texts, add_special_tokens=False)["input_ids"], sum(len(text.encode()) for text in texts)
        )
        for name, texts in heldout_texts(folder, bytes_per_domain=bytes_per_domain).items()
    ]


def heldout_texts(folder: Path, *, bytes_per_domain: int | None) -> dict[str, list[str]]:
    """Documents of each `<domain>.jsonl` of a folder, all of them or the first ones up to a number of UTF-8 bytes.

    Training and `eval` both choose by this function, so that they score the same text. Documents vary in length by
    orders of magnitude: of a limited sample none is longer than an eighth, so that it is many beginnings and not one
    long book.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise TrainError(f"{folder}: no <domain>.jsonl of held-out text. `yulanmini reproduce` makes such a folder.")
    return {path.stem: texts for path in files if (texts := _first_texts(path, bytes_per_domain))}


def _first_texts(path: Path, limit: int | None) -> list[str]:
    texts: list[str] = []
    size = 0
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                text = json.loads(line)["text"]
            except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
                raise TrainError(f"{path}, line {number}: expected an object with a 'text' ({error}).") from error
            if limit is not None:
                # Cut between characters; the first document keeps at least one.
                room = max(min(limit - size, limit // 8), 0 if texts else 4)
                text = text.encode()[:room].decode(errors="ignore")
            if text:
                texts.append(text)
                size += len(text.encode())
            if limit is not None and size >= limit - 3:  # a character may need more than what is left
                break
    return texts
