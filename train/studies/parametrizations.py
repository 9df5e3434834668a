"""Which parametrization learns most for the same compute, each at its own best rate?

Rates are chosen on some seeds (`search_rates`) and judged on others, which have other initialisations and other rows.
All columns of a width have the same shapes, rows and matrix products. What learnable scales cost besides is measured,
and the columns that have them are trained once more with as many steps as fit into the time of the others.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from data_recipes.files import one_at_a_time, sha256_once, write_whole
from data_recipes.manifest import read_manifest
from data_recipes.recipes.yaml_schema import validate
from modeling_yulanmini.counts import count_parameters, training_flops_per_token
from train.config import PretrainConfig
from train.config_file import changed_settings
from train.errors import TrainError
from train.studies.intervals import Interval, change_of, mean_of, rounded
from train.studies.lr_transfer import BASE, Sweep, search_rates, tail_of, training_at, width_settings
from train.studies.stability import relative_step_times
from train.studies.trials import Inputs, Job, Trial, first_state, parametrization_changes

STUDY = "parametrizations"
STANDARD = "standard"
# Each column beside the one that it adds a measure to: the rows of Figure 6, then the two factors put right.
ADDED = (
    ("cerebras-gpt", STANDARD),
    ("depth-mup", "cerebras-gpt"),
    ("yulanmini", "depth-mup"),
    ("yulanmini-corrected", "yulanmini"),
)
FIGURES = ("heldout", "training")
PHASES = 25
BYTES_PER_DOMAIN = 5_000
TIMED_BLOCKS = 8
DIGITS = 6


@dataclass(frozen=True)
class Plan:
    """What is trained: `choosing` seeds find the rates, from the rows of phase 1; `judging` others compare."""

    columns: Sequence[str]
    widths: Sequence[int]
    steps: int = 100
    choosing: int = 3
    judging: int = 8
    timed_steps: int = 80

    def check(self) -> None:
        """TrainError for what cannot be compared."""
        for column in self.columns:
            parametrization_changes(column)
        for width in self.widths:
            width_settings(width)
        if STANDARD not in self.columns:
            raise TrainError(f"--columns: '{STANDARD}' is missing, which the others are compared with.")
        if self.choosing < 2 or self.judging < 2:
            raise TrainError("--choosing-seeds and --seeds: intervals need at least 2.")

    def judged(self, column: str, width: int, rate: float, steps: int) -> list[dict[str, Any]]:
        """The trainings that a cell is made of: seeds that no rate was chosen on, each on the rows of another phase."""
        cell = {"column": column, "width": width, "rate": rate, "steps": steps}
        return [
            {**cell, "seed": self.choosing + at, "phase": 2 + at % (PHASES - 1), "tail": tail_of(steps)}
            for at in range(self.judging)
        ]


def forecast(inputs: Inputs, plan: Plan, base: Path = BASE) -> str:
    """What the study will train, for a dry run. Hours: six rates to a search, and what a core of 2 of a small
    machine did when this was written, 130 GFLOP/s and a second around each training."""
    cells, tokens = len(plan.columns) * len(plan.widths), plan.steps * _config(base).tokens_per_step
    shapes = [_model_config(base, inputs, width, STANDARD) for width in plan.widths]
    seconds = sum(tokens * _flops(shape) / 130e9 + 1 for shape in shapes)
    hours = len(plan.columns) * (6 * plan.choosing + 1.5 * plan.judging) * seconds / 3600
    return (
        f"search the best rates of {cells} models with about {6 * cells * plan.choosing} trainings of {plan.steps} "
        f"steps, and compare them by {cells * plan.judging} more, some again where a step takes longer (about "
        f"{hours:.1f} hours of a core)"
    )


def parametrization_study(
    inputs: Inputs,
    heldout: Path,
    out: Path,
    plan: Plan,
    *,
    run: Callable[[Sequence[Job]], list[Trial]],
    base: Path = BASE,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Choose rates, time steps, train and compare; trials in `out`. Returns the result that the command writes."""
    plan.check()
    sweeps = search_rates(
        inputs,
        out / "choosing",
        widths=plan.widths,
        columns=plan.columns,
        steps=plan.steps,
        seeds=plan.choosing,
        run=run,
        base=base,
        say=say,
    )
    rates = {(c, s.width): float(f"{2**s.best_exponent:.{DIGITS}g}") for c, of in sweeps.items() for s in of}
    times = scale_times(inputs, out, plan, base=base, say=say)
    scales = {cell: count_parameters(_model_config(base, inputs, cell[1], cell[0]))["scales"] for cell in rates}
    steps = {cell: steps_in_time(plan.steps, times[cell[1]]) if scales[cell] else plan.steps for cell in rates}
    wanted = {
        name_of(training): training
        for (column, width), rate in rates.items()
        for count in {plan.steps, steps[column, width]}
        for training in plan.judged(column, width, rate, count)
    }
    done = run([judged_job(inputs, heldout, out, training, base=base) for training in wanted.values()])
    trials = {
        name: {**training, **figures_of(trial, training)}
        for (name, training), trial in zip(wanted.items(), done, strict=True)
    }
    widths = {}
    for width in plan.widths:
        cells = {
            column: {
                "rate": rates[column, width],
                **_chosen(next(sweep for sweep in sweeps[column] if sweep.width == width)),
                "scales": scales[column, width],
                "steps_in_equal_time": steps[column, width],
            }
            for column in plan.columns
        }
        shape = _model_config(base, inputs, width, STANDARD)
        widths[str(width)] = {
            "parameters": count_parameters(shape)["total"],
            "flops": _flops(shape) * plan.steps * _config(base).tokens_per_step,
            "time_with_scales": times[width].as_json(),
            "columns": cells,
            "equal_steps": compare(trials, width, dict.fromkeys(plan.columns, plan.steps)),
            "equal_time": compare(trials, width, {column: steps[column, width] for column in plan.columns}),
        }
    settings = _settings(plan, base, inputs, heldout)
    return rounded(
        {"study": STUDY, "settings": settings, "widths": widths, "findings": findings(widths), "trials": trials}
    )


def _settings(plan: Plan, base: Path, inputs: Inputs, heldout: Path) -> dict[str, Any]:
    """Everything that was chosen."""
    config = _config(base)
    return {
        **asdict(plan),
        "choosing_seeds": list(range(plan.choosing)),
        "judging_seeds": list(range(plan.choosing, plan.choosing + plan.judging)),
        "tokens_per_step": config.tokens_per_step,
        "tokens": config.tokens_per_step * plan.steps,
        "layers": _model_config(base, inputs, plan.widths[0], STANDARD).num_hidden_layers,
        "base_width": config.parametrization.base_width,
        "warmup_steps": config.schedule.warmup_steps,
        "final_loss_over": tail_of(plan.steps),
        "heldout_bytes_per_domain": BYTES_PER_DOMAIN,
        "heldout_domains": [path.stem for path in sorted(heldout.glob("*.jsonl"))],
        "made_from": made_from(inputs, heldout),
    }


def scale_times(
    inputs: Inputs, out: Path, plan: Plan, *, base: Path, say: Callable[[str], None]
) -> dict[int, Interval]:
    """By width, the time of a step with WeSaR's scales over one without; kept in `out`, where a resumed study finds it.

    The other columns do the same operations as the standard one, with other constants.
    """
    kept, asked = out / "step-times.json", {**asdict(plan), "made_from": made_from(inputs)}
    with one_at_a_time(out / ".step-times.lock"):
        # Not there, or damaged: measured anew.
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            found = json.loads(kept.read_text())
            if found["asked"] == json.loads(json.dumps(asked)):
                return {int(width): Interval(**interval) for width, interval in found["times"].items()}
        say("timing steps with and without scales, in turn")
        times = {width: _measured_time(inputs, width, plan.timed_steps, base) for width in plan.widths}
        listed = {width: asdict(interval) for width, interval in times.items()}
        write_whole(kept, json.dumps({"asked": asked, "times": listed}) + "\n")
        return times


def _measured_time(inputs: Inputs, width: int, steps: int, base: Path) -> Interval:
    """Processor time on one core, which other work on the machine hardly lengthens."""
    rows = {
        column: {**width_settings(width), **parametrization_changes(column)} for column in ("depth-mup", "yulanmini")
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ratios = relative_step_times(inputs, base, steps, rows, clock=time.process_time)
    torch.set_num_threads(threads)
    return typical_of(ratios["yulanmini"])


def typical_of(ratios: Sequence[float]) -> Interval:
    """The mean of the medians of `TIMED_BLOCKS` stretches: a pause of the machine within one does not count."""
    size = max(len(ratios) // TIMED_BLOCKS, 1)
    return mean_of([median(ratios[at : at + size]) for at in range(0, len(ratios) - size + 1, size)])


def steps_in_time(steps: int, step_time: Interval) -> int:
    """How many steps fit into the time of `steps` that take 1; as many, where the times are not told apart."""
    if step_time.low <= 1 <= step_time.high:
        return steps
    return max(round(steps / step_time.value), 1)


def name_of(training: Mapping[str, Any]) -> str:
    return "{column}-{width}-{steps}steps-seed{seed}".format(**training)


def judged_job(inputs: Inputs, heldout: Path, out: Path, training: Mapping[str, Any], *, base: Path = BASE) -> Job:
    """One training that is judged, by the loss on held-out text after its last step too."""
    if missing := {"column", "width", "rate", "steps", "seed", "phase", "tail"} - set(training):
        raise TrainError(f"a trial without {', '.join(sorted(missing))}: not one of the {STUDY} study.")
    settings = training_at(base, inputs, training, phases=f"{training['phase']}-{PHASES}")
    settings["heldout"] = {
        "dir": str(heldout),
        "bytes_per_domain": BYTES_PER_DOMAIN,
        "every_steps": training["steps"],
    }
    texts = made_from(inputs, heldout)["heldout"]
    return Job(out / "judging" / name_of(training), settings, after=heldout_losses, made_from={"heldout": texts})


def heldout_losses(run: Path) -> dict[str, float]:
    """Loss of each domain of held-out text after the last step."""
    lines = [json.loads(line) for line in (run / "heldout.jsonl").read_text().splitlines()]
    last = max(line["step"] for line in lines)
    return {line["domain"]: line["loss"] for line in lines if line["step"] == last}


def figures_of(trial: Trial, training: Mapping[str, Any]) -> dict[str, Any]:
    """What a training ended with; None where it broke down."""
    loss = trial.final_loss(training["tail"])
    return {
        "heldout": None if loss is None else fmean(trial.found.values()),
        "training": loss,
        "domains": None if loss is None else trial.found,
    }


def made_from(inputs: Inputs, heldout: Path | None = None) -> dict[str, Any]:
    """Fingerprints of the tokenizer, the rows and the held-out text."""
    found: dict[str, Any] = {
        "tokenizer": sha256_once(inputs.tokenizer / "tokenizer.json")[:16],
        "data": read_manifest(inputs.data)["fingerprint"],
    }
    if heldout is not None:
        files = sorted(heldout.glob("*.jsonl"))
        if not files:
            raise TrainError(
                f"{heldout}: no <domain>.jsonl of held-out text. `yulanmini reproduce` makes such a folder."
            )
        found["heldout"] = {path.stem: sha256_once(path)[:16] for path in files}
    return found


def compare(trials: Mapping[str, Mapping[str, Any]], width: int, steps: Mapping[str, int]) -> dict[str, Any]:
    """Losses of the columns of a width after the given steps, and their differences within the seeds.

    A seed in which any column broke down is left out for all; TrainError where fewer than 2 remain.
    """
    of = {
        (column, trial["seed"]): trial
        for trial in trials.values()
        for column in steps
        if (trial["column"], trial["width"], trial["steps"]) == (column, width, steps[column])
    }
    seeds = sorted({seed for _, seed in of})
    broken = {c: sum(of[c, seed]["heldout"] is None for seed in seeds) for c in steps}
    whole = [seed for seed in seeds if all(of[column, seed]["heldout"] is not None for column in steps)]
    if len(whole) < 2:
        raise TrainError(
            f"width {width}: of {len(seeds)} seeds {len(whole)} came through under every parametrization (broken down: "
            f"{broken}). Give more --choosing-seeds, so that no rate is chosen that breaks down."
        )
    compared: dict[str, Any] = {"seeds": whole, "broken_down": broken}
    for figure in FIGURES:
        losses = {column: [of[column, seed][figure] for seed in whole] for column in steps}
        compared[figure] = {
            "loss": {column: mean_of(values).as_json() for column, values in losses.items()},
            "over_standard": {
                column: change_of(values, losses[STANDARD]).as_json()
                for column, values in losses.items()
                if column != STANDARD
            },
            "added": {
                column: change_of(losses[column], losses[before]).as_json()
                for column, before in ADDED
                if column in losses and before in losses
            },
            "order": sorted(losses, key=lambda column: fmean(losses[column])),
            "pairs": {
                f"{one} - {other}": change_of(losses[one], losses[other]).as_json()
                for one, other in combinations(losses, 2)
            },
        }
    return compared


def findings(widths: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What holds over all widths, by each comparison and figure."""
    return {
        kind: {figure: _over_widths([width[kind][figure] for width in widths.values()]) for figure in FIGURES}
        for kind in ("equal_steps", "equal_time")
    }


def _over_widths(of_widths: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Best column, pairs that are told apart in opposite directions, and how often each measure helped."""
    verdicts = {
        pair: [Interval(**found["pairs"][pair]).verdict for found in of_widths] for pair in of_widths[0]["pairs"]
    }
    return {
        "best": [found["order"][0] for found in of_widths],
        "same_order": len({tuple(found["order"]) for found in of_widths}) == 1,
        "turned_round": [pair for pair, seen in verdicts.items() if {"below", "above"} <= set(seen)],
        "added": {
            column: {
                verdict: sum(Interval(**found["added"][column]).verdict == verdict for found in of_widths)
                for verdict in ("below", "above", "not told apart")
            }
            for column in of_widths[0]["added"]
        },
    }


def _chosen(sweep: Sweep) -> dict[str, Any]:
    return {
        "rate_interval": sweep.interval,
        "bracketed": sweep.bracketed,
        "rates_tried": {
            f"{2**exponent:.{DIGITS}g}": [loss if math.isfinite(loss) else None for loss in losses]
            for exponent, losses in sorted(sweep.losses.items())
        },
    }


def _config(base: Path) -> PretrainConfig:
    return validate(PretrainConfig, changed_settings(base, {}), where=str(base))


def _model_config(base: Path, inputs: Inputs, width: int, column: str) -> Any:
    return first_state(base, inputs, {**width_settings(width), **parametrization_changes(column)})[1].config


def _flops(shape: Any) -> float:
    """Of all matrix products, forward and backward, for a token."""
    return training_flops_per_token(shape, shape.max_position_embeddings)["causal"]
