"""Log-probabilities of answers on a CPU: the head at the answers' positions only, where TRL's scores the prompts too.

Large tables are left to TRL's, which cuts them into tiles.
"""

import functools
from types import MethodType
from typing import Any

import torch
from transformers.modeling_outputs import ModelOutput

from train.tuning.loss import LOGIT_MULTIPLIERS

LARGEST_TABLE = 2**26
"""Logits of one call."""


def add_answer_head(model: Any, *, temperature: float) -> bool:
    """Let `model(..., answer_tokens=n)` give `log_probs` and `entropy` (nats) of the last n tokens of each row, float32
    [rows, n]; False, and no change, where the architecture does something to its logits after the head."""
    config = model.config
    scaled = any(getattr(config, name, None) not in (None, 1, 1.0) for name in LOGIT_MULTIPLIERS)
    if scaled or getattr(config, "final_logit_softcapping", None):
        return False
    original = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, answer_tokens: int | None = None, **kwargs: Any) -> Any:
        if answer_tokens is None:
            return original(*args, **kwargs)
        ids = kwargs["input_ids"][:, -answer_tokens:]
        hidden_states = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state[:, -answer_tokens - 1 : -1]
        table = torch.log_softmax(self.get_output_embeddings()(hidden_states).float() / temperature, dim=-1)
        with torch.no_grad():
            entropy = -(table.exp() * table).sum(-1)
        log_probs = (
            table.gather(-1, ids[..., None]).squeeze(-1).clone()
        )  # FSDP2 cannot hook a view for the backward pass
        return ModelOutput(log_probs=log_probs, entropy=entropy)

    model.forward = MethodType(forward, model)
    return True
