"""Send a checked repo folder to the Hub: `main`, then one branch for each folder of `revisions/`.

Running it again after a failure resumes: files that are on the Hub already are not sent twice. The token comes from
huggingface_hub (`hf auth login`, or HF_TOKEN), never from an argument or a file of ours.
"""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from data_recipes.errors import listed
from hub_cards.checks.check import RepoType, check_repo, repo_type_of
from hub_cards.checks.header import id_problems
from hub_cards.errors import HubError
from hub_cards.repos.files import repo_files
from hub_cards.repos.folder import REVISIONS


@dataclass(frozen=True)
class Branch:
    """One commit to make: the files of `folder` become the branch `name`."""

    name: str
    folder: Path
    files: int
    size: int


def repo_url(folder: Path, repo_id: str, repo_type: RepoType | None) -> str:
    """Where a browser finds the repo."""
    kind = repo_type or repo_type_of(folder)
    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"


def plan_branches(folder: Path, *, revision: str | None = None) -> list[Branch]:
    """What would be sent, `main` first; with `revision` only that branch (`main`, or a folder of `revisions/`)."""
    revisions = {path.name: path for path in sorted((folder / REVISIONS).glob("*")) if path.is_dir()}
    folders = {"main": folder, **revisions}
    if revision is not None:
        if revisions and revision not in folders:
            known = ", ".join(list(folders)[:4])
            raise HubError(f"--revision {revision}: no such revision in {folder}. Known: {known}, ...")
        # Without revisions it is a branch of the user's own naming.
        folders = {revision: folders.get(revision, folder)}
    branches = []
    for name, path in folders.items():
        files = [file for file in repo_files(path) if path != folder or file.relative_to(path).parts[0] != REVISIONS]
        branches.append(Branch(name, path, len(files), sum(file.stat().st_size for file in files)))
    return branches


def publish(
    folder: Path,
    repo_id: str,
    *,
    repo_type: RepoType | None = None,
    private: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
) -> list[Branch]:
    """Check `folder` and send it to `repo_id`, made if need be; returns the branches that were (or would be) sent.

    Raises HubError when the check finds an error, when there is no token, and when the Hub refuses.
    """
    folder = Path(folder)
    for problem in id_problems(repo_id):
        raise HubError(f"--repo-id: {problem}.")
    errors = [finding for finding in check_repo(folder, repo_type=repo_type) if finding.severity == "error"]
    if errors:
        found = listed([f"{error.place}: {error.message}" for error in errors])
        raise HubError(
            f"{folder}: not published, because the check found\n{found}\nSee `yulanmini hub check {folder}`."
        )
    kind = repo_type or repo_type_of(folder)
    branches = plan_branches(folder, revision=revision)
    if dry_run:
        return branches
    if get_token() is None:
        raise HubError("no access token; run `hf auth login`, or set HF_TOKEN.")
    api = HfApi()
    try:
        api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True)
        for item in branches:
            if item.name != "main":
                api.create_branch(repo_id, branch=item.name, repo_type=kind, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=item.folder,
                repo_type=kind,
                revision=item.name,
                commit_message=f"Upload {item.name} with yulanmini",
                ignore_patterns=[f"{REVISIONS}/**"],
            )
    except (HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())
        raise HubError(f"{repo_id}: the Hub refused ({reason}). The same command resumes the upload.") from error
    return branches
