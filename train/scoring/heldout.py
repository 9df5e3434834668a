"""Held-out loss by domain, in nats a token and bits a byte, on the model as it trains.

Each document is predicted whole: windows of at most the context length, each beginning with the last token of the one
before, the first with the separator that precedes a document in training. So every token counts exactly once.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from train.curriculum.batches import IGNORED
from train.errors import TrainError
from train.launch.world import World


@dataclass(frozen=True)
class HeldoutDomain:
    """A domain's windows: `windows` are lists of token ids, of which all but the first are predicted."""

    name: str
    windows: list[list[int]]
    bytes: int

    @property
    def tokens(self) -> int:
        return sum(len(window) - 1 for window in self.windows)


def load_heldout(folder: Path, tokenizer: Any, *, bytes_per_domain: int, context_length: int) -> list[HeldoutDomain]:
    """Tokenise the first documents of each `<domain>.jsonl`, up to `bytes_per_domain` UTF-8 bytes each."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise TrainError(f"heldout.dir: no <domain>.jsonl file in {folder}. Set heldout to null to do without.")
    domains = []
    for path in files:
        texts = _first_texts(path, bytes_per_domain)
        if not texts:
            continue
        windows = []
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            stream = [tokenizer.eos_token_id, *ids]
            windows += [
                stream[start : start + context_length] for start in range(0, len(stream) - 1, context_length - 1)
            ]
        domains.append(HeldoutDomain(path.stem, windows, sum(len(text.encode()) for text in texts)))
    return domains


@torch.no_grad()
def heldout_losses(
    model: Any, domains: list[HeldoutDomain], world: World, *, tokens_per_batch: int
) -> list[dict[str, Any]]:
    """One record a domain: `loss` (nats a token), `bits_per_byte`, `tokens`, `bytes`. Every rank takes its share."""
    model.eval()
    records = []
    for domain in tqdm(domains, desc="held-out text", unit="domain", leave=False, delay=3, disable=not world.is_main):
        total = torch.zeros((), dtype=torch.float64, device=world.device)
        batches = _batches(domain.windows, tokens_per_batch)
        rounds = math.ceil(len(batches) / world.size)
        for index in range(rounds):
            # A forward pass is collective under sharding: ranks without a batch of their own repeat the first one.
            mine = index * world.size + world.rank
            batch = batches[mine] if mine < len(batches) else batches[0]
            nats = _nats(model, batch, world.device)
            if mine < len(batches):
                total += nats
        loss = float(world.sum(total))
        records.append(
            {
                "domain": domain.name,
                "loss": loss / domain.tokens,
                "bits_per_byte": loss / math.log(2) / domain.bytes,
                "tokens": domain.tokens,
                "bytes": domain.bytes,
            }
        )
    model.train()
    return records


def _nats(model: Any, windows: list[list[int]], device: torch.device) -> torch.Tensor:
    """Summed negative log-likelihood of a batch of windows, padded on the right."""
    width = max(len(window) for window in windows)
    ids = torch.zeros((len(windows), width), dtype=torch.int64)
    labels = torch.full((len(windows), width), IGNORED)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = torch.tensor(window)
        labels[row, : len(window)] = torch.tensor(window)
    # Padding lies behind every real token, so the causal mask alone keeps it out of sight.
    logits = model(input_ids=ids.to(device), use_cache=False).logits[:, :-1].float()
    targets = labels[:, 1:].to(device)
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=IGNORED, reduction="sum"
    ).double()


def _batches(windows: list[list[int]], tokens_per_batch: int) -> list[list[list[int]]]:
    """Windows of like length together, at most `tokens_per_batch` padded tokens a batch."""
    batches: list[list[list[int]]] = []
    for window in sorted(windows, key=len, reverse=True):
        if not batches or (len(batches[-1]) + 1) * len(batches[-1][0]) > tokens_per_batch:
            batches.append([])
        batches[-1].append(window)
    return batches


def _first_texts(path: Path, limit: int) -> list[str]:
    texts, size = [], 0
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                text = json.loads(line)["text"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise TrainError(f"{path}, line {number}: expected an object with a 'text' ({error}).") from error
            if not text:
                continue
            room = limit - size
            # Documents vary by orders of magnitude: a domain's sample is many beginnings, not one long book.
            text = text[: max(1, min(room, max(limit // 8, 1)))]
            texts.append(text)
            size += len(text.encode())
            if size >= limit:
                break
    return texts
