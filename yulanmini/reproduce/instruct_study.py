"""Does each stage of the instruct variant raise what it aims at, and do the harder problems rise above chance?

SFT, DPO and on-policy of `yulanmini reproduce` are run again on its base model from several seeds, and asked many more
unseen problems than `reproduce` has time for: once greedily, and several times at temperature 1, which is what
on-policy training rewards. Intervals are 95 % of a bootstrap over seeds and over problems, which all models share.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.files import write_whole
from data_recipes.manifest import MANIFEST_NAME
from yulanmini.errors import RunError
from yulanmini.reproduce.settings import Settings, load_settings
from yulanmini.reproduce.stages import STAGES, Run
from yulanmini.run_layout import CORPUS, DATA, MERGED, MODELS, TOKENIZER

BASE_STAGES = (CORPUS, TOKENIZER, DATA, MERGED)
TUNING_STAGES = tuple(stage for stage in STAGES if stage.name in MODELS)
DRAWS = 2000
MEASURES = ("greedy", "sampled")
Interval = tuple[float, float, float]
"""A mean, and the ends of its interval."""


@dataclass(frozen=True)
class Study:
    """`longer`: how many times as many passes and steps as in `reproduce`; `samples` at temperature 1 of a problem."""

    run: Path
    out: Path
    seeds: Sequence[int]
    longer: float = 1.0
    per_kind: int | None = None
    samples: int = 4
    threads: int = 1

    def check(self) -> dict[str, Any]:
        """What the run was made with; RunError where it lacks a base model to start from."""
        for folder in BASE_STAGES:
            if not (self.run / folder / MANIFEST_NAME).is_file():
                raise RunError(
                    f"{self.run}: no finished {folder}. Expected a run of `yulanmini reproduce` with a merged model."
                )
        return json.loads((self.run / "claim.json").read_text())["made_from"]


def instruct_study(study: Study, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Run what is still to be run, and compare; a stopped study goes on where it was."""
    made_from = study.check()
    settings = load_settings(made_from["scale"])
    settings = settings.model_copy(update=longer_settings(settings, study.longer))
    for seed in study.seeds:
        folder = study.out / f"seed-{seed}"
        folder.mkdir(exist_ok=True)
        for name in BASE_STAGES:
            if not (folder / name).is_symlink():
                os.symlink((study.run / name).resolve(), folder / name)
        phases = list(range(1, int(made_from["phases"].partition("-")[2]) + 1))
        run = Run(folder, made_from["scale"], settings, None, phases, seed, study.threads)
        for stage in TUNING_STAGES:
            if not (folder / stage.folder / MANIFEST_NAME).is_file():
                say(f"seed {seed}: {stage.name}")
                stage.run(run)
        for model, (name, _) in MODELS.items():
            path = folder / f"{model}.json"
            if not path.is_file():
                say(f"seed {seed}: scoring {model}")
                write_whole(path, json.dumps(scored(study, folder / name, settings.context_lengths)) + "\n")
    results = {
        seed: {model: json.loads((study.out / f"seed-{seed}" / f"{model}.json").read_text()) for model in MODELS}
        for seed in study.seeds
    }
    return {
        "made_from": made_from,
        "seeds": list(study.seeds),
        "longer": study.longer,
        "samples": study.samples,
        "levels": {level: of_level(results, level) for level in (1, 2, 3)},
        "heldout": {
            domain: {model: [results[seed][model]["heldout"][domain] for seed in study.seeds] for model in MODELS}
            for domain in results[study.seeds[0]]["base"]["heldout"]
        },
    }


def longer_settings(settings: Settings, times: float) -> dict[str, Any]:
    """The scale's overrides of the three configs, with so many times as many passes and, where limited, steps."""
    from train.config_file import changed_settings, configs

    changed = {}
    for stage in ("sft", "dpo", "on_policy"):
        overrides = getattr(settings, f"{stage}_overrides")
        values = changed_settings(configs()[getattr(settings, f"{stage}_config")], overrides)
        longer: dict[str, Any] = {"epochs": values["epochs"] * times}
        if values.get("max_steps"):
            longer["max_steps"] = max(round(values["max_steps"] * times), 1)
        changed[f"{stage}_overrides"] = overrides | longer
    return changed


def scored(study: Study, model: Path, context_lengths: Mapping[int, int]) -> dict[str, Any]:
    """A model's answers to the unseen problems, and its bits per byte on the held-out text."""
    import torch

    from eval.generation import generate
    from eval.model_loading import load_model
    from eval.tasks.heldout import Heldout
    from eval.tasks.problems import MAX_NEW_TOKENS, MAX_NEW_TOKENS_WORKED, Problems, judged

    torch.set_num_threads(study.threads)
    loaded = load_model(model)
    is_base = model.name == MERGED
    task = Problems(prompt="question" if is_base else "chat", per_kind=study.per_kind)
    problems = task.read(study.run / CORPUS)
    greedy = task.answers(loaded, problems, progress=True)
    repeated = [problem for problem in problems for _ in range(study.samples)]
    drawn = generate(
        loaded,
        [task.prompt_ids(loaded, problem) for problem in repeated],
        max_new_tokens=[MAX_NEW_TOKENS.get(problem["level"], MAX_NEW_TOKENS_WORKED) for problem in repeated],
        temperature=1.0,
        stop_at_empty_line=is_base,
        progress=True,
    )
    right = np.reshape(judged(drawn, repeated), (len(problems), study.samples)).mean(axis=1)
    heldout = Heldout(context=min(context_lengths.values()), bytes_per_domain=10_000)
    rows = heldout.score(loaded, heldout.read(study.run / CORPUS)).rows
    return {
        "problems": [
            {
                **{key: problem[key] for key in ("kind", "level", "language", "chance")},
                "greedy": float(answer["correct"]),
                "sampled": float(share),
            }
            for problem, answer, share in zip(problems, greedy, right, strict=True)
        ],
        "heldout": {row["group"]: row["value"] for row in rows},
    }


def of_level(results: Mapping[int, Mapping[str, Any]], level: int) -> dict[str, Any]:
    """Each model's share of right answers with its interval, what each stage changed, and what is above chance."""
    tables = {
        measure: {
            model: np.array([[row[measure] for row in of(result[model], level)] for result in results.values()])
            for model in MODELS
        }
        for measure in MEASURES
    }
    rows = of(next(iter(results.values()))["base"], level)
    chance = np.array([row["chance"] for row in rows])
    names = list(MODELS)
    return {
        "problems": len(rows),
        "chance": float(chance.mean()),
        "models": {
            model: {measure: bootstrap(tables[measure][model]) for measure in MEASURES}
            | {"above_chance": bootstrap(tables["greedy"][model] - chance)}
            for model in names
        },
        "stages": {
            after: {measure: bootstrap(tables[measure][after] - tables[measure][before]) for measure in MEASURES}
            for before, after in pairwise(names)
        },
        "kinds_above_chance": {
            model: sorted(
                kind
                for kind in {row["kind"] for row in rows}
                for columns in [np.array([row["kind"] == kind for row in rows])]
                if bootstrap((tables["greedy"][model] - chance)[:, columns])[1] > 0
            )
            for model in names
        },
    }


def of(result: Mapping[str, Any], level: int) -> list[dict[str, Any]]:
    return [row for row in result["problems"] if row["level"] == level]


def bootstrap(values: np.ndarray, *, draws: int = DRAWS) -> Interval:
    """The mean of `values` [seeds, problems] and its 95 % interval when both are drawn again."""
    rng = np.random.default_rng(0)
    seeds, problems = values.shape
    # A draw's mean is a product of how often each seed and each problem was drawn.
    by_seed = rng.multinomial(seeds, [1 / seeds] * seeds, size=draws) / seeds
    by_problem = rng.multinomial(problems, [1 / problems] * problems, size=draws) / problems
    means = np.einsum("ds,sp,dp->d", by_seed, values, by_problem, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
