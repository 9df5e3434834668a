"""`yulanmini reproduce`: the whole life of the model in miniature."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, subcommand_metavar="")


@app.callback(
    invoke_without_command=True,
    epilog="Example: yulanmini reproduce --corpus ~/notes --out runs/mine",
)
def reproduce(
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command resumes there.")] = Path("runs/tiny"),
    scale: Annotated[str, typer.Option(help="tiny (minutes on a laptop) or smoke (seconds, for tests).")] = "tiny",
    corpus: Annotated[
        Path | None,
        typer.Option(help="Your own .txt .md .py .jsonl .parquet ... files instead of this machine's text."),
    ] = None,
    phases: Annotated[str, typer.Option(help="Which phases to train: 1-27, or the first few of them.")] = "1-27",
    seed: Annotated[int, typer.Option(help="Seeds data order, initialisation and generated problems.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; weights are reproducible for a fixed number.")] = 2,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print report.json when done: stages with their times, scores, all figures.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and show what is done and what is to do; run nothing.")
    ] = False,
) -> None:
    """The whole life of the model in miniature, on CPU, offline: recipe to report.

    Corpus, tokenizer, 28 packed mixes, 27 phases of pretraining with annealing, merge to Llama, SFT, DPO, on-policy
    training, scores, cards and Hub folders, then report.html. Interrupt it at any moment; the same command resumes.
    """
    import os

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded; see train/launch/launcher.py

    import json

    from yulanmini.console import emit_json, say
    from yulanmini.reproduce.driver import plan
    from yulanmini.reproduce.driver import reproduce as run_stages
    from yulanmini.reproduce.settings import load_settings, parse_phases
    from yulanmini.reproduce.stages import Run

    run = Run(
        out=out,
        scale=scale,
        settings=load_settings(scale),
        corpus=corpus,
        phases=parse_phases(phases),
        seed=seed,
        threads=threads,
    )
    if dry_run:
        stages = plan(run)
        for stage in stages:
            say(f"{stage['stage']:<12} {stage['status']:<6} {stage['summary']}")
        if as_json:
            emit_json({"run": str(out), "stages": stages})
        return
    run_stages(run)
    from yulanmini.report import write_report
    from yulanmini.reproduce.summary import closing

    _, data = write_report(out)
    report = json.loads(data.read_text())
    say(closing(report, out))
    if as_json:
        emit_json(report)
