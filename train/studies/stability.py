"""Which rows of the report's Figure 6 keep a deep, narrow model stable, at which rate, and at what cost?

Every row is trained at several rates on the same rows of text; hidden-state variance, attention logits and gradient
norm are followed as in a real run. The steps are then timed side by side, one of each row in turn.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from train.config_file import CONFIGS
from train.errors import TrainError
from train.studies.trials import Inputs, Trial, first_state, run_trial, settings_of

BASE = CONFIGS / "proxy-deep.yaml"
LEARNING_RATES = (2e-3, 1.6e-2, 1.28e-1)
WEIGHT_DECAY = 0.1

# The rows in the report's order. Each but the second builds on the one before it (QK-LayerNorm is taken out again
# for its cost). `+ depth muP` is YuLan-Mini's column without the alphas: the same initial variances and rates.
FIGURE_6: Mapping[str, dict[str, Any]] = {
    "baseline": {"parametrization.name": "standard"},
    "QK-LayerNorm": {"parametrization.name": "standard", "model.qk_layernorm": True},
    "weight decay": {"parametrization.name": "standard", "optimizer.weight_decay": WEIGHT_DECAY},
    "+ muP": {"parametrization.name": "cerebras-gpt", "optimizer.weight_decay": WEIGHT_DECAY},
    "+ depth muP": {
        "parametrization.name": "yulanmini",
        "parametrization.overrides": {"wesar": False},
        "optimizer.weight_decay": WEIGHT_DECAY,
    },
    "+ WeSaR": {"parametrization.name": "yulanmini", "optimizer.weight_decay": WEIGHT_DECAY},
}

# A loss this far (nats) above the lowest that the same training had reached is a divergence; so is no finite loss.
DIVERGED_BY = 0.5
# Hidden states of the last layer with a variance above this at the end (a standard deviation of 100, where a calm run
# ends near 1) are exploding, whatever the loss is: pre-norm layers hide it for a while.
EXPLODED = 1e4
# A gradient norm this many times the median of the 32 steps before it is a spike.
SPIKE, SPIKE_WINDOW = 10.0, 32


def check_rates(rates: Sequence[float]) -> None:
    """TrainError for what is no learning rate."""
    for rate in rates:
        if not 0 < rate < math.inf:
            raise TrainError(f"learning rate {rate:g}: expected a number above 0, such as 0.002.")


def stability_study(
    inputs: Inputs,
    out: Path,
    *,
    steps: int,
    learning_rates: Sequence[float] = LEARNING_RATES,
    seeds: int = 1,
    timed_steps: int = 20,
    base: Path = BASE,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train every row at every rate on `inputs`, trials in `out`; time them.

    Returns, by row and rate, one entry for each of `seeds` initialisations: state (stable, spiking, exploding,
    diverged), losses, gradient norms, hidden-state variance by layer over the steps, largest attention logit; by row
    the time of a step relative to the baseline's.
    """
    rows: dict[str, Any] = {}
    for name, changes in FIGURE_6.items():
        rows[name] = {"runs": {}}
        for rate in learning_rates:
            found = rows[name]["runs"][f"{rate:g}"] = []
            for seed in range(seeds):
                changed = {**changes, "optimizer.lr": rate, "max_steps": steps, "seed": seed}
                folder = out / f"{_folder_name(name)}-lr{rate:g}-seed{seed}"
                figures = describe(run_trial(folder, settings_of(base, inputs, changed)), steps)
                found.append(figures)
                shown = "-" if figures["final_loss"] is None else f"{figures['final_loss']:.3f}"
                say(f"{name}, rate {rate:g}, seed {seed}: {figures['state']}, loss {shown}, spikes {figures['spikes']}")
    say("timing the rows side by side")
    for name, ratios in relative_step_times(inputs, base, timed_steps).items():
        rows[name]["step_time"] = median(ratios)
    return {"study": "stability", "steps": steps, "seeds": seeds, "rows": rows}


def describe(trial: Trial, steps: int) -> dict[str, Any]:
    """State, last values and curves of a trial; hidden-state variance of the last layer, largest attention logit."""
    window = max(steps // 10, 1)
    losses = [loss for loss in trial.losses if loss is not None]
    means = [sum(losses[at : at + window]) / window for at in range(len(losses) - window + 1)]
    norms = [record.get("grad_norm") for record in trial.records]
    spikes = count_spikes(norms)
    broke_down = not trial.finished or not means
    risen = math.inf if broke_down else means[-1] - min(means)
    measured = [record for record in trial.records if record.get("hidden_state_variance")]
    last = measured[-1]["hidden_state_variance"][-1] if measured else 0.0
    logits = [
        max((value for value in record["attention_logit_max"] if value is not None), default=None)
        for record in measured
    ]
    state = "spiking" if spikes else "stable"
    if last is None or last > EXPLODED:
        state = "exploding"
    return {
        "state": "diverged" if risen > DIVERGED_BY else state,
        "final_loss": None if broke_down else means[-1],
        "lowest_loss": min(means) if means else None,
        "spikes": spikes,
        "last_hidden_state_variance": last,
        "last_attention_logit": logits[-1] if logits else None,
        "curves": {
            "loss": trial.losses,
            "grad_norm": norms,
            "measured_at": [record["step"] for record in measured],
            "hidden_state_variance": [record["hidden_state_variance"] for record in measured],
            "norm_output_variance": [record.get("norm_output_variance") for record in measured],
            "attention_logit_max": logits,
        },
    }


def without_curves(result: Mapping[str, Any]) -> dict[str, Any]:
    """The study's result as a table: states and last values only."""
    rows = {
        name: {
            **row,
            "runs": {
                rate: [{key: value for key, value in run.items() if key != "curves"} for run in runs]
                for rate, runs in row["runs"].items()
            },
        }
        for name, row in result["rows"].items()
    }
    return {**result, "rows": rows}


def count_spikes(norms: Sequence[float | None]) -> int:
    """Steps whose gradient norm is not finite or `SPIKE` times the median of the `SPIKE_WINDOW` steps before."""
    found = 0
    for at, norm in enumerate(norms):
        before = [value for value in norms[max(at - SPIKE_WINDOW, 0) : at] if value is not None]
        if norm is None or (len(before) >= SPIKE_WINDOW // 2 and norm > SPIKE * median(before)):
            found += 1
    return found


def relative_step_times(
    inputs: Inputs,
    base: Path,
    steps: int,
    rows: Mapping[str, Mapping[str, Any]] = FIGURE_6,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """By row, the time of each of `steps` whole steps over that of the first row's beside it: the rows take turns, so
    that all see the same load of the machine."""
    prepared = {name: _step_function(base, inputs, changes) for name, changes in rows.items()}
    times: dict[str, list[float]] = {name: [] for name in prepared}
    for turn in range(steps + 2):
        for name, step in prepared.items():
            begin = clock()
            step()
            if turn >= 2:
                times[name].append(clock() - begin)
    first = next(iter(prepared))
    return {name: [a / b for a, b in zip(times[name], times[first], strict=True)] for name in prepared}


def _step_function(base: Path, inputs: Inputs, changes: Mapping[str, Any]) -> Callable[[], None]:
    config, model, optimizer = first_state(base, inputs, {"optimizer.lr": 1e-4, **changes})
    rows = inputs.first_phase()
    count = config.tokens_per_step // rows.context_length
    input_ids = torch.from_numpy(rows.rows(0, count).input_ids.astype("int64"))

    def step() -> None:
        model(input_ids=input_ids, labels=input_ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _folder_name(row: str) -> str:
    return row.lower().replace("+ ", "plus-").replace(" ", "-")
