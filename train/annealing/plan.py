"""From a checkpoint and data to the config of an annealing run: rate, tail, RoPE base, context, warm-up, moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_recipes.errors import DataError
from data_recipes.recipes.yaml_schema import validate
from train.annealing.start import Start
from train.config import PretrainConfig
from train.config_file import apply_override, changed_settings, configs
from train.curriculum.plan import Curriculum, PhaseRows, make_curriculum
from train.errors import TrainError

CONFIG, PUBLISHED = "anneal-yulanmini-2.4b", "yulanmini-2.4b"
# Fresh moments know nothing of the gradients' sizes: a few horizons of AdamW's second moment (20 steps at 0.95), and
# never more than a tenth of the run.
FRESH_WARMUP, FRESH_WARMUP_SHARE = 100, 0.1
# Where no GPU is seen, unless `device=cuda` is asked for: what is prepared may be trained elsewhere.
ON_CPU = {"device": "auto", "precision": "float32", "compile": False, "attention": "auto"}


@dataclass(frozen=True)
class Wishes:
    """What the user asked for; None: what follows from the checkpoint and the data."""

    steps: int | None = None
    tokens: int | None = None
    lr: float | None = None
    floor: float | None = None
    warmup_steps: int | None = None
    rope_theta: float | None = None
    tokens_per_step: int | None = None
    settings: Sequence[str] = ()


@dataclass(frozen=True)
class AnnealingRun:
    """The run's config, its steps, and what a reader should know of how they came about."""

    config: PretrainConfig
    curriculum: Curriculum
    steps: int
    facts: dict[str, Any]


def plan_run(
    start: Start, rows: PhaseRows, wishes: Wishes, *, data: Path, run: Path, states: Path | None
) -> AnnealingRun:
    """The run that anneals `start` on `rows`, a phase built below `data`, into `run`; `states`: where the moments are.

    TrainError for wishes that contradict each other or the data.
    """
    if wishes.steps is not None and wishes.tokens is not None:
        raise TrainError("--steps and --tokens both say how long the run is; give one of them.")
    published = changed_settings(configs()[PUBLISHED], {})
    theta, theta_source = rope_base(start, rows.context_length, published["stages"])
    sections = start.sections
    values = changed_settings(
        configs()[CONFIG],
        {
            "output_dir": str(run),
            "tokenizer": str(start.tokenizer),
            "data": {"dir": str(data), "phases": [rows.name]},
            "tokens_per_step": wishes.tokens_per_step or sections.get("tokens_per_step", published["tokens_per_step"]),
            "init": {"path": str(states or start.path), "optimizer": states is not None},
            "model": start.model,
            "parametrization": sections.get("parametrization", {}),
            "optimizer": {**sections.get("optimizer", {}), "lr": start.rate if wishes.lr is None else wishes.lr},
            "schedule.annealing.start": rows.name,
            "stages.0.phases": [rows.name],
            "stages.0.rope_theta": wishes.rope_theta or theta,
            "export": {"phase_ends": True},
        }
        | ({} if wishes.floor is None else {"schedule.annealing.floor": wishes.floor})
        | ({} if torch.cuda.is_available() or "device=cuda" in wishes.settings else ON_CPU),
    )
    for change in wishes.settings:
        apply_override(values, change)
    total = _curriculum(values, rows).total_steps
    steps = wishes.steps or total
    if wishes.tokens is not None:
        steps = wishes.tokens // values["tokens_per_step"]
        if steps == 0:
            raise TrainError(f"--tokens {wishes.tokens:,}: less than one step of {values['tokens_per_step']:,} tokens.")
    if steps > total:
        raise TrainError(
            f"{steps:,} steps of {values['tokens_per_step']:,} tokens are asked for, but the data of '{rows.name}' is "
            f"enough for {total:,}. Give fewer, or build more data."
        )
    warmup = wishes.warmup_steps
    if warmup is None:
        warmup = 0 if states is not None else min(FRESH_WARMUP, int(FRESH_WARMUP_SHARE * steps))
    values["schedule"] |= {"warmup_steps": warmup}
    values["schedule"]["annealing"]["steps"] = values["schedule"]["annealing"].get("steps") or steps
    values["max_steps"] = values.get("max_steps") or steps
    curriculum, config = _curriculum(values, rows), _config(values)
    last = curriculum.at(steps - 1).lr
    facts = {
        "checkpoint": str(start.path),
        "step": start.step,
        "rate": config.optimizer.lr,
        "rate_from": start.rate_source if wishes.lr is None else "--lr",
        "last_rate": last,
        "warmup_steps": warmup,
        "moments": "of the checkpoint" if states is not None else "fresh",
        "rope_theta": config.stages[0].rope_theta,
        "rope_theta_from": theta_source if wishes.rope_theta is None else "--rope-theta",
        "rope_theta_of_its_config": float(start.config.rope_parameters["rope_theta"]),  # type: ignore[index]
        "context_length": rows.context_length,
        "steps": steps,
        "tokens": steps * config.tokens_per_step,
    }
    return AnnealingRun(config, curriculum, steps, facts)


def rope_base(start: Start, context: int, stages: Sequence[dict[str, Any]]) -> tuple[float, str]:
    """The base that the stage at this context has: a run's own, else that of the published stage this long.

    A published config names the base of the stage to come, so at 4K it would turn what the weights have learnt.
    """
    if start.is_run:
        return float(start.config.rope_parameters["rope_theta"]), "the run"  # type: ignore[index]
    stage = next((stage for stage in stages if stage["context_length"] >= context), stages[-1])
    return float(stage["rope_theta"]), f"the published stage at context {stage['context_length']:,}"


def _config(values: dict[str, Any]) -> PretrainConfig:
    try:
        return validate(PretrainConfig, values, where="train anneal")
    except DataError as error:
        raise TrainError(str(error)) from error


def _curriculum(values: dict[str, Any], rows: PhaseRows) -> Curriculum:
    return make_curriculum(_config(values), [rows])
