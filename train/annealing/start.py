"""What an annealing run starts from: a published model folder or a checkpoint of a run, looked at without its weights.

A published folder holds a model with its scales (`model_type` yulanmini or miniyulan), perhaps `trainer_state.json` of
the HF Trainer and, in `global_stepN_universal/`, DeepSpeed's optimizer states (facts.md 1.5). Its config is that of
the stage to come: what it says of the RoPE base does not tell what the weights were trained with.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_recipes.manifest import fingerprint_of
from data_recipes.tokens.tokenizer import load_tokenizer
from modeling_yulanmini import YuLanMiniConfig
from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, ModelFolder, read_config, read_json
from train.checkpoints.import_deepspeed import global_step, parameter_folder, read_tensor
from train.checkpoints.sharded import TRAINER_FILE, checkpoints_in, read_trainer
from train.checkpoints.training_state import is_training_state, last_rate, read_training_state
from train.config import OptimizerSettings, ParametrizationSettings
from train.errors import TrainError

STATE_FILE = "trainer_state.json"
SCALED_UP = 1e-3  # how closely a logged rate must be the published one over m_width to be taken for the matrices'


@dataclass(frozen=True)
class Start:
    """`rate` is the base rate at the checkpoint, known from `rate_source`; `is_run` a checkpoint of a run, or one that
    was published; `sections` a run's settings by section. `states`: the folder with optimizer states that are to be
    turned into a checkpoint: DeepSpeed's beside a model, or the published checkpoint itself."""

    path: Path
    config: YuLanMiniConfig
    tokenizer: Path
    step: int | None
    rate: float
    rate_source: str
    states: Path | None
    is_run: bool
    sections: dict[str, Any]
    fingerprint: str

    @property
    def has_states(self) -> bool:
        """Whether AdamW's moments can go on from where they were."""
        return self.is_run or self.states is not None

    @property
    def model(self) -> str | dict[str, Any]:
        """What the run's config says of the model."""
        if not self.is_run:
            return str(self.path)
        known = YuLanMiniConfig().to_dict()
        left_out = ("architectures", "auto_map", "transformers_version", "model_type", "dtype")
        return {key: value for key, value in self.config.to_dict().items() if key in known and key not in left_out}


def read_start(path: Path, *, optimizer: str = "auto", tokenizer: Path | None = None) -> Start:
    """Look at a checkpoint. `optimizer`: a folder with DeepSpeed's states, `auto` for what lies in the checkpoint, or
    `none` for fresh moments. `tokenizer`: of a folder that has none.

    TrainError or CheckpointError for a merged model, another tokenizer's embedding, states of another step.
    """
    if (path / TRAINER_FILE).is_file() or is_training_state(path):
        found = _of_run(path, tokenizer)
        if optimizer not in ("auto", "none"):
            raise TrainError(f"--optimizer {optimizer}: {path} is a checkpoint of a run and has states of its own.")
    elif (path / CONFIG_NAME).is_file():
        found = _of_folder(path, optimizer, tokenizer)
    else:
        inside = checkpoints_in(path) or sorted(path.glob("models/*/config.json"))
        hint = f" Did you mean {inside[-1].parent if inside[-1].is_file() else inside[-1]}?" if inside else ""
        raise TrainError(
            f"{path}: neither a model folder (no {CONFIG_NAME}) nor a checkpoint of a run (no {TRAINER_FILE}).{hint}"
        )
    vocabulary = load_tokenizer(found.tokenizer).vocab_size
    if vocabulary > found.config.vocab_size:
        raise TrainError(
            f"{found.tokenizer}: a tokenizer of {vocabulary:,} tokens, but the embedding of {path} has "
            f"{found.config.vocab_size:,}: it belongs to another model. Give the checkpoint's own with --tokenizer."
        )
    return found


def _of_run(path: Path, tokenizer: Path | None) -> Start:
    published = is_training_state(path)
    state = read_training_state(path, content=False) if published else {"trainer": read_trainer(path)}
    trainer = {"tokenizer": str(path), "files": state.get("files"), **state["trainer"]}
    identity = trainer.get("identity", {})
    sections = {
        key: value
        for key, value in identity.get("config", {}).items()
        if key in ("tokens_per_step", "parametrization", "optimizer")
    }
    rate, source = sections.get("optimizer", {}).get("lr", OptimizerSettings().lr), "the run's config"
    if published and (last := last_rate(state)) is not None:
        rate, source = last, "the optimizer's groups"
    elif (logged := _logged_rate(path.parent.parent / "metrics.jsonl", trainer["step"])) is not None:
        rate, source = logged, "the run's log"
    folder = tokenizer or Path(trainer["tokenizer"])
    theirs, ours = identity.get("tokenizer"), load_tokenizer(folder).fingerprint
    if theirs is not None and theirs != ours:
        raise TrainError(
            f"{folder}: not the tokenizer that {path} was trained with (fingerprint {ours[:12]}, trained with "
            f"{theirs[:12]}). Give that one with --tokenizer."
        )
    return Start(
        path=path,
        config=YuLanMiniConfig.from_dict(trainer["model_config"]),
        tokenizer=folder,
        step=trainer["step"],
        rate=rate,
        rate_source=source,
        states=path if published else None,
        is_run=True,
        sections=sections,
        fingerprint=fingerprint_of({key: trainer.get(key) for key in ("fingerprint", "step", "files")}),
    )


def _logged_rate(log: Path, step: int) -> float | None:
    """The rate of the last update before `step`, where the run's log is still there."""
    try:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return next(float(line["lr"]) for line in reversed(lines) if line["step"] == step)
    except (OSError, ValueError, KeyError, StopIteration):
        return None


def _of_folder(path: Path, optimizer: str, tokenizer: Path | None) -> Start:
    config = read_config(path / CONFIG_NAME)  # refuses a merged model
    folder = ModelFolder(path)
    state = read_json(path / STATE_FILE) if (path / STATE_FILE).is_file() else {}
    step = state.get("global_step")
    universal = _universal(path, optimizer, step)
    if universal is not None:
        theirs = global_step(universal)
        if step is not None and theirs != step:
            raise TrainError(
                f"{universal}: states of step {theirs:,}, but {path / STATE_FILE} says that the model is of step "
                f"{step:,}. Give those of that step with --optimizer, or --optimizer none for fresh moments."
            )
        _check_same_weights(folder, universal)
        step = theirs
    base_width = ParametrizationSettings().base_width
    if "dim_model_base_lr" in folder.config:
        base_width = round(folder.config["dim_model_base_lr"])
    rate, source = _rate_of(state, m_width=config.hidden_size / base_width)
    sizes = {file.name: file.stat().st_size for file in {tensor.file for tensor in folder.tensors.values()}}
    return Start(
        path=path,
        config=config,
        tokenizer=tokenizer or path,
        step=step,
        rate=rate,
        rate_source=source,
        states=universal,
        is_run=False,
        sections={"parametrization": {"base_width": base_width}},
        fingerprint=fingerprint_of({"config": folder.config, "files": sizes, "step": step}),
    )


def _rate_of(state: dict[str, Any], *, m_width: float) -> tuple[float, str]:
    """The base rate that the HF Trainer logged last, else the published one.

    It logs the rate of its first group, which may be the matrices': the published rate over m_width is taken for that.
    """
    published = OptimizerSettings().lr
    logged = [entry["learning_rate"] for entry in state.get("log_history", []) if "learning_rate" in entry]
    if not logged:
        return published, "the published rate"
    if math.isclose(logged[-1] * m_width, published, rel_tol=SCALED_UP):
        return published, f"{STATE_FILE}, the matrices' rate times m_width"
    return float(logged[-1]), STATE_FILE


def _universal(path: Path, optimizer: str, step: int | None) -> Path | None:
    """DeepSpeed's states: those asked for, or those of the model's step that lie in its folder."""
    if optimizer == "none":
        return None
    if optimizer != "auto":
        if not (Path(optimizer) / "zero").is_dir():
            raise TrainError(
                f"--optimizer {optimizer}: no zero/ in it; expected a DeepSpeed universal checkpoint, auto or none."
            )
        return Path(optimizer)
    found = sorted(folder for folder in path.glob("*_universal") if (folder / "zero").is_dir())
    if len(found) > 1:
        found = [folder for folder in found if folder.name == f"global_step{step}_universal"] or found
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise TrainError(f"{path}: holds several optimizer states ({names}). Name one with --optimizer.")
    return found[0] if found else None


def _check_same_weights(folder: ModelFolder, universal: Path) -> None:
    """TrainError where the states' master weights are not the model's, rounded: of another step, every one differs.

    Norms, biases and scales are compared, which is a few megabytes at full size.
    """
    for name, stored in folder.tensors.items():
        if len(stored.shape) > 1:
            continue
        inside = "model.lm_head_alpha" if name == "lm_head_alpha" else name
        file = parameter_folder(universal / "zero", inside) / "fp32.pt"
        shape = stored.shape or (1,)
        master, ours = read_tensor(file, shape), folder.read(name, dtype=torch.float32).reshape(shape)
        difference = (master - ours).abs() - 2 * torch.finfo(stored.dtype).eps * master.abs()
        if (difference > torch.finfo(torch.float32).tiny).any():
            raise TrainError(
                f"{file}: not the weights of {stored.file} ({name} differs by {(master - ours).abs().max():.2g}): "
                "optimizer states of another step. Give those of this one with --optimizer, or --optimizer none."
            )
