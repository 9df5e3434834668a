"""`yulanmini hub publish`, `publish-run` and `rehearse`: sending repos to the Hub, or to one in this process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, say
from yulanmini.run_layout import HUB, card_files, run_of_reproduce

if TYPE_CHECKING:
    from hub_cards.publishing.plan import Plan
    from hub_cards.publishing.publish import Published
    from hub_cards.repos.folder import Repo

REHEARSED = "rehearsal"  # the namespace of the Hub in this process
PUBLISHED = "published"  # where in a run its repos are laid out under the names that they are published by

RepoTypeOption = Annotated[
    Literal["model", "dataset"] | None, typer.Option(help="By default a folder with config.json is a model.")
]
PrivateOption = Annotated[
    bool | None,
    typer.Option("--private/--public", help="Who may see it; an existing repo is changed. Neither: as it is."),
]
ForeignOption = Annotated[
    bool, typer.Option("--replace-foreign", help="Replace files that others put on its branches.")
]
NoDownloadOption = Annotated[
    bool, typer.Option("--no-download", help="Afterwards compare hashes only; by default all files are fetched again.")
]


def publish(
    folder: Annotated[
        Path, typer.Argument(help=f"A laid-out repo, or what `hub layout` makes one of (in {PUBLISHED}/ beside it).")
    ],
    repo_id: Annotated[str, typer.Option(help="NAMESPACE/NAME on the Hub.")],
    private: PrivateOption = None,
    revision: Annotated[str | None, typer.Option(help="Publish this branch only.")] = None,
    replace_foreign: ForeignOption = False,
    no_download: NoDownloadOption = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Check a repo and publish it, whole branches only, `main` last; given again after a failure it goes on."""
    from hub_cards.publishing.publish import Asked, check_asked, plan_publish
    from hub_cards.publishing.publish import publish as publish_repo

    asked = Asked(private, revision, replace_foreign, not no_download)
    with one_repo(folder, repo_id, keep=not dry_run) as repo:
        check_asked(repo, repo_id, asked)
        if dry_run:
            show_plans({repo_id: plan_publish(repo, repo_id, asked)}, as_json)
        else:
            show_published([publish_repo(repo, repo_id, asked)], as_json)


def publish_run(
    run: Annotated[Path, typer.Argument(help="Run folder of `yulanmini reproduce`.")],
    org: Annotated[str, typer.Option(help="Namespace on the Hub: an organization, or yourself.")],
    name: Annotated[str | None, typer.Option(help=f"Name of the base model's repo; by default as in {HUB}.")] = None,
    private: PrivateOption = None,
    replace_foreign: ForeignOption = False,
    no_download: NoDownloadOption = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Publish all repos of a run, and a collection of them: data, checkpoints by phase, models."""
    from hub_cards.publishing.publish import Asked, check_asked
    from hub_cards.publishing.several import plan_run
    from hub_cards.publishing.several import publish_run as publish_repos
    from hub_cards.repos.names import Names

    asked = Asked(private, None, replace_foreign, not no_download)
    names = Names.parse(f"{org}/{name or base_name(run)}")
    with laid_out(run, names, None if dry_run else run / PUBLISHED) as repos:
        for repo_id, repo in repos.items():
            check_asked(repo, repo_id, asked)
        if dry_run:
            show_plans(plan_run(repos, asked), as_json)
            return
        done = publish_repos(repos, asked, title=names.name)
    show_published(done.repos, as_json, collection=done.collection)


def rehearse(
    run: Annotated[Path, typer.Argument(help="Run folder of `yulanmini reproduce`.")],
    keep: Annotated[Path | None, typer.Option(help="Keep the repos that were published, laid out in this folder.")] = (
        None
    ),
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Publish a run to a Hub in this process and load it back by its ids; exit 2 where anything comes back otherwise.

    Nothing of your account is touched and no network is needed: a child process has a cache and a token of its own.
    """
    from dataclasses import asdict

    from data_recipes.errors import listed
    from hub_cards.errors import HubError
    from hub_cards.rehearsal.check import Check, summed
    from hub_cards.rehearsal.rehearse import planned
    from hub_cards.rehearsal.rehearse import rehearse as rehearse_repos
    from hub_cards.repos.names import Names

    with laid_out(run, Names.parse(f"{REHEARSED}/{base_name(run)}"), None if dry_run else keep) as repos:
        folders = {repo_id: repo.folder for repo_id, repo in repos.items()}
        if dry_run:
            tried = [{"repo": repo, "how": how, "what": what} for repo, how, what in planned(folders)]
            emit_json({"rehearsed": False, "checks": tried}) if as_json else emit_records(
                ["repo", "how", "what"], tried
            )
            return
        say(f"laid out and checked: {', '.join(repos)}")
        checks: list[Check] = list(rehearse_repos(folders, title=base_name(run)))
    wrong = [f"{check.repo}, {check.what}, {check.how}: {check.problem}" for check in checks if check.problem]
    if as_json:
        emit_json({"rehearsed": True, "right": not wrong, "checks": [asdict(check) for check in checks]})
    else:
        rows = [
            {**row, "compared": "; ".join(f"{unit}: {count:,}" for unit, count in row["compared"].items())}
            for row in summed(checks)
        ]
        emit_records(["repo", "how", "tried", "right", "compared", "seconds:.1f"], rows)
    if wrong:
        raise HubError(f"not everything comes back as it was laid out:\n{listed(wrong)}")


@contextmanager
def one_repo(folder: Path, repo_id: str, *, keep: bool) -> Iterator["Repo"]:
    """A laid-out repo where it lies; of anything else that one can be made of, that one, laid out beside it."""
    from data_recipes.errors import DataError
    from data_recipes.manifest import read_manifest
    from hub_cards.errors import HubError
    from hub_cards.layout.sources import lay_out
    from hub_cards.repos.folder import KIND

    try:
        is_laid_out = read_manifest(folder)["kind"] == KIND
    except (DataError, OSError):
        is_laid_out = False
    if is_laid_out:
        yield checked(folder)
        return
    if run_of_reproduce(folder) is not None:
        org = repo_id.partition("/")[0]
        raise HubError(f"{folder}: a run makes several repos: `yulanmini hub publish-run {folder} --org {org}`.")
    beside = folder.resolve().parent
    with laying_out(beside, beside / PUBLISHED if keep else None) as out:
        (made,) = lay_out(folder, out, repo_id=repo_id, progress=True)
        say(f"laid out {folder} as {made.folder}")
        yield checked(made.folder)


@contextmanager
def laying_out(beside: Path, keep: Path | None) -> Iterator[Path]:
    """Where repos are laid out: in `keep`, else in a folder that is gone again at the end, on the disk of `beside`."""
    import tempfile

    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix=f".{PUBLISHED}-", dir=beside) as out:
        yield Path(out)


def checked(folder: Path) -> "Repo":
    """A laid-out repo that has no errors."""
    from data_recipes.errors import listed
    from hub_cards.checks.check import check_repo
    from hub_cards.errors import HubError
    from hub_cards.repos.folder import open_repo

    repo = open_repo(folder)  # first: what was recorded before the check is what is sent after it
    errors = [finding for finding in check_repo(folder) if finding.severity == "error"]
    if errors:
        found = listed([f"{error.place}: {error.message}" for error in errors])
        raise HubError(
            f"{folder}: not published, because the check found\n{found}\nSee `yulanmini hub check {folder}`."
        )
    return repo


def base_name(run: Path) -> str:
    """The name of the base model's repo that the run itself has chosen; else that of its folder."""
    suffix = "-checkpoints"
    found = sorted(path.name for path in (run / HUB).glob(f"*/*{suffix}"))
    return found[0].removesuffix(suffix) if found else run.resolve().name


@contextmanager
def laid_out(run: Path, names: Any, keep: Path | None) -> Iterator[Mapping[str, "Repo"]]:
    """The repos of a run under the names that they are published by, in `keep`; else gone again at the end."""
    from hub_cards.layout.run_repos import publish_local

    files = card_files(run)
    files.check_finished()
    with laying_out(run, keep) as out:
        done = publish_local(files, out, namespace=names.namespace, name=names.name)
        yield {one.folder.relative_to(out).as_posix(): checked(one.folder) for one in done}


def show_plans(plans: "Mapping[str, Plan]", as_json: bool) -> None:
    """Every file, size, repo, branch and tag, and what would become of each commit."""
    branches: list[dict[str, Any]] = []
    files: list[dict[str, Any]] = []
    for repo_id, plan in plans.items():
        for change in plan.changes:
            place = {"repo": repo_id, "branch": change.branch.name}
            will, tag = (change.will, plan.tag_will(change)) if plan.seen else ("not looked at", "")
            files += [
                {**place, "file": path, "bytes": file.size, "will": "send" if path in change.add else "keep"}
                for path, file in sorted(change.branch.files.items())
            ]
            files += [{**place, "file": path, "bytes": None, "will": "delete"} for path in change.delete]
            sizes = {"files": len(change.branch.files), "bytes": change.branch.size, "send": change.to_send}
            commit = {"will": will, "tag": plan.tag_name(change), "tag_will": tag, "parent": change.head}
            branches.append({**place, **commit, **sizes})
        for note in plan.notes:
            say(note)
    if as_json:
        emit_json({"sent": False, "branches": branches, "files": files})
        return
    emit_records(["repo", "branch", "files", "bytes", "send", "will", "tag", "tag will=tag_will"], branches)
    emit_records(["repo", "branch", "file", "bytes", "will"], files)


def show_published(repos: "list[Published]", as_json: bool, *, collection: str | None = None) -> None:
    """What is on the Hub now."""
    branches = [
        {"repo": repo.repo_id, "branch": name, "commit": commit, "was": repo.done[name]}
        for repo in repos
        for name, commit in repo.commits.items()
    ]
    for repo in repos:
        for note in repo.notes:
            say(note)
        say(f"published {'privately' if repo.private else 'for everyone'}: {repo.url}")
    if collection:
        say(f"collection: {collection}")
    if as_json:
        shown = [
            {"repo": repo.repo_id, "url": repo.url, "private": repo.private, "notes": repo.notes} for repo in repos
        ]
        emit_json({"sent": True, "repos": shown, "branches": branches, "collection": collection})
    else:
        emit_records(["repo", "branch", "commit", "was"], branches)
