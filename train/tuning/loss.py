"""Instruction tuning's loss: TRL's fused head, or one that can add a z-loss and skips untrained positions.

TRL calls the base model and applies the head itself, so whatever `forward` of a causal LM adds to its loss is
dropped without a word. A z-loss in tuning is therefore a choice made here, by `z_loss` in the config.
"""

import functools
from types import MethodType
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from transformers.modeling_outputs import ModelOutput
from trl import SFTTrainer

from modeling_yulanmini import linear_cross_entropy
from train.errors import TrainError

LOGIT_MULTIPLIERS = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


class DialogueTrainer(SFTTrainer):
    """SFTTrainer with an optional z-loss: mean over trained tokens of `z_loss * logsumexp(logits)**2`.

    Without one, TRL's Triton kernel is used on a GPU. On a CPU TRL's head scores every position, the user's
    too, and their entropy; ours takes less time there (benchmarks/sft_head.py).
    """

    def __init__(self, *args: Any, z_loss: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_plain = self.args.loss_type == "nll" and not self.args.label_smoothing_factor
        self.uses_own_head = z_loss > 0 or (self.args.device.type == "cpu" and is_plain)
        model = self.accelerator.unwrap_model(self.model)
        add_sums_head(model.get_base_model() if hasattr(model, "get_base_model") else model, z_loss=z_loss)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card with every checkpoint: hub_cards writes it from the finished run."""

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Mean cross-entropy of all trained tokens of the held-out rows, whatever the batches; no z-loss."""
        ranks = self.accelerator.num_processes
        rows = padded_with_nothing(self.eval_dataset, ranks * self.args.per_device_eval_batch_size)
        model = self._wrap_model(self.model, training=False)
        was_training = model.training
        model.eval()
        totals = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        for inputs in self.get_eval_dataloader(rows):
            with torch.no_grad(), self.compute_loss_context_manager():
                sums = model(**self._prepare_inputs(inputs), sums_head=True)
            totals += torch.stack([sums.summed_cross_entropy.double(), sums.tokens.double()])
        model.train(was_training)
        summed, tokens = self.accelerator.reduce(totals, "sum").tolist()
        metrics = {f"{metric_key_prefix}_loss": summed / max(tokens, 1), f"{metric_key_prefix}_tokens": tokens}
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not self.uses_own_head:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        sums = model(**inputs, sums_head=True)
        count = sums.tokens if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = sums.summed_loss / count.clamp(min=1)
        # The count is over all ranks, and the gradients are averaged over them (as in SFTTrainer).
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, sums) if return_outputs else loss


def padded_with_nothing(rows: Dataset, multiple: int) -> Dataset:
    """`rows`, and rows without a trained token after them until there are a multiple of `multiple`."""
    missing = -len(rows) % multiple
    if not missing:
        return rows
    first = rows[0]["input_ids"][:2]
    empty = {"input_ids": [first] * missing, "labels": [[-100] * len(first)] * missing}
    return concatenate_datasets([rows, Dataset.from_dict(empty, features=rows.features)])


def add_sums_head(model: torch.nn.Module, *, z_loss: float = 0.0) -> None:
    """Let `model(..., labels=labels, sums_head=True)` return sums over the trained positions only.

    The result has the fields `summed_loss` (cross-entropy and z-loss) and `tokens`. The head runs inside the model's
    own forward, so that FSDP and PEFT hooks stay in force. Raises TrainError for an architecture that scales its
    logits after the head: the sum would be that of other logits.
    """
    config: Any = model.config
    scaled = [name for name in LOGIT_MULTIPLIERS if getattr(config, name, None) not in (None, 1, 1.0)]
    if scaled or getattr(config, "final_logit_softcapping", None):
        raise TrainError(
            f"a {config.model_type} model changes its logits after the head ({', '.join(scaled) or 'softcapping'}); "
            "only Llama and yulanmini models can be tuned here."
        )
    original: Any = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, sums_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not sums_head:
            return original(*args, **({} if labels is None else {"labels": labels}), **kwargs)
        kwargs["use_cache"] = False
        hidden_states = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        trained = labels[:, 1:] != -100
        hidden_states, targets = hidden_states[trained], labels[:, 1:][trained]
        loss, z_term = linear_cross_entropy(hidden_states, self.get_output_embeddings(), targets, z_loss=z_loss)
        return ModelOutput(summed_loss=loss, summed_cross_entropy=loss.detach() - z_term, tokens=trained.sum())

    model.forward = MethodType(forward, model)
