"""On-policy tuning: `yulanmini train on-policy CONFIG [--set ...]`, or `accelerate launch train/on_policy.py CONFIG`.

Reads a model (merged Llama or yulanmini), a tokenizer with a chat template and a file of prompts; the model answers
them, and learns from the rewards of its answers by RLOO. Leaves one folder with the tuned model. A killed run resumes
from its last checkpoint and ends with the same weights. What differs from the published PPO is in docs/on-policy.md.
"""

import sys

if __name__ == "__main__":  # before the libraries, whose import takes seconds
    from train.launch import interrupt

    interrupt.catch()

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer
from trl import RLOOConfig

from data_recipes.manifest import fingerprint_of
from train.tuning.config import OnPolicyConfig
from train.tuning.model import lora_config
from train.tuning.on_policy_trainer import OnPolicyTrainer
from train.tuning.prompts import ordered_prompts, read_prompts, split_off, stop_ids_of
from train.tuning.rewards.base import Reward, make_rewards
from train.tuning.run import Rows, Tuning
from train.tuning.run import main as tuning_main
from train.tuning.run import run as run_tuning
from train.tuning.server_generation import ServerGeneration


class OnPolicy(Tuning):
    """Prompts; the loss is on the model's own answers, by how much better each is than the others to its prompt."""

    config: OnPolicyConfig
    config_type = OnPolicyConfig
    length_key = "max_prompt_length + max_completion_length ="

    def longest_row(self) -> int:
        return self.config.max_prompt_length + self.config.max_completion_length

    @cached_property
    def rewards(self) -> list[Reward]:
        return make_rewards(self.config.rewards)

    def data(self) -> dict[str, Path]:
        return {"prompts": self.config.prompts}

    def more_inputs(self, tokenizer: Path) -> dict[str, str]:
        self.found = self.read(tokenizer)  # a bad line is refused before anything is written
        return {f"rewards/{reward.name}": reward.fingerprint for reward in self.rewards if reward.fingerprint}

    def read(self, tokenizer: Path) -> Rows:
        """The prompts of every step, those held out, and the tokens that end an answer."""
        config, loaded = self.config, AutoTokenizer.from_pretrained(tokenizer)
        stop_ids = stop_ids_of(loaded, tokenizer)
        limits: dict[str, Any] = {"max_length": config.max_prompt_length, "rewards": self.rewards}
        found, counts = read_prompts(config.prompts, loaded, **limits)
        evaluation = None
        if config.evaluation is not None:
            if config.evaluation.file is not None:
                held_out = read_prompts(config.evaluation.file, loaded, **limits)[0]
            else:
                found, held_out = split_off(found, config.evaluation.share or 0.0, seed=config.seed)
            counts["evaluation_prompts"] = len(held_out)
            evaluation = Dataset.from_list(held_out)
        rows, steps = ordered_prompts(
            found, prompts_a_step=config.batch_size // config.samples, epochs=config.epochs, seed=config.seed
        )
        return Rows(rows, steps, counts, stop_ids, evaluation=evaluation)

    def rows(self, work: Path, tokenizer: Path) -> Rows:
        return self.found

    def trainer(self, arguments: dict[str, Any], model: Any, tokenizer: Any, rows: Rows) -> Any:
        config = self.config
        model.generation_config.eos_token_id = rows.stop_ids  # or an answer would go on after the end of its turn
        server = None
        if config.server is not None:
            run = f"on-policy-{fingerprint_of(str(config.output_dir.absolute()))[:8]}"
            folder = Path(arguments["output_dir"], "adapters")
            server = ServerGeneration(config, folder=folder, stop_ids=rows.stop_ids, run=run)
            server.check_server()
        own = {
            "shuffle_dataset": False,
            "num_generations": config.samples,
            "num_generations_eval": 1,  # the mean of a reward needs no second answer to a prompt
            "max_completion_length": config.max_completion_length,
            "temperature": config.temperature,
            "beta": config.kl_coefficient,
            "reward_clip_range": config.reward_clip,
            "reward_weights": [settings.weight for settings in config.rewards.values()],
            "disable_dropout": True,  # the model that answers must be the one that is trained
        }
        return OnPolicyTrainer(
            model=model,
            args=RLOOConfig(**own, **arguments),
            train_dataset=rows.train,
            eval_dataset=rows.evaluation,
            processing_class=tokenizer,
            peft_config=lora_config(config),
            rewards=self.rewards,
            generation_batch=config.generation_batch,
            server=server,
        )


def run(config: OnPolicyConfig) -> Path:
    """Tune with `config`, resuming where an interrupted run stopped; returns the finished folder."""
    return run_tuning(OnPolicy(config))


def main(arguments: Sequence[str] | None = None) -> int:
    return tuning_main(OnPolicy, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
