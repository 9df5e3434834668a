"""A finished run as a folder of Hub repos: `OUT/<namespace>/<repo>/`, each ready to load from and to upload.

A repo's own files are its `main`; `revisions/<name>/` are its branches, whole model folders of their own.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from data_recipes.manifest import (
    MANIFEST_NAME,
    FolderState,
    folder_fingerprint,
    folder_state,
    sha256_file,
    whole_folder,
    write_manifest,
)
from data_recipes.recipes.phases import phase_key
from data_recipes.rows.layout import SOURCES_NAME
from hub_cards.cards.card import write_card
from hub_cards.cards.eval_results import write_eval_results
from hub_cards.cards.evidence import Figures, copied_text, load
from hub_cards.cards.model_card import parent_role
from hub_cards.cards.settings import settings_of_run
from hub_cards.checks.check import check_repo
from hub_cards.errors import HubError
from hub_cards.repos import files
from hub_cards.repos.folder import INDEX_NAME, KIND, REVISIONS, RepoType, edited_files
from hub_cards.repos.names import Names, revision_name, tag_name
from hub_cards.repos.run_files import RunFiles


@dataclass(frozen=True)
class LaidOut:
    """A repo's folder. `written` is false for one that is kept as an earlier call wrote it from the same run; `edited`
    are its files that were changed, removed or added since."""

    folder: Path
    written: bool
    edited: list[str]


def publish_local(run: RunFiles, out: Path, *, namespace: str, name: str, licence: str | None = None) -> list[LaidOut]:
    """Write every repo of `run` below `out`. Nothing is sent anywhere.

    Repos: NAME-checkpoints (unmerged, one revision per phase), NAME (merged), NAME-instruct, NAME-data. A repo that is
    there from the same run is kept as it is, a card edited by hand with it. Raises DataError, before anything is
    written, where another run's repo or anything else is in the way; HubError when the run lacks a stage, or when a
    repo would not pass its own check.
    """
    names = Names(namespace, name)
    states = check_layout(run, out, names, licence=licence)
    writers: dict[str, Callable[[RunFiles, Path, Names, str | None], None]] = {
        names.checkpoints: write_checkpoints,
        names.base: partial(write_model, kind="base"),
        names.instruct: partial(write_model, kind="instruct"),
        names.data: write_dataset,
    }
    repos = []
    for repo_id, write in writers.items():
        folder = Path(out) / repo_id
        if states[repo_id] == "finished":
            repos.append(LaidOut(folder, False, edited_files(folder)))
            continue
        with whole_folder(folder) as unfinished:
            write(run, unfinished, names, licence)
            write_manifest(unfinished, kind=KIND, **made_from_of(run, repo_id, names, licence), counts={})
            errors = [finding for finding in check_repo(unfinished, run=run) if finding.severity == "error"]
            if errors:
                listed = "; ".join(f"{error.place}: {error.message}" for error in errors[:5])
                raise HubError(f"{repo_id} would not pass its own check: {listed}.")
        repos.append(LaidOut(folder, True, []))
    return repos


def check_layout(run: RunFiles, out: Path, names: Names, *, licence: str | None) -> dict[str, FolderState]:
    """The state of each repo's folder below `out`; raises what `publish_local` raises before it writes."""
    repos = (names.checkpoints, names.base, names.instruct, names.data)
    for repo_id in repos:  # what is in the way is said before what is missing
        folder_state(Path(out) / repo_id, kind=KIND, made_from={"inputs": inputs_of(run)})
    run.check_finished()
    return {
        repo_id: folder_state(Path(out) / repo_id, kind=KIND, made_from=made_from_of(run, repo_id, names, licence))
        for repo_id in repos
    }


def made_from_of(run: RunFiles, repo_id: str, names: Names, licence: str | None) -> dict[str, Any]:
    """What a repo records of its origin, and what publishing must know of it."""
    kind: RepoType = "dataset" if repo_id == names.data else "model"
    branches = [entry["revision"] for entry in checkpoints_of(run)] if repo_id == names.checkpoints else []
    return {
        "inputs": inputs_of(run),
        "config": {"type": kind, "name": repo_id, "licence": licence, "branches": branches},
    }


def inputs_of(run: RunFiles) -> dict[str, str]:
    """Fingerprints of everything that a run's repos are written from."""
    stages = [run.root / name for name in (run.pretrain, run.merged, *run.tuned.values())]
    folders = [folder for folder in (*stages, *run.phase_folders()) if folder.is_dir()]
    scores = [run.root / run.scores_file(model) for model in run.models]
    return {folder.name: folder_fingerprint(folder) for folder in folders} | {
        f"scores of {path.parent.name}": sha256_file(path) for path in scores if path.is_file()
    }


def checkpoints_of(run: RunFiles) -> list[dict[str, Any]]:
    """The index's entry of each exported model of a phase, in training order."""
    counts = load(run.root / run.pretrain_manifest)["counts"]
    entries = []
    for model in run.phase_models():
        phase, step = phase_key(model.name), load(model / MANIFEST_NAME)["counts"]["step"]
        tokens = step * (counts["tokens"] // counts["steps"])
        entries.append(
            {
                "phase": phase,
                "step": step,
                "tokens": tokens,
                "context": load(model / "config.json")["max_position_embeddings"],
                "revision": revision_name(phase, step, tokens),
                "tag": tag_name(phase),
                "optimizer": None,
            }
        )
    return entries


def write_checkpoints(run: RunFiles, repo: Path, names: Names, licence: str | None) -> None:
    """The unmerged model of every phase as a revision, and the last also as `main`."""
    models, entries = run.phase_models(), checkpoints_of(run)
    for model, entry in zip(models, entries, strict=True):
        files.copy_allowed(model, repo / REVISIONS / entry["revision"], files.MODEL_FILES, run=run.root)
    files.copy_allowed(models[-1], repo, files.MODEL_FILES, run=run.root)
    write_json(repo / INDEX_NAME, {"main": entries[-1]["revision"], "branches": entries})
    write_training_files(run, repo, run.pretrain)
    write_card(repo, settings_of_run("checkpoints", names, licence), run)


def write_model(run: RunFiles, repo: Path, names: Names, licence: str | None, *, kind: str) -> None:
    """The merged "base" model or the tuned "instruct" one, with its scores and the (last) training behind it."""
    folder, training, model, repo_id = {
        "base": (run.merged, run.pretrain, run.models[0], names.base),
        "instruct": (run.instruct, run.instruct, run.models[-1], names.instruct),
    }[kind]
    if not (run.root / folder / "config.json").is_file():
        raise HubError(f"{run.root / folder}: no model there; finish that stage of the run first.")
    # The adapter of a later stage belongs to a model that is in no repo.
    adapters = files.ADAPTER_FILES if len(run.tuned) == 1 else ()
    files.copy_allowed(run.root / folder, repo, (*files.MODEL_FILES, *adapters), run=run.root)
    adapter = repo / "adapter" / "adapter_config.json"
    if adapter.is_file():  # it names the folder of this machine that the adapter belongs to
        parent = names.base if parent_role(Figures(run, run.root)) == "base" else names.checkpoints
        write_json(adapter, {**load(adapter), "base_model_name_or_path": parent})
    write_training_files(run, repo, training)
    write_scores(run, repo, model, repo_id)
    write_card(repo, settings_of_run(kind, names, licence), run)


def write_dataset(run: RunFiles, repo: Path, names: Names, licence: str | None) -> None:
    """The mixes: recipe, packed rows in training order and manifest of each, one config per mix."""
    mixes = run.phase_folders()
    if not mixes:
        raise HubError(f"{run.root / run.data}: no built mix; finish the data stage first.")
    (repo / "recipes").mkdir()
    for mix in mixes:
        files.copy_allowed(mix, repo / "data" / mix.name, ("*.arrow", MANIFEST_NAME, SOURCES_NAME), run=run.root)
        recipe = load(mix / "manifest.json").get("recipe")
        if recipe is not None:
            text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
            (repo / "recipes" / f"{mix.name}.yaml").write_text(files.without_run_path(text, run.root), encoding="utf-8")
    configs = {mix.name: f"data/{mix.name}/*.arrow" for mix in mixes}
    write_card(repo, settings_of_run("phases", names, licence, configs=configs), run)


def write_training_files(run: RunFiles, repo: Path, folder: str) -> None:
    """Config and metrics of the training behind a model, without this machine's paths."""
    files.copy_text(run.root / folder / "config.yaml", repo / "training_config.yaml", run=run.root)
    for name in ("metrics.jsonl", "heldout.jsonl"):
        if (run.root / folder / name).is_file():
            shutil.copyfile(run.root / folder / name, repo / name)


def write_scores(run: RunFiles, repo: Path, model: str, repo_id: str) -> None:
    """scores.json as it is, and in the Hub's form; nothing where the model was not scored."""
    scores = run.root / run.scores_file(model)
    if scores.is_file():
        # The same text as the copy that the card is made from.
        (repo / "scores.json").write_text(copied_text(scores, run.root)[0], encoding="utf-8", newline="")
        url = f"https://huggingface.co/{repo_id}/blob/main/scores.json"
        write_eval_results(repo / "scores.json", repo, source_url=url)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
