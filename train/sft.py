"""Instruction tuning: `yulanmini train sft CONFIG [--set key=value ...]`, or `accelerate launch train/sft.py CONFIG`.

Reads a model (merged Llama or yulanmini), a tokenizer with a chat template and a file of dialogues; leaves one folder
with the tuned model. A killed run resumes from its last checkpoint and ends with the same weights.
"""

import sys

if __name__ == "__main__":  # before the libraries, whose import takes seconds
    from train.launch import interrupt

    interrupt.catch()

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig as TrlSftConfig

from train.tuning.config import SftConfig
from train.tuning.data import ordered_rows, write_rows
from train.tuning.loss import DialogueTrainer
from train.tuning.model import lora_config
from train.tuning.pretraining_rows import open_phases
from train.tuning.run import Rows, Tuning
from train.tuning.run import main as tuning_main
from train.tuning.run import run as run_tuning


class Sft(Tuning):
    """Dialogues; loss on the assistant's words and the token that ends its turn."""

    config: SftConfig
    config_type = SftConfig

    @property
    def pads(self) -> bool:
        """On a CPU one document after the other costs more than padding, unless rows are packed to one length."""
        return self.config.packing == "none" and not torch.cuda.is_available()

    def data(self) -> dict[str, Path]:
        return {"dialogues": self.config.dialogues}

    def more_inputs(self, tokenizer: Path) -> dict[str, str]:
        settings = self.config.pretraining
        phases = open_phases(settings, tokenizer) if settings else []
        return {f"pretraining/{phase.folder.name}": phase.fingerprint for phase in phases}

    def rows(self, work: Path, tokenizer: Path) -> Rows:
        config, file = self.config, work / "rows.arrow"
        summary = self.write(config.dialogues, file, tokenizer, pretraining=config.pretraining)
        rows, step_tokens, evaluation = ordered_rows(config, file)
        if config.evaluation is not None and config.evaluation.file is not None:
            file = work / "evaluation.arrow"
            self.write(config.evaluation.file, file, tokenizer)
            evaluation = Dataset.from_file(str(file))
        return Rows(rows, len(step_tokens), summary["counts"], summary["stop_ids"], step_tokens, evaluation)

    def write(self, dialogues: Path, out: Path, tokenizer: Path, **more: Any) -> dict[str, Any]:
        config = self.config
        return write_rows(
            dialogues,
            out,
            tokenizer=tokenizer,
            max_length=config.max_length,
            over_long=config.over_long,
            workers=config.workers,
            **more,
        )

    def trainer(self, arguments: dict[str, Any], model: Any, tokenizer: Any, rows: Rows) -> Any:
        own = {"max_length": None, "shuffle_dataset": False, "padding_free": not self.pads}
        return DialogueTrainer(
            model=model,
            args=TrlSftConfig(**own, **arguments),
            train_dataset=rows.train,
            eval_dataset=rows.evaluation,
            processing_class=tokenizer,
            peft_config=lora_config(self.config),
            z_loss=self.config.z_loss,
        )


def run(config: SftConfig) -> Path:
    """Tune with `config`, resuming where an interrupted run stopped; returns the finished folder."""
    return run_tuning(Sft(config))


def main(arguments: Sequence[str] | None = None) -> int:
    return tuning_main(Sft, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
