"""TRL's RLOOTrainer with our rewards: every rank agrees on a failure, and a failure keeps the steps that are done.

What RLOO computes (leave-one-out baseline, reward clip, KL in the reward) is TRL's own and is held to an oracle in
tests/train/tuning/test_on_policy_loss.py.
"""

import json
import random
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils import gather, gather_object
from trl import RLOOTrainer

from data_recipes.errors import DataError
from train.errors import TrainError
from train.tuning.answer_head import LARGEST_TABLE, add_answer_head
from train.tuning.rewards.base import Completion, Reward, scores_of
from train.tuning.server_generation import ServerGeneration

warnings.filterwarnings("ignore", message=r"`is_gradient_checkpointing` is deprecated", category=FutureWarning)  # TRL's
LARGEST_WEIGHT = 2.0
"""Of an answer that the server gave with a smaller probability than the trainer would (truncated importance weight)."""
Result = TypeVar("Result")


class OnPolicyTrainer(RLOOTrainer):
    """`rewards` score the answers. They come from the `server`, if there is one, else from the model in this process,
    `generation_batch` at once on each rank (None: all of a step's)."""

    def __init__(
        self,
        *args: Any,
        rewards: Sequence[Reward],
        generation_batch: int | None = None,
        server: ServerGeneration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, reward_funcs=[reward.score for reward in rewards], **kwargs)
        self.rewards = list(rewards)
        self.reward_func_names = [reward.name for reward in rewards]
        self.generation_batch = generation_batch
        self.server = server
        self.has_answer_head = self._add_answer_heads() if self.args.device.type == "cpu" else False
        if self.is_fsdp_enabled and self.args.world_size > 1:
            # Every rank must take part in every forward pass, until the last rank's answers are done; transformers
            # sees that by itself only in models that it has sharded itself.
            model = self.accelerator.unwrap_model(self.model)
            model.generate = partial(model.generate, synced_gpus=True)

    def _add_answer_heads(self) -> bool:
        models = [self.accelerator.unwrap_model(model) for model in (self.model, self.ref_model) if model is not None]
        bases = [model.get_base_model() if hasattr(model, "get_base_model") else model for model in models]
        return all(add_answer_head(base, temperature=self.temperature) for base in bases)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, batch_size: Any = None, **more: Any
    ) -> Any:
        rows = batch_size or len(input_ids)
        vocabulary = self.accelerator.unwrap_model(model).config.vocab_size
        if not self.has_answer_head or rows * logits_to_keep * vocabulary > LARGEST_TABLE:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, **more
            )
        found = []
        for ids, mask in zip(input_ids.split(rows), attention_mask.split(rows), strict=True):
            with self.accelerator.autocast():
                found.append(model(input_ids=ids, attention_mask=mask, answer_tokens=logits_to_keep))
        return torch.cat([output.log_probs for output in found]), torch.cat([output.entropy for output in found]), None

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card with every checkpoint: hub_cards writes it from the finished run."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        before, tokens = random_state(), self.state.num_input_tokens_seen
        try:
            output = super()._generate_and_score_completions(inputs)
            if self.server is not None:
                self._weigh(output)
            return output
        except (TrainError, DataError):
            if self.model.training:
                restore_random_state(before)
                self.state.num_input_tokens_seen = tokens
                self._keep_finished_steps()
            raise

    def _keep_finished_steps(self) -> None:
        """A checkpoint of the last step that is done: nothing of the next one is in the model yet."""
        step = self.state.global_step
        if step and not Path(self.args.output_dir, f"checkpoint-{step}").exists():
            self._save_checkpoint(self.model, trial=None)
            self.callback_handler.on_save(self.args, self.state, self.control)

    def _together(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, which all ranks do; the failure of one is raised by all, so that none waits in vain."""
        result, failure = None, None
        try:
            result = work()
        except (TrainError, DataError) as error:
            failure = error
        for found in gather_object([failure]):
            if found is not None:
                raise found
        return result  # type: ignore[return-value]

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: list[Any]
    ) -> torch.Tensor:
        """float32 [answers of all ranks, rewards]."""
        answers = [
            Completion(
                row["prompt"],
                answer[0]["content"],
                ended=ids[-1] in self.eos_token_ids,
                columns=json.loads(row["columns"]),
                where=row["where"],
            )
            for row, answer, ids in zip(inputs, completions, completion_ids_list, strict=True)
        ]
        scores = self._together(lambda: [scores_of(reward, answers) for reward in self.rewards])
        return gather(torch.tensor(scores, dtype=torch.float32, device=self.accelerator.device).T.contiguous())

    def _generate_single_turn(self, prompt_ids: list[Any], images: Any, multimodal_fields: Any) -> list[list[int]]:
        server = self.server
        if server is not None:
            self._together(lambda: server.load_weights(self))
            self._sampled = self._together(lambda: server.generate(self, prompt_ids))
            return [answer.ids for answer in self._sampled]
        size = self.generation_batch or len(prompt_ids)
        found: list[list[int]] = []
        for start in range(0, len(prompt_ids), size):
            found += super()._generate_single_turn(prompt_ids[start : start + size], images, multimodal_fields)
        return found

    def _weigh(self, output: dict[str, Any]) -> None:
        """Weigh each answer by how much likelier it is under the weights in training than it was for the server."""
        assert self.server is not None
        sampled = torch.tensor([answer.logp for answer in self._sampled], device=output["old_logps"].device)
        difference = output["old_logps"] - sampled
        per_token = (difference.abs() / output["completion_mask"].sum(1).clamp(min=1)).mean()
        self._together(lambda: self.server.check(per_token.item()))  # type: ignore[union-attr]
        output["advantages"] = output["advantages"] * difference.exp().clamp(max=LARGEST_WEIGHT)
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["server/logp_difference"].append(gather(per_token).mean().item())


def random_state() -> tuple[Any, ...]:
    """Of all generators that the Trainer keeps with a checkpoint."""
    on_device = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), on_device


def restore_random_state(state: tuple[Any, ...]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
    if state[3] is not None:
        torch.cuda.set_rng_state(state[3])
