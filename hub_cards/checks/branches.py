"""Branches: each holds the checkpoint that its name and the index say, `main` is the one that the index says, and the
certificate of a merge is of these weights."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from data_recipes.errors import first_line
from data_recipes.manifest import MANIFEST_NAME
from hub_cards.checks.subject import Finding, Part, Subject, Unreadable, error, read_mapping
from hub_cards.errors import HubError
from hub_cards.repos.folder import EVIDENCE, INDEX_NAME, MAIN
from hub_cards.repos.names import OPTIMIZER, parse_revision, short_count
from train.checkpoints.training_state import STATE_FILE, read_training_state
from train.errors import TrainError

CERTIFICATE = "merge_certificate.json"
# What the curriculum changes from phase to phase; all else is one architecture.
CHANGES_BY_PHASE = {"max_position_embeddings", "rope_parameters", "rope_theta", "transformers_version", "dtype"}
OPTIMIZER_KEY = "optimizer"


def branches_and_index(repo: Subject) -> Iterator[Finding]:
    """Index and folders agree both ways; names, phases, steps and tokens agree with each other."""
    branches = {part.name: part for part in repo.parts if part.name != MAIN}
    if INDEX_NAME not in repo.main.files:
        if branches:
            yield error(INDEX_NAME, f"missing, and there are {len(branches)} branches; lay the repo out again")
        return
    try:
        index = read_mapping(repo.folder / INDEX_NAME)
        entries = {entry["revision"]: entry for entry in index["branches"]}
        main = index["main"]
    except (Unreadable, KeyError, TypeError) as failure:
        yield error(INDEX_NAME, f"no index of branches ({failure}); lay the repo out again")
        return
    if len(entries) < len(index["branches"]):
        yield error(INDEX_NAME, "names a branch twice; lay the repo out again")
    named = set(entries) | {str(entry[OPTIMIZER_KEY]) for entry in entries.values() if entry.get(OPTIMIZER_KEY)}
    for name in sorted(named - branches.keys()):
        yield error(INDEX_NAME, f"names the branch {name}, which has no folder; lay the repo out again")
    for name in sorted(branches.keys() - named):
        yield error(INDEX_NAME, f"does not name the branch {name}, which has a folder; lay the repo out again")
    for name in sorted(branches):
        try:
            phase, step = parse_revision(name)
        except HubError as failure:
            yield error(INDEX_NAME, str(failure))
            continue
        entry = entries.get(name)
        if entry is None:
            continue
        for key, value in (("phase", phase), ("step", step)):
            if str(entry.get(key)) != str(value):
                yield error(INDEX_NAME, f"{key} of {name} is {entry.get(key)!r}, its name says {value!r}")
        tokens = entry.get("tokens")
        if not isinstance(tokens, int) or not name.endswith(f"-tokens{short_count(tokens)}"):
            yield error(INDEX_NAME, f"tokens of {name} are {tokens!r}, its name says otherwise")
        context = _config(branches[name]).get("max_position_embeddings")
        if "context" in entry and context is not None and entry["context"] != context:
            yield error(INDEX_NAME, f"context of {name} is {entry['context']}, its config says {context}")
    steps = [entry.get("step") for entry in entries.values()]
    if all(isinstance(step, int) for step in steps) and steps != sorted(steps):
        yield error(INDEX_NAME, "its branches are not in the order of training; lay the repo out again")
    if main not in entries:
        yield error(INDEX_NAME, f"main is {main!r}, which is none of its branches")
    elif main in branches and _weights(branches[main]) != _weights(repo.main):
        yield error(INDEX_NAME, f"main is {main}, but the weights of main are not those of that branch")


def branches_differ_as_they_should(repo: Subject) -> Iterator[Finding]:
    """No two phases have the same weights; all have one architecture and one tokenizer."""
    branches = [part for part in repo.models if part.name != MAIN and not part.name.endswith(OPTIMIZER)]
    seen: dict[tuple[str, ...], Part] = {}
    for part in branches:
        weights = _weights(part)
        if weights and weights in seen:
            other = seen[weights].name
            yield error(part.prefix.rstrip("/"), f"has the weights of {other}: one of the two shows another phase's")
        seen.setdefault(weights, part)
    for part in branches[1:]:
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if name in part.files and name in branches[0].files and part.sha256(name) != branches[0].sha256(name):
                yield error(part.place(name), f"differs from that of {branches[0].name}: one repo has one tokenizer")
        ours, theirs = _config(part), _config(branches[0])
        for key in sorted((ours.keys() | theirs.keys()) - CHANGES_BY_PHASE):
            if ours and theirs and ours.get(key) != theirs.get(key):
                message = f"{key} is {ours.get(key)!r}, in {branches[0].name} {theirs.get(key)!r}"
                yield error(part.place("config.json"), message)


def optimizer_states_fit(repo: Subject) -> Iterator[Finding]:
    """An optimizer's state is whole, and of the step that the branch's name says."""
    for part in repo.parts:
        if not part.name.endswith(OPTIMIZER):
            if STATE_FILE in part.files:
                yield error(part.place(STATE_FILE), f"belongs into a branch whose name ends in {OPTIMIZER}")
            continue
        try:
            step = read_training_state(part.folder)["step"]
            said = parse_revision(part.name)[1]
        except (TrainError, HubError) as failure:
            yield error(part.place(STATE_FILE), first_line(failure))
            continue
        if step != said:
            yield error(part.place(STATE_FILE), f"is of step {step}, the branch's name says {said}")


def weights_are_those_recorded(repo: Subject) -> Iterator[Finding]:
    """Where the manifest of a phase's model is among the evidence, or in the run, its step and hashes are those of the
    branch; where a certificate of the merge is, it is of these weights."""
    for part in repo.models:
        if CERTIFICATE in part.files:
            yield from _certificate_findings(part)
    manifests = list(_model_manifests(repo))
    for part in repo.models:
        if part.name == MAIN:
            continue
        try:
            phase, step = parse_revision(part.name)
        except HubError:
            continue
        for where, manifest in manifests:
            counts = manifest.get("counts", {})
            if str(counts.get("phase")) != str(phase):
                continue
            if counts.get("step") != step:
                yield error(part.prefix.rstrip("/"), f"is of step {step}, {where} says {counts.get('step')}")
            if not part.name.endswith(OPTIMIZER):  # that has the weights as they are trained, not as they are exported
                yield from _hash_findings(part, where, manifest)
    if repo.run is not None:
        yield from _stage_findings(repo)


def _model_manifests(repo: Subject) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Manifests of the phases' models: among the evidence of any branch, and in the run."""
    for part in repo.parts:
        for name in part.matching(f"/{MANIFEST_NAME}"):
            if name.startswith(f"{EVIDENCE}/") and PurePosixPath(name).parent.name.startswith("phase-"):
                try:
                    manifest = read_mapping(part.folder / name)
                except Unreadable:
                    continue
                if "model.safetensors" in manifest.get("files", {}) or "step" in manifest.get("counts", {}):
                    yield part.place(name), manifest
    if repo.run is not None:
        for folder in (repo.run.root / repo.run.pretrain / "models").glob("phase-*"):
            if (folder / MANIFEST_NAME).is_file():
                yield f"the run's {folder.name}", read_mapping(folder / MANIFEST_NAME)


def _stage_findings(repo: Subject) -> Iterator[Finding]:
    """The merged or the tuned model of a run is the one in the repo."""
    run = repo.run
    if run is None or len(repo.parts) > 1 or repo.type != "model":
        return
    wanted = run.merged if CERTIFICATE in repo.main.files else run.instruct
    folder = run.root / wanted
    if (folder / MANIFEST_NAME).is_file():
        yield from _hash_findings(repo.main, f"the run's {wanted}", read_mapping(folder / MANIFEST_NAME))


def _hash_findings(part: Part, where: str, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    recorded = manifest.get("files", {})
    for name in ("config.json", "tokenizer.json", *_weight_names(part)):
        if name in part.files and name in recorded and recorded[name].get("sha256") != part.sha256(name):
            yield error(part.place(name), f"not the file that {where} records (SHA-256 differs)")


def _certificate_findings(part: Part) -> Iterator[Finding]:
    place = part.place(CERTIFICATE)
    try:
        result = read_mapping(part.folder / CERTIFICATE)["result"]["sha256"]
        pairs = dict(result).items()
    except (Unreadable, KeyError, TypeError, ValueError):
        yield error(place, "does not say of which files it is; merge the model again (yulanmini model merge)")
        return
    for name, digest in pairs:
        if name not in part.files:
            yield error(place, f"is of a file {name}, which is not there")
        elif part.sha256(name) != digest:
            yield error(place, f"is of another {name} (SHA-256 differs): the proof is not of these weights")
    for name in _weight_names(part):
        if name not in result:
            yield error(place, f"says nothing of {name}")


def _weight_names(part: Part) -> list[str]:
    return [name for name in part.matching(".safetensors") if "/" not in name]


def _weights(part: Part) -> tuple[str, ...]:
    return tuple(part.sha256(name) for name in _weight_names(part))


def _config(part: Part) -> dict[str, Any]:
    try:
        return read_mapping(part.folder / "config.json")
    except Unreadable:
        return {}
