"""Tuning on preferences (DPO): `yulanmini train dpo CONFIG [--set ...]`, or `accelerate launch train/dpo.py CONFIG`.

Reads a tuned model and a file of pairs, a better and a worse answer each; leaves one folder with the model. A killed
run resumes from its last checkpoint and ends with the same weights.
"""

import sys

if __name__ == "__main__":  # before the libraries, whose import takes seconds
    from train.launch import interrupt

    interrupt.catch()

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from trl import DPOConfig as TrlDpoConfig
from trl import DPOTrainer

from train.tuning.config import DpoConfig
from train.tuning.model import lora_config
from train.tuning.pairs import ordered_pairs, write_pairs
from train.tuning.run import Rows, Tuning
from train.tuning.run import main as tuning_main
from train.tuning.run import run as run_tuning


class PairTrainer(DPOTrainer):
    """DPOTrainer for pairs that are tokenised already, in a given order.

    Log-probabilities under the reference are computed for each pair once, however many epochs read it.
    """

    def __init__(self, *args: Any, order: np.ndarray | None, **kwargs: Any) -> None:
        self.order = order
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Dataset, tokenizer: Any, args: Any, name: str) -> Dataset:
        return dataset.select(self.order) if name == "train" and not args.precompute_ref_log_probs else dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        dataset = super()._precompute_ref_logps(dataset, name, batch_size)
        return dataset.select(self.order) if name == "train" else dataset

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card with every checkpoint: hub_cards writes it from the finished run."""


class Dpo(Tuning):
    """Pairs; the answers' log-probabilities against those of the model as it was."""

    config: DpoConfig
    config_type = DpoConfig

    def data(self) -> dict[str, Path]:
        return {"pairs": self.config.pairs}

    def rows(self, work: Path, tokenizer: Path) -> Rows:
        config, file = self.config, work / "rows.arrow"
        summary = self.write(config.pairs, file, tokenizer)
        pairs, order, step_tokens, evaluation = ordered_pairs(config, file)
        if config.evaluation is not None and config.evaluation.file is not None:
            file = work / "evaluation.arrow"
            self.write(config.evaluation.file, file, tokenizer)
            evaluation = Dataset.from_file(str(file))
        return Rows(
            pairs,
            len(order),
            summary["counts"],
            stop_ids=summary["stop_ids"],
            step_tokens=step_tokens,
            evaluation=evaluation,
            order=order.ravel(),
        )

    def write(self, pairs: Path, out: Path, tokenizer: Path) -> dict[str, Any]:
        config = self.config
        return write_pairs(
            pairs,
            out,
            tokenizer=tokenizer,
            max_length=config.max_length,
            over_long=config.over_long,
            workers=config.workers,
        )

    def trainer(self, arguments: dict[str, Any], model: Any, tokenizer: Any, rows: Rows) -> Any:
        config = self.config
        own = {"max_length": None, "beta": config.beta, "precompute_ref_log_probs": config.reference == "before"}
        return PairTrainer(
            model=model,
            args=TrlDpoConfig(**own, **arguments),
            train_dataset=rows.train,
            eval_dataset=rows.evaluation,
            processing_class=tokenizer,
            peft_config=lora_config(config),
            order=rows.order,
        )


def run(config: DpoConfig) -> Path:
    """Tune with `config`, resuming where an interrupted run stopped; returns the finished folder."""
    return run_tuning(Dpo(config))


def main(arguments: Sequence[str] | None = None) -> int:
    return tuning_main(Dpo, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
