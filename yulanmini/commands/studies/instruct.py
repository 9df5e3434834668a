"""`yulanmini train instruct-study`: what each stage of the instruct variant brings, over seeds."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from yulanmini.console import AsJson, DryRun, emit_result, emit_table, say

KIND = "instruct-study"


def instruct_study(
    run: Annotated[Path, typer.Option(help="Folder of `yulanmini reproduce`, with a merged model.")] = Path(
        "runs/tiny"
    ),
    out: Annotated[Path, typer.Option(help="Folder for results and models; a stopped study goes on in it.")] = Path(
        "studies/instruct"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How many times the stages are run.")] = 3,
    longer: Annotated[float, typer.Option(min=0.01, help="Times as many passes in each stage as in a run.")] = 1.0,
    per_kind: Annotated[
        int | None, typer.Option(min=4, help="Unseen problems of each kind of level 1, a quarter of harder ones.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Answers to each problem at temperature 1.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Run SFT, DPO and on-policy from several seeds: does each raise what it aims at, and are harder problems above
    chance? All unseen problems unless --per-kind says fewer."""
    from data_recipes.files import write_whole
    from data_recipes.manifest import claim_folder, folder_state
    from yulanmini.reproduce.instruct_study import Study
    from yulanmini.reproduce.instruct_study import instruct_study as study_of

    study = Study(run, out, range(seeds), longer, per_kind, samples, threads)
    made_from = {"run": study.check(), "longer": longer, "per_kind": per_kind, "samples": samples}
    (folder_state if dry_run else claim_folder)(out, kind=KIND, made_from=made_from)
    if dry_run:
        say(f"would run SFT, DPO and on-policy from {seeds} seeds, and write to {out}")
        return
    result = study_of(study, say=say)
    path = out / "instruct-study.json"
    write_whole(path, json.dumps(result, indent=1) + "\n")
    emit_result(f"Wrote {path}", result, as_json)
    if not as_json:
        emit_table(["", "chance", *next(iter(result["levels"].values()))["models"]], rows(result))


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Right answers by level and measure, and what each stage changed."""
    shown = []
    for level, found in result["levels"].items():
        for measure in ("greedy", "sampled"):
            shares = [shares_of(model[measure]) for model in found["models"].values()]
            shown.append([f"level {level}, {measure}", f"{found['chance']:.1%}", *shares])
            changes = [f"{low:+.1%} to {high:+.1%}" for _, low, high in (s[measure] for s in found["stages"].values())]
            shown.append(["  changed by", "", "", *changes])
    return shown


def shares_of(interval: tuple[float, float, float]) -> str:
    mean, low, high = interval
    return f"{mean:.1%} ({low:.1%} to {high:.1%})"
