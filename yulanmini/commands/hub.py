"""`yulanmini hub`: cards, offline checks, and publishing."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from yulanmini.commands.hub_publish import RepoTypeOption, publish, publish_run, rehearse
from yulanmini.console import AsJson, DryRun, emit_json, emit_records, new_group, say
from yulanmini.run_layout import HUB, card_files, run_of_reproduce

INSTRUCT_ENDING = "-instruct"

app = new_group()
app.command(epilog="Example: yulanmini hub publish hub/me/tiny --repo-id me/tiny --private --dry-run")(publish)
app.command("publish-run", epilog="Example: yulanmini hub publish-run runs/tiny --org me --private --dry-run")(
    publish_run
)
app.command(epilog="Example: yulanmini hub rehearse runs/tiny")(rehearse)


@app.callback()
def hub() -> None:
    """Write cards from a run's own figures, check repos without a network, publish them."""


@app.command(epilog="Example: yulanmini hub card hub/me/tiny-instruct --write")
def card(
    folder: Annotated[Path, typer.Argument(help="Folder of one repo, or a run of `yulanmini reproduce`.")],
    write: Annotated[bool, typer.Option("--write", help="Write README.md and provenance.json anew.")] = False,
    model: Annotated[Literal["base", "instruct"] | None, typer.Option(help="Which model, of a run.")] = None,
    repo_id: Annotated[str, typer.Option(help="NAMESPACE/NAME of the base model, of a run.")] = "your-name/yulanmini",
    as_json: AsJson = False,
) -> None:
    """Print a repo's card as the files in its provenance/ give it, with the owner's own words; or one made of a run."""
    from hub_cards.cards.card import card_of_run, render_again, write_again
    from hub_cards.cards.settings import settings_of_run
    from hub_cards.errors import HubError
    from hub_cards.repos.names import Names

    if model is None:
        text, provenance = write_again(folder) if write else render_again(folder)
    elif write:
        raise HubError("--write is for the folder of a repo; `yulanmini hub layout` makes repos of a run.")
    else:
        text, provenance = card_of_run(card_files(folder), settings_of_run(model, Names.parse(repo_id)))
    if as_json:
        emit_json({"card": text, "provenance": provenance})
    elif write:
        say(f"wrote {folder / 'README.md'}")
    else:
        print(text, end="")


@app.command(
    epilog="Example: yulanmini hub layout runs/tiny hub --repo-id me/tiny    "
    "or one model: yulanmini hub layout merged hub --repo-id me/merged"
)
def layout(
    source: Annotated[
        Path,
        typer.Argument(help="A run, a model folder, built phases, generated or cleaned text."),
    ],
    out: Annotated[Path, typer.Argument(help="Where the repos go, as NAMESPACE/REPO folders.")],
    repo_id: Annotated[str, typer.Option(help="NAMESPACE/NAME; of a run of reproduce, of its base model.")],
    licence: Annotated[
        str | None, typer.Option(help="As the Hub spells it; by default it follows from the data, where that is known.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the card, instead of the repo's name.")] = None,
    optimizer: Annotated[
        list[str] | None,
        typer.Option(help="A phase whose optimizer state goes along; those of 20 and 25 do where they are there."),
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Of built phases: where it is now, if it moved.")] = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Lay out as Hub repos what a command has left: checkpoints by phase, models, data sets."""
    from hub_cards.layout.sources import lay_out, would_lay_out

    what = run_of_reproduce(source) or source
    asked = {"licence": licence, "title": title, "optimizer": optimizer, "tokenizer": tokenizer}
    if dry_run:
        plan = would_lay_out(what, out, repo_id=repo_id, **asked)
        if as_json:
            emit_json({"repos": [{"folder": str(folder), "state": state} for folder, state in plan]})
        for folder, state in plan if not as_json else ():
            say(f"would {'keep' if state == 'same' else 'write'} {folder}{' anew' if state == 'older' else ''}")
        return
    repos = lay_out(what, out, repo_id=repo_id, progress=True, **asked)
    if as_json:
        shown = [{"folder": str(repo.folder), "written": repo.written, "edited": repo.edited} for repo in repos]
        emit_json({"repos": shown})
        return
    for repo in repos:
        edited = f", edited since: {', '.join(repo.edited[:5])}" if repo.edited else ""
        say(f"wrote {repo.folder}" if repo.written else f"kept {repo.folder}: laid out from the same before{edited}")


@app.command(epilog="Example: yulanmini hub check hub/me/tiny-instruct --run runs/tiny")
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of one repo.")],
    run: Annotated[Path | None, typer.Option(help="The run it came from: look every number on the card up again.")] = (
        None
    ),
    repo_type: RepoTypeOption = None,
    skip_generation: Annotated[bool, typer.Option(help="Do not load the models and have them write.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check card, numbers, weights, rows and files of a repo without a network; exit 2 when there is an error."""
    from hub_cards.checks.check import run_checks

    report = run_checks(
        folder, repo_type=repo_type, run=card_files(run) if run else None, generate=not skip_generation, progress=True
    )
    if as_json:
        findings = [vars(finding) for finding in report.findings]
        emit_json({"errors": len(report.errors), "findings": findings, "seconds": report.seconds})
    elif report.findings:
        emit_records(["=severity", "where=place", "what=message"], report.findings)
    else:
        say(f"{folder}: no problems found")
    if report.errors:
        raise typer.Exit(2)


@app.command(epilog="Example: yulanmini hub space runs/tiny --out space")
def space(
    run: Annotated[Path, typer.Argument(help="Run folder of `yulanmini reproduce`.")],
    out: Annotated[Path, typer.Option(help="Where the Space's folder goes.")],
    model_id: Annotated[str | None, typer.Option(help=f"Repo id of its model; by default as in {HUB}.")] = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Write a gradio Space: a chat with the instruct model, and the report of the run."""
    from data_recipes.manifest import folder_state
    from hub_cards.checks.header import id_problems
    from hub_cards.errors import HubError
    from hub_cards.repos.folder import KIND
    from hub_cards.space.write import write_space

    files = card_files(run)
    files.check_finished()
    repo_id = model_id or instruct_id(run)
    for problem in id_problems(repo_id):
        raise HubError(f"--model-id: {problem}.")
    if dry_run:
        state = folder_state(out, kind=KIND)
        say(f"would write {out}: a Space for {repo_id}" if state == "new" else f"{out}: is there already")
    else:
        model = run / files.instruct
        write_space(out, run=run, model=model, model_id=repo_id, scores=run / files.scores_file(files.models[-1]))
        say(f"wrote {out}: a Space for {repo_id}. Try it: MODEL={model} python {out / 'app.py'} (needs gradio)")
    if as_json:
        emit_json({"folder": str(out), "model": repo_id, "written": not dry_run})


def instruct_id(run: Path) -> str:
    """The repo id that the run itself has chosen for its instruct model."""
    from hub_cards.errors import HubError

    found = sorted(path for path in (run / HUB).glob(f"*/*{INSTRUCT_ENDING}") if path.is_dir())
    if not found:
        raise HubError(f"{run / HUB}: no instruct model is laid out there. Say which one it is with --model-id.")
    return "/".join(found[0].parts[-2:])
