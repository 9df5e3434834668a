"""A run's identity and inputs: packed phases, tokenizer and held-out text, checked before training."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from data_recipes.manifest import differences, verify_files
from data_recipes.places import local_folder
from data_recipes.tokens.tokenizer import load_tokenizer as load_ids
from train.checkpoints.sharded import TRAINER_FILE, checkpoints_in, read_trainer
from train.config import PretrainConfig
from train.config_file import resolved
from train.curriculum.plan import Curriculum
from train.errors import TrainError
from train.scoring.heldout import HeldoutDomain, Protocol, load_heldout

RUN_KIND = "pretraining-run"
# Sections that decide what is computed. The others say how a run is carried out or watched; what matters of the
# data, the tokenizer, the stages and the model is compared by content below.
_IDENTITY = ("tokens_per_step", "parametrization", "optimizer", "schedule", "seed", "precision", "spikes")
_NOT_OF_THE_MODEL = ("transformers_version", "id2label", "label2id", "max_position_embeddings")


def identity(
    config: PretrainConfig, curriculum: Curriculum, *, model: dict[str, Any], tokenizer: str
) -> dict[str, Any]:
    """All that must be equal for a checkpoint to be resumed: settings, model, fingerprints of tokenizer and data."""
    settings = resolved(config, config.output_dir)
    found = {
        "config": {key: settings[key] for key in _IDENTITY},
        "model": {key: value for key, value in model.items() if key not in _NOT_OF_THE_MODEL},
        "tokenizer": tokenizer,
        "phases": [
            {
                "name": phase.name,
                "data": phase.fingerprint,
                "rows": phase.rows,
                "first_step": phase.first_step,
                "context_length": phase.context_length,
                "rope_theta": phase.rope_theta,
                "document_mask": phase.document_mask,
                "rebalance": phase.rebalance,
            }
            for phase in curriculum.phases
        ],
        "tail": [curriculum.schedule.annealing_start, curriculum.schedule.annealing_steps],
    }
    # As JSON keeps it: a checkpoint's identity comes back from a file.
    return json.loads(json.dumps(found))


def changes(theirs: dict[str, Any], mine: dict[str, Any], *, step: int) -> list[str]:
    """Where the identity of a checkpoint after `step` steps and that of a run differ, one line each.

    Phases are compared one by one: those that were begun must be there in their order, later ones may come and go, but
    none may be another of the same name. How long the tail is counts once it is begun.
    """
    lines = differences(_without(theirs, "phases", "tail"), _without(mine, "phases", "tail"))
    now = {phase["name"]: phase for phase in mine["phases"]}
    for phase in theirs["phases"]:
        name, begun = phase["name"], phase["first_step"] < step
        if name in now:
            apart = () if begun else ("first_step",)
            lines += differences(_without(phase, *apart), _without(now[name], *apart), f"phase {name}")
        elif begun:
            lines.append(f"phase {name}: was trained, is not in data.phases")
    starts = [tail[0] for tail in (theirs["tail"], mine["tail"]) if tail[0] is not None]
    if theirs["tail"] != mine["tail"] and step > min(starts, default=step):
        lines.append(f"schedule.annealing: the tail (first step, steps) was {theirs['tail']}, is {mine['tail']}")
    return lines


def _without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def check_data(curriculum: Curriculum, tokenizer: Path) -> str:
    """The tokenizer's fingerprint; TrainError for a damaged phase or one built with another tokenizer."""
    mine = load_ids(tokenizer)
    for phase in curriculum.phases:
        built = phase.built
        if built is None:  # trained already
            continue
        problems = verify_files(built.folder, content=False, manifest=built.manifest)
        if problems:
            raise TrainError(f"phase {phase.name}: {problems[0]}. Build it again (`yulanmini data build`).")
        theirs = built.manifest["tokenizer"]
        if theirs["fingerprint"] != mine.fingerprint:
            raise TrainError(
                f"phase {phase.name}: {built.folder} was built with a tokenizer of {theirs['vocab_size']:,} tokens, "
                f"which is not the one in {tokenizer} ({mine.vocab_size:,} tokens). Set `tokenizer` to that one, or "
                "build the phase again."
            )
    return mine.fingerprint


def holds_model(path: Path) -> bool:
    """Whether `path` is a model folder, rather than a checkpoint of a run."""
    return (path / "config.json").is_file()


def check_init(path: Path, *, tokenizer: str) -> None:
    """TrainError unless `path` is a whole checkpoint of a run with the tokenizer of that fingerprint."""
    if not (path / TRAINER_FILE).is_file():
        inside = checkpoints_in(path)
        raise TrainError(
            f"init.path: {path} is neither a model folder (no config.json) nor a checkpoint of a run (no "
            f"{TRAINER_FILE}). " + (f"Did you mean {inside[-1]}?" if inside else "Give one of the two.")
        )
    theirs = read_trainer(path).get("identity", {}).get("tokenizer", tokenizer)
    if theirs != tokenizer:
        raise TrainError(
            f"init.path: {path} was trained with another tokenizer (fingerprint {theirs[:12]}) than the one in "
            f"`tokenizer` ({tokenizer[:12]}): its embedding means other tokens. Use that tokenizer and data built "
            "with it."
        )


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of the run; DataError when `path` is not there, TrainError when it holds none."""
    local_folder(path, "tokenizer folder (key 'tokenizer')")
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise TrainError(f"tokenizer: {path} does not hold a tokenizer ({str(error).splitlines()[0]}).") from error


def heldout_text(
    config: PretrainConfig, curriculum: Curriculum, tokenizer: Any
) -> tuple[list[HeldoutDomain], Protocol]:
    """The held-out domains that the config asks for, none without `heldout`, and how they are scored."""
    settings = config.heldout
    lengths = [phase.context_length for phase in curriculum.phases]
    context = min(lengths)
    if settings is not None and settings.context_length is not None:
        context = settings.context_length
    if context > max(lengths):
        raise TrainError(
            f"heldout.context_length {context}: the longest context of the curriculum is {max(lengths)}. Give at most "
            f"that, or leave it out for the shortest ({min(lengths)})."
        )
    protocol = Protocol(context, context // 2, (tokenizer.eos_token_id,))
    if settings is None:
        return [], protocol
    return load_heldout(settings.dir, tokenizer, bytes_per_domain=settings.bytes_per_domain), protocol
