"""Monitors of what flows through the layers: hidden-state variance, variance after the norms, attention logits."""

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface

from train.curriculum.batches import MicroBatch
from train.curriculum.plan import Phase
from train.monitors.base import InnerHooks, LayerMonitor, variance

LOGIT_PROBE = "yulanmini_logit_probe"
QUERIES_AT_ONCE = 64  # of one row: 31 MB of logits at 4,096 tokens and 30 heads


class HiddenStateVariance(LayerMonitor):
    """`hidden_state_variance`: variance over all elements of each layer's output, mean over micro-batches and ranks.

    It rises before the loss does in diverging runs (the report's Figure 3): train/monitors/early_warning.py warns.
    """

    name = "hidden_state_variance"
    keys = ("hidden_state_variance",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for index, layer in enumerate(self.layers):
            layer.register_forward_hook(partial(self._measure, index))

    def _measure(self, index: int, layer: nn.Module, args: Any, output: Any) -> None:
        if self.measuring and layer.training:
            output = output[0] if isinstance(output, tuple) else output
            self.gauges["hidden_state_variance"].add(index, variance(output))


class NormOutputVariance(LayerMonitor):
    """`norm_output_variance`: variance over all elements of what enters attention in each layer (the norm's output,
    its alpha included); `mlp_norm_output_variance`: of what enters the MLP, gate_up_proj_alpha included."""

    name = "norm_output_variance"
    keys = ("norm_output_variance", "mlp_norm_output_variance")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._hooks = InnerHooks()
        for index, layer in enumerate(self.layers):
            for key, norm in zip(self.keys, (layer.input_layernorm, layer.post_attention_layernorm), strict=True):
                self._hooks.add(partial(norm.register_forward_hook, partial(self._measure, key, index)))

    def _measure(self, key: str, index: int, norm: nn.Module, args: Any, output: torch.Tensor) -> None:
        if norm.training:
            self.gauges[key].add(index, variance(output))

    def before_step(self, step: int) -> None:
        super().before_step(step)
        self._hooks.place(self.measuring)


class AttentionLogits(LayerMonitor):
    """`attention_logit_max`: each layer's largest attention logit (after scaling, before the softmax) over all heads
    and `QUERIES` evenly spaced queries of the first row of a step on each rank, within `TOKENS` tokens.
    """

    name = "attention_logits"
    keys = ("attention_logit_max",)
    reduction = "max"
    QUERIES = 64
    TOKENS = 4096

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._batches = 0
        self._document_starts: torch.Tensor | None = None
        self._hooks = InnerHooks()
        for index, layer in enumerate(self.layers):
            register = layer.self_attn.register_forward_pre_hook
            self._hooks.add(partial(register, partial(self._measure, index), with_kwargs=True))

    @torch.no_grad()
    def _measure(self, index: int, attention: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if self._batches != 1 or not attention.training:
            return
        found = largest_attention_logit(
            attention,
            kwargs["hidden_states"][:1, : self.TOKENS],
            kwargs["position_embeddings"],
            queries=self.QUERIES,
            document_starts=self._document_starts,
        )
        self.gauges["attention_logit_max"].add(index, found)

    def before_step(self, step: int) -> None:
        super().before_step(step)
        self._hooks.place(self.measuring)
        self._batches = 0

    def before_forward(self, phase: Phase, batch: MicroBatch) -> None:
        self._batches += 1
        self._document_starts = self._starts(batch) if self.measuring else None

    def _starts(self, batch: MicroBatch) -> torch.Tensor | None:
        """Where the document of each token of the first row begins; None without a document mask."""
        places = torch.arange(min(batch.input_ids.shape[1], self.TOKENS), device=batch.input_ids.device)
        ends = batch.document_arguments.get("cu_seq_lens_q")
        if ends is not None:
            return ends[torch.bucketize(places, ends, right=True) - 1]
        return None if batch.position_ids is None else places - batch.position_ids[0, : len(places)]


def largest_attention_logit(
    attention: Any,
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    *,
    queries: int | None = None,
    document_starts: torch.Tensor | None = None,
) -> torch.Tensor:
    """The largest logit (after scaling, before the softmax) of one row, hidden_states [1, tokens, hidden]; 0-dim.

    Over all heads and `queries` evenly spaced queries, by default all. The module's own forward is run on the row with
    an attention function that looks at q and k and returns, so whatever the model does to them (alphas, RoPE,
    QK-LayerNorm) is in the figure. `document_starts` [tokens]: where the document of each token begins.
    """
    tokens = hidden_states.shape[1]
    places = torch.arange(tokens, device=hidden_states.device)
    found = []

    def probe(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, *, scaling: float, **_: Any
    ) -> tuple[torch.Tensor, None]:
        """query, key [1, heads, tokens, head_dim]; returns an output of the right shape, which is not used."""
        sampled = torch.linspace(0, tokens - 1, min(queries or tokens, tokens), device=query.device).long()
        for some in sampled.split(QUERIES_AT_ONCE):
            grouped = query[0, :, some].unflatten(0, (key.shape[1], -1))  # [kv heads, group, queries, head_dim]
            logits = torch.einsum("kgqd,ktd->kgqt", grouped, key[0]).float() * scaling
            visible = places[None] <= some[:, None]
            if document_starts is not None:
                visible &= places[None] >= document_starts[some][:, None]
            found.append(logits.masked_fill(~visible, -torch.inf).amax())
        return query.new_zeros(1, tokens, query.shape[1], query.shape[3]), None

    # [.., tokens, head_dim] of one row or of each row of a batch, the first of which it is.
    cos, sin = (part[:1, ..., :tokens, :] for part in position_embeddings)
    config = attention.config
    implementation = config._attn_implementation
    config._attn_implementation = LOGIT_PROBE
    AttentionInterface.register(LOGIT_PROBE, probe)
    try:
        attention.forward(hidden_states, (cos, sin), attention_mask=None)
    finally:
        config._attn_implementation = implementation
    return torch.stack(found).amax()
