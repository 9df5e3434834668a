"""`yulanmini train annealing-study` and `averaging-study`: what the tail and the mean of checkpoints bring."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from yulanmini.commands.studies.study_verbs import (
    Against,
    Inputs,
    Only,
    Out,
    Quick,
    TrialsAtOnce,
    finish,
    numbers,
    own,
    recorded,
    show_repeated,
    would,
)
from yulanmini.console import AsJson, DryRun, say
from yulanmini.run_layout import CORPUS, TOKENIZER

# Of held-out text and problems that each model is asked, in windows as long as a row.
BYTES_PER_DOMAIN, PROBLEMS_PER_KIND = 10_000, 60


def annealing_study(
    run: Inputs = Path("runs/tiny"),
    out: Out = Path("studies/annealing"),
    steps: Annotated[int, typer.Option(help="The budget of a training; tails are its last 4, 8 and 16 %.")] = 1_500,
    seeds: Annotated[int, typer.Option(min=1, help="Initialisations, each with its own order of documents.")] = 5,
    workers: TrialsAtOnce = 2,
    quick: Quick = False,
    only: Only = None,
    against: Against = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """End a training in every way from the same checkpoints: shape, length and floor of the tail, with more
    instructions in it or as before. --quick: 2 seeds, 50 steps, 2 shapes, 2 tails."""
    from train.errors import TrainError
    from train.studies.annealing import KIND, Study, train_cells, train_only
    from train.studies.averaging import read_result
    from yulanmini.model_scores import ModelScores

    own(out, KIND, dry_run=True)
    scores = ModelScores(run / CORPUS, 128, BYTES_PER_DOMAIN, PROBLEMS_PER_KIND)
    study = Study(run / CORPUS, run / TOKENIZER, out, scores, steps, seeds)
    if quick:
        study = replace(
            study,
            score=replace(scores, bytes_per_domain=2_000, per_kind=4),
            steps=50,
            seeds=2,
            shapes=("1-sqrt", "linear"),
            tails=(8, 16),
            floors=(0.1,),
        )
    study.check()
    result_file = against or out / "annealing.json"
    trials = None if only is None else recorded(result_file, "annealing", only)
    if trials is not None and (theirs := read_result(result_file)["settings"]["steps"]) != study.steps:
        raise TrainError(f"{result_file}: of {theirs} steps, not {study.steps}. Give --steps (or --quick) as there.")
    own(out, KIND, dry_run=dry_run)
    if dry_run:
        size, hours = f"{study.trials} times, {study.steps_to_train:,} steps in all", study.hours(workers)
        forecast = f"train {size}, in about {hours:.1f} hours"
        would(forecast if trials is None else f"train {', '.join(trials)} again", out)
        return
    from train.studies.annealing_plots import plot_annealing
    from train.studies.annealing_results import annealing_result, figures_of
    from train.studies.trials import Workers

    with Workers(workers) as pool:
        if trials is not None:
            found = train_only(study, list(trials), pool)
            show_repeated(trials, {name: figures_of(one) for name, one in found.items()}, as_json)
            return
        result = annealing_result(study, train_cells(study, pool, say=say))
    plot_annealing(result, out / "annealing.svg")
    shown = [[name, *measures(cell, "against_published")] for name, cell in result["cells"].items()]
    finish(result, out / "annealing.json", ["", "held-out loss", "less 1-sqrt-8's", "problems solved"], shown, as_json)


def averaging_study(
    annealing: Annotated[
        Path, typer.Option(help="Folder of a finished annealing study, whose models are averaged.")
    ] = Path("studies/annealing"),
    run: Inputs = Path("runs/tiny"),
    out: Out = Path("studies/averaging"),
    counts: Annotated[str, typer.Option(help="How many of the last checkpoints to average.")] = "2,4,8,16",
    seeds: Annotated[int | None, typer.Option(min=1, help="The first of its seeds.", show_default="all")] = None,
    quick: Quick = False,
    only: Only = None,
    against: Against = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Average the last checkpoints of the stable stage and of annealing: against the last one, and against annealing.
    --quick: 2 and 4 checkpoints."""
    from train.studies.averaging import KIND, RESULT, Averages, average_all, averaging_result, read_result
    from yulanmini.model_scores import ModelScores

    own(out, KIND, dry_run=True)
    wanted = [2, 4] if quick else numbers(counts, int)
    settings = read_result(annealing / RESULT)["settings"]
    scores = ModelScores(run / CORPUS, **{key: value for key, value in settings["scores"].items() if key != "corpus"})
    study = Averages(annealing, out, scores, seeds or settings["seeds"], wanted)
    study.check()
    trials = None if only is None else recorded(against or out / "averaging.json", "averaging", only)
    own(out, KIND, dry_run=dry_run)
    names = study.names if trials is None else list(trials)
    if dry_run:
        would(f"average and score {len(names)} times", out)
        return
    from train.studies.annealing_plots import plot_averaging
    from train.studies.annealing_results import figures_of

    found = average_all(study, names, say=say)
    if trials is not None:
        show_repeated(trials, {name: figures_of(one) for name, one in found.items()}, as_json)
        return
    result = averaging_result(study, found)
    plot_averaging(result, out / "averaging.svg")
    shown = [
        [f"{series}, {'the last' if count == '1' else f'mean of {count}'}", *measures(cell, "against_annealed")]
        for series, cells in result["series"].items()
        for count, cell in cells.items()
    ]
    finish(result, out / "averaging.json", ["", "held-out loss", "less annealing's", "problems solved"], shown, as_json)


def measures(cell: dict[str, Any], against: str) -> list[str]:
    """A row of the table on the terminal."""
    from train.studies.pages import between, change, share

    return [between(cell["mean"]["loss"], 3), change(cell[against]["loss"], 4), share(cell["mean"]["solved"])]
