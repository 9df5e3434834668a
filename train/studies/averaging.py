"""Is the mean of the last checkpoints better than the last one, and does it take the place of annealing?

The models are those that the annealing study has kept: the last ones at the constant rate, and those of the annealed
tail. The means are asked what the study's own models were asked.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_recipes.errors import nearest
from data_recipes.files import one_at_a_time, write_whole
from data_recipes.manifest import fingerprint_of, read_manifest, verify_files
from modeling_yulanmini.averaging import average
from train.errors import TrainError
from train.studies.annealing import HELD, PUBLISHED, PUBLISHED_TAIL, Score, trial_name
from train.studies.annealing_results import Values, changes, figures_of, means, values_of
from train.studies.intervals import rounded

KIND = "averaging-study"
ANNEALED = f"{PUBLISHED}-{PUBLISHED_TAIL}"
SERIES = {"stable": HELD, "annealed": ANNEALED}
"""Whose last models are averaged: the annealing study's cell, by the name that it has here."""
RESULT = "annealing.json"
COUNTS = (2, 4, 8, 16)
SHARED = ("steps", "tokens", "model", "rate", "published", "scores", "problems", "domains")
"""Settings that are the annealing study's."""


@dataclass(frozen=True)
class Averages:
    """`annealing`: the folder of a finished annealing study; `score`: the same as there."""

    annealing: Path
    out: Path
    score: Score
    seeds: int
    counts: Sequence[int] = COUNTS

    @cached_property
    def source(self) -> dict[str, Any]:
        """The annealing study's result."""
        return read_result(self.annealing / RESULT)

    def check(self) -> None:
        """TrainError where the annealing study has not kept what is to be averaged."""
        if min(self.counts) < 2:
            raise TrainError(f"--counts {min(self.counts)}: the mean of fewer than two checkpoints is none.")
        if self.seeds > self.source["settings"]["seeds"]:
            raise TrainError(f"--seeds {self.seeds}: {self.annealing} has {self.source['settings']['seeds']}.")
        theirs, ours = self.source["settings"]["scores"], self.score.settings
        if theirs != ours:
            other = ", ".join(key for key in ours if theirs.get(key) != ours[key])
            raise TrainError(
                f"{self.annealing}: its models were scored with another {other} than here. Give the run that it was "
                "made from with --run."
            )
        for seed in range(self.seeds):
            for cell in SERIES.values():
                self._check_trial(trial_name(seed, cell))

    def _check_trial(self, name: str) -> None:
        """Whether a trial is the one in the result, and its models are there."""
        folder = self.annealing / "trials" / name
        done = folder / "done.json"
        found = json.loads(done.read_text())["found"] if done.is_file() else None
        if found is None or rounded(figures_of(found)) != self.source["trials"].get(name):
            raise TrainError(
                f"{folder}: not the trial that {RESULT} there is made from. Give the annealing study again, to its end."
            )
        kept, wanted = len(models_of(folder)), max(self.counts)
        if kept < wanted:
            raise TrainError(
                f"{folder}: {kept} models kept, {wanted} are to be averaged. Average fewer (--counts), or remove this "
                "folder and give the annealing study again."
            )

    def models(self, seed: int, series: str) -> list[Path]:
        """The models kept of a trial, in the order of training; the last one is the trial's end."""
        return models_of(self.annealing / "trials" / trial_name(seed, SERIES[series]))

    @property
    def names(self) -> list[str]:
        """All means, by seed, series and how many."""
        return [
            trial_name(seed, f"{series}-{count}")
            for seed in range(self.seeds)
            for series in SERIES
            for count in self.counts
        ]

    def run(self, name: str) -> dict[str, Any]:
        """Average and score, or what was found before of the same models."""
        seed, series, count = self._parts(name)
        models = self.models(seed, series)[-count:]
        prints = [read_manifest(model)["fingerprint"] for model in models]
        made_from = fingerprint_of({"models": prints, "scores": self.score.settings})
        path = self.out / "means" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(path.parent / f".{path.name}.lock"):
            kept = json.loads(path.read_text()) if path.is_file() else {}
            if kept.get("made_from") != made_from:
                if damaged := [problem for model in models for problem in verify_files(model)]:
                    raise TrainError(damaged[0])
                with tempfile.TemporaryDirectory(dir=path.parent) as place:
                    average(models, Path(place) / "mean")
                    kept = {"made_from": made_from, "found": self.score(Path(place) / "mean")}
                write_whole(path, json.dumps(kept) + "\n")
            return kept["found"]

    def _parts(self, name: str) -> tuple[int, str, int]:
        if name not in self.names:
            raise TrainError(f"no mean '{name}'.{nearest(name, self.names)}")
        seed, rest = name.removeprefix("seed-").split("/")
        series, count = rest.rsplit("-", 1)
        return int(seed), series, int(count)


def models_of(trial: Path) -> list[Path]:
    return sorted(trial.glob("run/models/step-*"))


def read_result(path: Path) -> dict[str, Any]:
    """The result of an annealing study; TrainError where there is none."""
    try:
        result = json.loads(path.read_text())
        if result["study"] != "annealing":
            raise ValueError(f"it is of the study '{result['study']}'")
        _ = [result["settings"][key] for key in ("seeds", "steps")], result["settings"]["scores"]["context"]
    except OSError as error:
        raise TrainError(
            f"{path}: cannot be read ({error.strerror}). Expected the folder of a finished `yulanmini train "
            "annealing-study`."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise TrainError(f"{path}: not the result of an annealing study ({error}).") from error
    return result


def averaging_result(study: Averages, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds of each series and count, and their changes from the last model and from annealing."""
    trials = study.source["trials"]

    def trial(seed: int, series: str, count: int) -> Mapping[str, Any]:
        if count == 1:
            return trials[trial_name(seed, SERIES[series])]
        return found[trial_name(seed, f"{series}-{count}")]

    def of(series: str, count: int) -> Values:
        return values_of([trial(seed, series, count) for seed in range(study.seeds)])

    settings = study.source["settings"]
    annealed, longest = of("annealed", 1), settings["tails"][-1]
    long = values_of([trials[trial_name(seed, f"{PUBLISHED}-{longest}")] for seed in range(study.seeds)])
    return rounded(
        {
            "study": "averaging",
            "settings": {
                **{
                    key: settings[key]
                    for key in ("steps", "tokens", "model", "rate", "published", "scores", "problems", "domains")
                },
                "seeds": study.seeds,
                "counts": list(study.counts),
                "spacing": {series: spacing_of(study.models(0, series)) for series in SERIES},
                "tail_steps": settings["tail_steps"][str(PUBLISHED_TAIL)],
                "kept": len(study.models(0, "stable")),
                "longest": {"tail": longest, "steps": settings["tail_steps"][str(longest)]},
            },
            "series": {
                series: {
                    str(count): {
                        "mean": means(of(series, count)),
                        "against_last": changes(of(series, count), of(series, 1)),
                        "against_annealed": changes(of(series, count), annealed),
                        "against_longest": changes(of(series, count), long),
                    }
                    for count in (1, *study.counts)
                }
                for series in SERIES
            },
            "trials": {name: figures_of(one) for name, one in found.items()},
        }
    )


def spacing_of(models: Sequence[Path]) -> int:
    """Steps between two of the last models that are averaged."""
    steps = [int(model.name.removeprefix("step-")) for model in models]
    return steps[-1] - steps[-2]


def average_all(study: Averages, names: Sequence[str], *, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """What was found of each of these means."""
    found = {}
    for number, name in enumerate(names, 1):
        found[name] = study.run(name)
        say(f"{number} of {len(names)}: {name}")
    return found
