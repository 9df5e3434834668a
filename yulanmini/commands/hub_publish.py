"""`yulanmini hub publish`: sending a repo to the Hub."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, say

RepoTypeOption = Annotated[
    Literal["model", "dataset"] | None, typer.Option(help="By default a folder with config.json is a model.")
]


def publish(
    folder: Annotated[Path, typer.Argument(help="Folder of one repo; its revisions/ become branches.")],
    repo_id: Annotated[str, typer.Option(help="NAMESPACE/NAME on the Hub.")],
    private: Annotated[bool, typer.Option(help="Make a new repo private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Send this branch only.")] = None,
    repo_type: RepoTypeOption = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Send a repo to the Hub, `main` and every revision; the same command resumes after a failure."""
    from hub_cards.publishing.upload import publish as publish_repo
    from hub_cards.publishing.upload import repo_url

    branches = publish_repo(folder, repo_id, repo_type=repo_type, private=private, revision=revision, dry_run=dry_run)
    if as_json:
        sent = [{"branch": item.name, "files": item.files, "bytes": item.size} for item in branches]
        emit_json({"repo_id": repo_id, "sent": not dry_run, "branches": sent})
        return
    title = f"{'would send' if dry_run else 'sent'} to {repo_id}"
    emit_records([f"{title}=name", "files", "bytes=size"], branches)
    if not dry_run:
        say(f"sent to {repo_url(folder, repo_id, repo_type)}")
