"""The repos of a run: checkpoints by phase, the merged base model, the instruct model, the data.

A repo's own files are its `main`; `revisions/<name>/` are its branches, whole model folders of their own. A phase whose
checkpoint is still there may have its optimizer state in a branch more.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_recipes.manifest import MANIFEST_NAME, folder_fingerprint, sha256_file
from data_recipes.recipes.phases import phase_key
from hub_cards.cards.card import write_card
from hub_cards.cards.eval_results import write_eval_results
from hub_cards.cards.evidence import Figures, copied_text, load
from hub_cards.cards.model_card import parent_role
from hub_cards.cards.settings import CardSettings, settings_of_run
from hub_cards.errors import HubError
from hub_cards.layout.datasets import phases_draft
from hub_cards.layout.swap import Draft, LaidOut, known_hashes, lay_out_draft, refuse_foreign
from hub_cards.repos import files
from hub_cards.repos.folder import INDEX_NAME, REVISIONS
from hub_cards.repos.machine_paths import without_machine_paths
from hub_cards.repos.names import OPTIMIZER, Names, revision_name, tag_name
from hub_cards.repos.run_files import RunFiles
from train.checkpoints.training_state import write_training_state

# The published phases whose optimizer states the authors gave out too.
WITH_OPTIMIZER = ("20", "25")
TRAINER_FILE = "trainer.json"


def publish_local(run: RunFiles, out: Path, *, namespace: str, name: str, **options: Any) -> list[LaidOut]:
    """Write every repo of `run` below `out`; options as of `run_drafts`. Nothing is sent anywhere.

    Repos: NAME-checkpoints (unmerged, one revision per phase), NAME (merged), NAME-instruct, NAME-data. A repo that is
    there from the same run is kept as it is, one from an earlier state of the run is replaced, the owner's words in its
    cards kept. Raises DataError where anything else is in the way; HubError when the run lacks a stage, when files
    were edited by hand, or when a repo would not pass its own check.
    """
    drafts = run_drafts(run, out, Names(namespace, name), **options)
    return [lay_out_draft(Path(out) / draft.repo_id, draft) for draft in drafts]


def run_drafts(
    run: RunFiles, out: Path, names: Names, *, licence: str | None = None, optimizer: Iterable[str] = (), **options: Any
) -> list[Draft]:
    """The repos of a run of `yulanmini reproduce`; raises what can be known before anything is written."""
    for repo_id in (names.checkpoints, names.base, names.instruct, names.data):
        refuse_foreign(Path(out) / repo_id, repo_id)  # what is in the way is said before what is missing
    run.check_finished()
    data = settings_of_run("phases", names, licence)
    return [
        checkpoints_draft(run, settings_of_run("checkpoints", names, licence), optimizer=optimizer),
        _model_draft(run, names, licence, kind="base"),
        _model_draft(run, names, licence, kind="instruct"),
        phases_draft(run.phase_folders(), data, run=run, **options),
    ]


def checkpoints_draft(run: RunFiles, settings: CardSettings, *, optimizer: Iterable[str] = ()) -> Draft:
    """The unmerged model of every phase that is exported as a revision, and the last also as `main`.

    `optimizer`: phases whose optimizer states must go along; those of WITH_OPTIMIZER do where their checkpoints are.
    """
    entries = checkpoints_of(run, [phase_key(phase) for phase in optimizer])
    models = {phase_key(model.name): model for model in run.phase_models()}
    branches = [name for entry in entries for name in (entry["revision"], entry["optimizer"]) if name]
    manifest = run.root / run.pretrain / MANIFEST_NAME
    inputs = {f"model of phase {phase}": folder_fingerprint(model) for phase, model in models.items()}
    if manifest.is_file():
        inputs["run"] = load(manifest)["fingerprint"]

    def write(repo: Path) -> Mapping[str, Any]:
        known: dict[str, Any] = {}
        for entry in entries:
            branch = repo / REVISIONS / entry["revision"]
            known |= _place_model(models[entry["phase"]], branch, repo, run)
            write_card(branch, _of_branch(settings, entry["revision"], entry["phase"]), run)
            if entry["optimizer"]:
                state = repo / REVISIONS / entry["optimizer"]
                _write_state(_checkpoint_of(run, entry["step"]), state)
                write_card(state, _of_branch(settings, entry["optimizer"], entry["phase"]), run)
        known |= _place_model(models[entries[-1]["phase"]], repo, repo, run)
        write_json(repo / INDEX_NAME, {"main": entries[-1]["revision"], "branches": entries})
        write_training_files(run, repo, run.pretrain)
        write_card(repo, settings, run)
        return known

    kept = {"licence": settings.licence, "optimizer": [entry["phase"] for entry in entries if entry["optimizer"]]}
    return Draft(settings.repo_id, "model", inputs, write, branches, kept, run, {"branches": len(branches)})


def checkpoints_of(run: RunFiles, optimizer: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The index's entry of each exported model of a phase, in training order."""
    tokens_per_step = _tokens_per_step(run)
    entries = []
    for model in run.phase_models():
        phase, step = phase_key(model.name), load(model / MANIFEST_NAME)["counts"]["step"]
        tokens = step * tokens_per_step
        revision = revision_name(phase, step, tokens)
        with_state = phase in (*WITH_OPTIMIZER, *optimizer) and (_checkpoint_of(run, step) / TRAINER_FILE).is_file()
        entries.append(
            {
                "phase": phase,
                "step": step,
                "tokens": tokens,
                "context": load(model / "config.json")["max_position_embeddings"],
                "revision": revision,
                "tag": tag_name(phase),
                "optimizer": revision + OPTIMIZER if with_state else None,
            }
        )
    found = {entry["phase"] for entry in entries if entry["optimizer"]}
    if missing := [phase for phase in optimizer if phase not in found]:
        there = [entry["phase"] for entry in entries if (_checkpoint_of(run, entry["step"]) / TRAINER_FILE).is_file()]
        raise HubError(
            f"--optimizer {missing[0]}: {run.root / run.pretrain} has no checkpoint at the end of that phase. It has "
            f"those of {', '.join(there) or 'none'}."
        )
    return entries


def _tokens_per_step(run: RunFiles) -> int:
    """Of a finished run by its manifest, of one that is still trained by its config."""
    manifest = run.root / run.pretrain_manifest
    if manifest.is_file():
        counts = load(manifest)["counts"]
        return counts["tokens"] // counts["steps"]
    return load(run.root / run.pretrain / "config.yaml")["tokens_per_step"]


def _checkpoint_of(run: RunFiles, step: int) -> Path:
    return run.root / run.pretrain / "checkpoints" / f"step-{step:08d}"


def _write_state(checkpoint: Path, branch: Path) -> None:
    """A checkpoint's weights and optimizer state, beside a card that may be there."""
    partial_folder = branch.with_name(f".{branch.name}")
    write_training_state(checkpoint, partial_folder)
    branch.mkdir(parents=True, exist_ok=True)
    for path in partial_folder.iterdir():
        path.rename(branch / path.name)
    partial_folder.rmdir()


def _of_branch(settings: CardSettings, revision: str, phase: str) -> CardSettings:
    return replace(settings, kind="checkpoint", revision=revision, phase=phase)


def _place_model(model: Path, target: Path, repo: Path, run: RunFiles) -> Mapping[str, Any]:
    files.copy_allowed(model, target, files.MODEL_FILES, run=run.root)
    return known_hashes(model, target, repo)


def _model_draft(run: RunFiles, names: Names, licence: str | None, *, kind: str) -> Draft:
    """The merged "base" model or the tuned "instruct" one, with its scores and the (last) training behind it."""
    folder, training, model, repo_id = {
        "base": (run.merged, run.pretrain, run.models[0], names.base),
        "instruct": (run.instruct, run.instruct, run.models[-1], names.instruct),
    }[kind]
    if not (run.root / folder / "config.json").is_file():
        raise HubError(f"{run.root / folder}: no model there; finish that stage of the run first.")
    scores = [run.root / run.scores_file(one) for one in run.models]
    inputs = {name: folder_fingerprint(run.root / name) for name in dict.fromkeys((run.pretrain, folder))}
    inputs |= {f"scores of {path.parent.name}": sha256_file(path) for path in scores if path.is_file()}
    if kind == "instruct":
        inputs |= {name: folder_fingerprint(run.root / name) for name in run.tuned.values()}

    def write(repo: Path) -> Mapping[str, Any]:
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
        return known_hashes(run.root / folder, repo, repo)

    return Draft(repo_id, "model", inputs, write, settings={"licence": licence}, run=run)


def write_training_files(run: RunFiles, repo: Path, folder: str) -> None:
    """Config and metrics of the training behind a model, without this machine's paths."""
    config = (run.root / folder / "config.yaml").read_text(encoding="utf-8")
    (repo / "training_config.yaml").write_text(without_machine_paths(config, run.root), encoding="utf-8")
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
