"""The warm-up of LESS: adapters trained on a part of the candidates, kept after each epoch with Adam's moments."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from data_recipes.errors import first_line
from data_recipes.manifest import whole_folder
from data_recipes.ordering import permutation, seed_of
from train.errors import TrainError
from train.selection.config import SelectConfig
from train.selection.gradients import Moments, summed_mean_losses
from train.selection.rows import BLOCK, padded
from train.tuning.model import load_model, snapshot

ADAPTER, MEAN, SQUARE, STATE = "adapter.safetensors", "mean.safetensors", "square.safetensors", "state.json"


@dataclass(frozen=True)
class Epoch:
    """A checkpoint of the warm-up; `lr` is the mean rate of its epoch, which weighs it (LESS, equation 1)."""

    adapter: dict[str, torch.Tensor]
    moments: Moments
    lr: float


def adapted_model(config: SelectConfig, device: torch.device) -> Any:
    """The model with new adapters, seeded; only these have gradients."""
    model = load_model(config.dtype, snapshot(config.model, "model", needs="config.json"), config.attention)
    lora = config.adapters
    torch.manual_seed(seed_of("adapters", config.seed) % 2**63)
    try:
        adapted = get_peft_model(
            model,
            LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=lora.target_modules,
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        raise TrainError(f"adapters.target_modules {lora.target_modules}: {first_line(error)}") from error
    return adapted.to(device)


def trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def warm_up(config: SelectConfig, candidates: Path, count: int, out: Path, pad_id: int, device: torch.device) -> None:
    """Train, leaving `out/epoch-1`, `epoch-2`, ...; an epoch that is there is not trained again."""
    settings = config.warm_up
    rows = sample_of(candidates, count, max(1, round(settings.share * count)), config.seed)
    steps = max(1, math.ceil(len(rows) / settings.batch_size))
    total = steps * settings.epochs
    model = adapted_model(config, device)
    parameters = trained(model)
    optimizer = torch.optim.AdamW(
        parameters.values(),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    done = sum(1 for number in range(1, settings.epochs + 1) if (out / f"epoch-{number}").is_dir())
    if done:
        epoch = load_epoch(out / f"epoch-{done}", config, device)
        for name, parameter in parameters.items():
            parameter.data.copy_(epoch.adapter[name])
            optimizer.state[parameter] = {
                "step": torch.tensor(float(epoch.moments.step)),
                "exp_avg": epoch.moments.mean[name].clone(),
                "exp_avg_sq": epoch.moments.square[name].clone(),
            }
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(desc="warm-up", total=total, initial=done * steps, unit="step", disable=None) as bar:
        for number in range(done, settings.epochs):
            # Dropout's draws are those of the epoch, whether or not the run was stopped before it.
            torch.manual_seed(seed_of("dropout", config.seed, number) % 2**63)
            order = permutation(len(rows), seed_of("warm-up", config.seed, number))
            rates = []
            model.train()
            for step in range(steps):
                batch = [rows[place] for place in order[step * settings.batch_size : (step + 1) * settings.batch_size]]
                rates.append(rate_at(number * steps + step, total, settings.warmup_ratio) * settings.lr)
                for group in optimizer.param_groups:
                    group["lr"] = rates[-1]
                for first in range(0, len(batch), config.micro_batch_size):
                    part = padded(batch[first : first + config.micro_batch_size], pad_id, device)
                    (summed_mean_losses(model, part) / len(batch)).backward()
                if settings.clip is not None:
                    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), settings.clip)
                    if not torch.isfinite(norm):
                        raise TrainError(
                            f"warm-up: the gradients are not finite at step {bar.n + 1}; lower warm_up.lr."
                        )
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                bar.update()
            save_epoch(out / f"epoch-{number + 1}", parameters, optimizer, sum(rates) / len(rates))


def rate_at(step: int, total: int, warmup_ratio: float) -> float:
    """Linear up, then linear down to zero after the last step."""
    warm = math.ceil(warmup_ratio * total)
    return (step + 1) / warm if step < warm else (total - step) / max(1, total - warm)


def sample_of(candidates: Path, count: int, wanted: int, seed: int) -> list[dict[str, Any]]:
    """So many rows of the candidates, drawn without repetition."""
    chosen = sorted(permutation(count, seed_of("warm-up sample", seed))[:wanted].tolist())
    rows: list[dict[str, Any]] = []
    for block in sorted({place // BLOCK for place in chosen}):
        table = pq.read_table(candidates / f"{block:05d}.parquet")
        rows += table.take([place % BLOCK for place in chosen if place // BLOCK == block]).to_pylist()
    return rows


def save_epoch(folder: Path, parameters: dict[str, torch.Tensor], optimizer: Any, lr: float) -> None:
    states = {name: optimizer.state[parameter] for name, parameter in parameters.items()}
    step = int(next(iter(states.values()))["step"])
    with whole_folder(folder) as partial:
        save_file({name: value.detach().contiguous() for name, value in parameters.items()}, partial / ADAPTER)
        for file, key in ((MEAN, "exp_avg"), (SQUARE, "exp_avg_sq")):
            save_file({name: state[key].contiguous() for name, state in states.items()}, partial / file)
        (partial / STATE).write_text(json.dumps({"step": step, "lr": lr}))


def load_epoch(folder: Path, config: SelectConfig, device: torch.device) -> Epoch:
    state = json.loads((folder / STATE).read_text())
    adapter, mean, square = (load_file(folder / file, device=str(device)) for file in (ADAPTER, MEAN, SQUARE))
    return Epoch(adapter, Moments(mean, square, state["step"], config.warm_up.betas, config.warm_up.eps), state["lr"])
