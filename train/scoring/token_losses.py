"""The loss of each token, with the logits of a chunk of tokens at a time: those of a 28K row alone would take 11 GB."""

import inspect
from typing import Any

import torch
from torch import nn

from modeling_yulanmini.modeling_yulanmini import logits_chunk_tokens
from train.curriculum.batches import IGNORED


@torch.no_grad()
def token_losses(hidden_states: torch.Tensor, targets: torch.Tensor, head: Any) -> torch.Tensor:
    """Cross-entropy of each token in nats, float32 [tokens]; 0 where the target is `IGNORED`.

    hidden_states [tokens, hidden] are what the model gives to `head`, its linear layer over the vocabulary.
    """
    size = logits_chunk_tokens(head.weight.shape[0], hidden_states.device.type)
    losses = []
    for hidden_chunk, target_chunk in zip(hidden_states.split(size), targets.split(size), strict=True):
        logits = _logits(head, hidden_chunk).float()
        losses.append(nn.functional.cross_entropy(logits, target_chunk, ignore_index=IGNORED, reduction="none"))
    return torch.cat(losses)


@torch.no_grad()
def losses_of(model: Any, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every token that `labels` [rows, tokens] names as a target, in one vector, row by row; float32.

    Labels are not shifted. Any causal model of transformers: where its logits are more than its head times its last
    hidden states (Gemma caps them, Granite divides them), they are all held at once. Collective under sharding.
    """
    targets = nn.functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
    rows, places = (targets != IGNORED).cpu().nonzero(as_tuple=True)
    rows, places = rows.to(input_ids.device), places.to(input_ids.device)
    targets = targets.to(input_ids.device)[rows, places]
    head: Any = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found: list[torch.Tensor] = []

    def measure(module: nn.Module, args: Any, output: Any) -> None:
        """Within the model's forward pass, where a sharded head's weight is whole."""
        hidden_states = output[0]
        found.append(_logits(head, hidden_states[:, -1:]))
        found.append(token_losses(hidden_states[rows, places], targets, head))

    if head is not None and "logits_to_keep" in inspect.signature(model.forward).parameters:
        handle = model.base_model.register_forward_hook(measure)
        try:
            logits = model(input_ids=input_ids, use_cache=False, logits_to_keep=1).logits
        finally:
            handle.remove()
        last, losses = found
        if torch.allclose(last.float(), logits.float(), equal_nan=True):
            return losses
    logits = model(input_ids=input_ids, use_cache=False).logits[rows, places]
    return nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def _logits(head: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """A plain head's weight is used by itself: to call a sharded one would, for FSDP, end its forward pass."""
    if isinstance(head, nn.Linear) and head.bias is None and head.weight.is_floating_point():
        return nn.functional.linear(hidden_states.to(head.weight.dtype), head.weight)
    return head(hidden_states)
