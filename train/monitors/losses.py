"""Monitor of the training loss by source: how well each subset of the recipe, and each domain, is learned."""

from typing import Any

import torch
from torch import nn

from train.curriculum.batches import IGNORED, MicroBatch
from train.curriculum.plan import Phase
from train.monitors.base import Monitor
from train.scoring.token_losses import token_losses


class LossBySource(Monitor):
    """`loss_by_domain`, `loss_by_subset`: mean cross-entropy (nats a token, no z-loss) of the rows of each domain and
    each subset of the recipe, over at most `TOKENS` evenly spaced tokens of each micro-batch.

    The loss of a step is one sum over all rows, so this is a forward pass of the head of its own.
    """

    name = "loss_by_source"

    TOKENS = 16_384

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sums: torch.Tensor | None = None
        self._batch: MicroBatch | None = None
        self._subsets: dict[str, tuple[tuple[str, str | None, int], ...]] = {}  # by phase: records arrive later
        self.model.model.register_forward_hook(self._hook)

    def before_step(self, step: int) -> None:
        self._sums = None
        self._batch = None

    def before_forward(self, phase: Phase, batch: MicroBatch) -> None:
        if not self.measuring:
            return
        self._batch = batch
        self._subsets[phase.name] = phase.subsets
        if self._sums is None:
            self._sums = torch.zeros((len(phase.subsets), 2), device=batch.input_ids.device)

    def _hook(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.measuring and module.training and self._batch is not None:
            self._measure(output.last_hidden_state, self._batch)
            self._batch = None

    @torch.compiler.disable
    @torch.no_grad()
    def _measure(self, hidden_states: torch.Tensor, batch: MicroBatch) -> None:
        """hidden_states [rows, context, hidden]: what the head is multiplied with."""
        assert self._sums is not None
        hidden_states, targets = hidden_states[:, :-1], batch.labels[:, 1:]
        stride = -(-targets.numel() // self.TOKENS)
        subsets = batch.subset_ids[:, None].expand_as(targets).reshape(-1)[::stride]
        targets = targets.reshape(-1)[::stride]
        hidden_states = hidden_states.flatten(0, 1)[::stride]
        losses = token_losses(hidden_states, targets, self.model.lm_head)
        self._sums.index_add_(0, subsets, torch.stack([losses, (targets != IGNORED).float()], dim=1))

    def after_update(self, record: dict[str, Any]) -> None:
        if self.measuring and self._sums is not None:
            record["loss_by_subset"] = self.world.sum(self._sums).flatten()

    def on_records(self, records: list[dict[str, Any]]) -> list[str]:
        for record in records:
            if "loss_by_subset" not in record:
                continue
            values = iter(record.pop("loss_by_subset"))
            by_subset: dict[str, list[float]] = {}
            by_domain: dict[str, list[float]] = {}
            for (name, domain, _), total, count in zip(self._subsets[record["phase"]], values, values, strict=True):
                for key, sums in ((name, by_subset), (domain or "other", by_domain)):
                    entry = sums.setdefault(key, [0.0, 0.0])
                    entry[0] += total
                    entry[1] += count
            record["loss_by_domain"] = {key: total / count for key, (total, count) in by_domain.items() if count}
            record["loss_by_subset"] = {key: total / count for key, (total, count) in by_subset.items() if count}
        return []
