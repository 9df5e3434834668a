"""`yulanmini hub`: cards, offline checks, and publishing."""

from pathlib import Path
from typing import Annotated

import typer

from yulanmini.commands.hub_publish import RepoTypeOption, publish
from yulanmini.console import AsJson, DryRun, emit_json, emit_records, new_group, say
from yulanmini.run_layout import MERGED, ON_POLICY, card_files

app = new_group()
app.command(epilog="Example: yulanmini hub publish hub/me/tiny --repo-id me/tiny --private --dry-run")(publish)


@app.callback()
def hub() -> None:
    """Write cards from a run's own figures, check repos without a network, publish them."""


@app.command(epilog="Example: yulanmini hub card runs/tiny --model instruct --repo-id me/tiny > README.md")
def card(
    run: Annotated[Path, typer.Argument(help=f"Run folder of `yulanmini reproduce`, or its {MERGED} or {ON_POLICY}.")],
    model: Annotated[str | None, typer.Option(help="base or instruct; not needed for a stage's folder.")] = None,
    repo_id: Annotated[str, typer.Option(help="Repo id of the base model; links are derived from it.")] = (
        "your-name/yulanmini"
    ),
    licence: Annotated[str, typer.Option(help="Licence of the weights, as the Hub spells it.")] = "mit",
    as_json: AsJson = False,
) -> None:
    """Print a model card whose every number is read from the run."""
    from hub_cards.cards.model_card import card_of

    text, figures = card_of(card_files(run), model, repo_id, licence=licence)
    if as_json:
        emit_json({"card": text, "provenance": figures.provenance()})
    else:
        print(text, end="")


@app.command(epilog="Example: yulanmini hub layout runs/tiny hub --repo-id me/tiny")
def layout(
    run: Annotated[Path, typer.Argument(help="Run folder of `yulanmini reproduce`.")],
    out: Annotated[Path, typer.Argument(help="Where the repos go, as NAMESPACE/REPO folders.")],
    repo_id: Annotated[str, typer.Option(help="NAMESPACE/NAME of the base model's repo.")],
    licence: Annotated[str, typer.Option(help="Licence of the weights, as the Hub spells it.")] = "mit",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Lay a finished run out as Hub repos: checkpoints by phase, base, instruct, data."""
    from hub_cards.layout.run_repos import LaidOut, check_layout, publish_local
    from hub_cards.repos.names import Names

    names = Names.parse(repo_id)
    if dry_run:
        repos = [LaidOut(out / name, False, []) for name in check_layout(card_files(run), out, names, licence=licence)]
    else:
        repos = publish_local(card_files(run), out, namespace=names.namespace, name=names.name, licence=licence)
    if as_json:
        shown = [{"folder": str(repo.folder), "written": repo.written, "edited": repo.edited} for repo in repos]
        emit_json({"repos": shown})
        return
    for repo in repos:
        if repo.written or dry_run:
            say(f"{'would write' if dry_run else 'wrote'} {repo.folder}")
        else:
            edited = f", edited since: {', '.join(repo.edited[:5])}" if repo.edited else ""
            say(f"kept {repo.folder}: laid out from this run before{edited}. Remove it to have it written anew")


@app.command(epilog="Example: yulanmini hub check hub/me/tiny-instruct --run runs/tiny")
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of one repo.")],
    run: Annotated[Path | None, typer.Option(help="The run it came from: look every number on the card up again.")] = (
        None
    ),
    repo_type: RepoTypeOption = None,
    as_json: AsJson = False,
) -> None:
    """Check card, scores, weights and files of a repo without a network; exit 2 when there is an error."""
    from hub_cards.checks.check import check_repo

    findings = check_repo(folder, repo_type=repo_type, run=card_files(run) if run else None)
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        emit_json({"errors": errors, "findings": [vars(finding) for finding in findings]})
    elif findings:
        emit_records(["=severity", "where=place", "what=message"], findings)
    else:
        say(f"{folder}: no problems found")
    if errors:
        raise typer.Exit(2)
