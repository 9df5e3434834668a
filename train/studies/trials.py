"""A trial: one short training through train/pretrain.py with some keys of a base config changed, kept in a folder.

A study is a set of trials. A trial that is done is not run again, so a study that was stopped resumes where it was.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import AutoTokenizer

from data_recipes.errors import nearest
from data_recipes.recipes.phases import phase_folder
from data_recipes.recipes.yaml_schema import validate
from data_recipes.rows.reader import PackedRows
from train import pretrain
from train.config import PretrainConfig
from train.config_file import changed_settings, resolved, settings_text
from train.errors import TrainError
from train.model_setup.build import build_model
from train.model_setup.parameter_groups import parameter_groups
from train.run.log import RunLog

# The columns of Table 3, and YuLan-Mini's with the two factors that its coordinate check asks for: under WeSaR an
# update of W~ acts through alpha ~ 1/sqrt(m_width), so 1/sqrt(m_width) is left for the rate; and a tied head whose
# rate does not fall with the width needs 1/m_width on the logits.
PARAMETRIZATIONS: Mapping[str, dict[str, Any]] = {
    "standard": {"name": "standard"},
    "minicpm": {"name": "minicpm"},
    "cerebras-gpt": {"name": "cerebras-gpt"},
    "yulanmini": {"name": "yulanmini"},
    "yulanmini-corrected": {
        "name": "yulanmini",
        "overrides": {"matrix_lr": "1/sqrt(m_width)", "logits_scale": "1/m_width"},
    },
}


@dataclass(frozen=True)
class Inputs:
    """What every trial of a study trains on."""

    tokenizer: Path
    data: Path

    def check(self) -> None:
        """TrainError where one of them is missing."""
        for folder in (self.tokenizer, self.data):
            if not (folder / "manifest.json").is_file():
                raise TrainError(
                    f"{folder.parent}: no {folder.name}. Expected a folder made by `yulanmini reproduce`; `yulanmini "
                    f"reproduce --scale tiny --out {folder.parent}` makes it (the first three stages are enough)."
                )
        self.first_phase()

    def first_phase(self) -> PackedRows:
        """The rows of phase 1."""
        return PackedRows(self.data / phase_folder("1"))


@dataclass(frozen=True)
class Trial:
    """What came of a training: the lines of its metrics.jsonl, and whether it came to its last step."""

    records: list[dict[str, Any]]
    finished: bool

    @property
    def losses(self) -> list[float | None]:
        """Training loss of each step; None where it was not finite."""
        return [record.get("loss") for record in self.records]

    def final_loss(self, steps: int) -> float | None:
        """Mean loss of the last `steps` steps, None for a training that did not come to its end."""
        last = [loss for loss in self.losses[-steps:] if loss is not None]
        return fmean(last) if self.finished and len(last) == steps else None


def parametrization_changes(name: str) -> dict[str, Any]:
    """Dotted keys that choose one of `PARAMETRIZATIONS`; TrainError for an unknown name."""
    if name not in PARAMETRIZATIONS:
        raise TrainError(f"no parametrization '{name}'.{nearest(name, PARAMETRIZATIONS)}")
    return {f"parametrization.{key}": value for key, value in PARAMETRIZATIONS[name].items()}


def settings_of(base: Path, inputs: Inputs, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base config as plain values, with the tokenizer and data of `inputs` and `changes` (dotted keys) applied.

    Raises TrainError where one of the inputs is missing.
    """
    inputs.check()
    own = {"tokenizer": str(inputs.tokenizer), "data.dir": str(inputs.data), "device": "cpu"}
    return changed_settings(base, {**own, **changes})


def first_state(
    base: Path, inputs: Inputs, changes: Mapping[str, Any]
) -> tuple[PretrainConfig, Any, torch.optim.Optimizer]:
    """Config, model and optimizer as a trial begins with them, at `optimizer.lr`, in this process on the CPU."""
    config = validate(PretrainConfig, settings_of(base, inputs, {"output_dir": ".", **changes}), where=str(base))
    vocab_size = len(AutoTokenizer.from_pretrained(config.tokenizer))
    model, parametrization = build_model(config, vocab_size=vocab_size, device=torch.device("cpu"))
    groups = parameter_groups(model, lr_factor=parametrization.lr_factor, settings=config.optimizer)
    for group in groups:
        group["lr"] = config.optimizer.lr * group["lr_factor"]
    settings = config.optimizer
    return config, model, torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps, fused=True)


def run_trial(folder: Path, settings: dict[str, Any]) -> Trial:
    """Train with `settings` in `folder`, or return what is there from the same settings.

    Raises TrainError when the training could not begin, KeyboardInterrupt when it was stopped.
    """
    config, log, done = folder / "trial.yaml", RunLog(folder / "run" / "metrics.jsonl"), folder / "done.json"
    settings = settings | {"output_dir": str(folder / "run")}
    text = settings_text(resolved(validate(PretrainConfig, settings, where=str(config)), folder))
    if folder.exists() and (not config.is_file() or config.read_text() != text):
        shutil.rmtree(folder)
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(text)
        code = pretrain.main([str(config)])
        if code >= 128:
            raise KeyboardInterrupt
        diverged = any(record.get("loss") is None for record in log.lines())
        if code != 0 and not diverged:
            raise TrainError(f"{config}: the training did not run (its message is above). Correct the base config.")
        for leftover in ("checkpoints", "models"):
            shutil.rmtree(folder / "run" / leftover, ignore_errors=True)
        done.write_text(json.dumps({"finished": code == 0}) + "\n")
    return Trial(log.lines(), bool(json.loads(done.read_text())["finished"]))
