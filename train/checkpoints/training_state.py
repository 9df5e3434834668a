"""A checkpoint as files that anyone may read, and back: a model folder with the optimizer's state beside the weights.

    config.json  model*.safetensors  ...   the weights as they are trained; the folder loads with `from_pretrained`
    optimizer/state*.safetensors           `<parameter>.exp_avg`, `.exp_avg_sq`, `.step`, parameters by published name
    training_state.json                    step, groups, schedule, position in the data, random state, what monitors and
                                           guards know; size and checksum of every other file

Nothing in it is pickled, as parts of a distributed checkpoint are. Writing it holds one shard of tensors in memory at
a time; the way back, through torch's writer of checkpoints, has been seen to hold the whole state.
"""

import base64
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from data_recipes.manifest import check_new_folder, whole_folder
from modeling_yulanmini import YuLanMiniConfig
from modeling_yulanmini.checkpoint_reader import TOKENIZER_FILES, ModelFolder, packaged_code, read_config
from modeling_yulanmini.checkpoint_writer import TensorToWrite, write_model, write_tensors
from modeling_yulanmini.create import empty_model
from modeling_yulanmini.modeling_yulanmini import AUTO_MAP, saved_name
from train.checkpoints.rebalance import as_lists, place
from train.checkpoints.sharded import check_contents, content_of, read_trainer
from train.checkpoints.tensors import CheckpointEntries, LazyTensor, write_checkpoint
from train.errors import TrainError

STATE_FILE = "training_state.json"
OPTIMIZER, STEM = "optimizer", "state"  # folder and beginning of the names of the files with the optimizer's tensors
FORM = 1
ABOUT = (
    "The state of a pretraining run at `step`, beside the weights. "
    "`yulanmini model import-optimizer FOLDER DST` makes a checkpoint of it to train on from."
)


def write_training_state(checkpoint: Path, destination: Path, *, progress: bool = False) -> dict[str, Any]:
    """Write `destination`, absent or complete, from a checkpoint of a run; returns its `training_state.json`.

    Raises `TrainError` for a damaged checkpoint, or one of a trainer whose state cannot be written as JSON.
    """
    check_new_folder(destination)
    trainer = read_trainer(checkpoint)
    check_contents(checkpoint, trainer)
    entries = CheckpointEntries(checkpoint)
    config = YuLanMiniConfig.from_dict(trainer["model_config"])
    named = {name: saved_name(name) for name, _ in empty_model(config).named_parameters()}
    stored = entries.tensors()

    def written(entry: str, name: str) -> TensorToWrite:
        if entry not in stored:
            raise TrainError(f"{checkpoint}: no tensor {entry}; a checkpoint of another version of the trainer?")
        tensor = stored[entry]
        return TensorToWrite(name, tuple(tensor.size), tensor.properties.dtype, lambda: [read(entry)])

    weights = [written(f"model.{name}", published) for name, published in named.items()]
    kinds = {name: _kinds_of(name, stored) for name in named}
    states = [
        written(f"optimizer.state.{name}.{kind}", f"{published}.{kind}")
        for name, published in named.items()
        for kind in kinds[name]
    ]
    read = entries.in_turn(
        [
            *(f"model.{name}" for name in named),
            *(f"optimizer.state.{name}.{kind}" for name in named for kind in kinds[name]),
        ]
    )
    dtype = str(weights[0].dtype).removeprefix("torch.")
    content = {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}
    content |= {"architectures": ["YuLanMiniForCausalLM"], "auto_map": AUTO_MAP, "dtype": dtype}
    tokenizer = Path(trainer["tokenizer"])
    files = [*packaged_code(), *(tokenizer / name for name in TOKENIZER_FILES if (tokenizer / name).is_file())]
    state = {
        "about": ABOUT,
        "form": FORM,
        "step": trainer["step"],
        "position": _position(trainer),
        "groups": _groups(entries, set(stored), checkpoint),
        "random_state": {
            path.stem.removeprefix("rng-"): _texts(torch.load(path, weights_only=True))
            for path in sorted(checkpoint.glob("rng-*.pt"))
        },
        "trainer": {key: value for key, value in trainer.items() if key not in ("files", "tokenizer", "step")},
    }
    with whole_folder(destination) as folder:
        write_model(folder, content, weights, files=files, progress="weights" if progress else None)
        (folder / OPTIMIZER).mkdir()
        write_tensors(folder / OPTIMIZER, states, stem=STEM, progress="optimizer" if progress else None)
        written_files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        state["files"] = {path.relative_to(folder).as_posix(): content_of(path) for path in written_files}
        (folder / STATE_FILE).write_text(json.dumps(state, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return state


def read_training_state(folder: Path, *, content: bool = True) -> dict[str, Any]:
    """`training_state.json`; `TrainError` where it or a file that it names is missing or not what was written."""
    path = Path(folder) / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        form, files = state["form"], dict(state["files"])
        trainer, step = dict(state["trainer"]), int(state["step"])
        random = {int(rank): _tensors(texts) for rank, texts in state["random_state"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainError(f"{path}: cannot be read as the state of a training run ({error}).") from error
    if form != FORM:
        raise TrainError(f"{path}: written in form {form}, this version reads {FORM}. Update yulanmini.")
    for name, expected in files.items():
        file = path.parent / name
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise TrainError(f"{path}: {name!r} is no file of this folder.")
        if not file.is_file():
            raise TrainError(f"{file}: missing. Download the whole folder.")
        found = content_of(file) if content else {**expected, "bytes": file.stat().st_size}
        if found != expected:
            raise TrainError(f"{file}: damaged, its content differs from its checksum. Download it again.")
    return {**state, "random_state": random, "trainer": {"step": step, **trainer}}


def import_training_state(folder: Path, destination: Path, *, progress: bool = False) -> dict[str, Any]:
    """Write the checkpoint `destination`, absent or complete; returns `step`, `parameters` and `tensors`.

    Training on from it equals training on from the checkpoint that the state was written from, bit by bit. Raises
    `TrainError` or `CheckpointError`, naming file and tensor, for what is damaged, missing, surplus or misshapen.
    """
    from tqdm import tqdm

    check_new_folder(destination)
    state = read_training_state(folder)
    config = read_config(folder / "config.json")
    model = empty_model(config)
    parameters = dict(model.named_parameters())
    published = {saved_name(name): name for name in parameters}
    weights, states = ModelFolder(folder), ModelFolder(folder, stem=f"{OPTIMIZER}/{STEM}")
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    bar = tqdm(total=len(weights.tensors) + len(states.tensors), desc="import", unit="tensor", disable=not progress)

    def lazy(source: ModelFolder, name: str) -> LazyTensor:
        tensor = source.stored(name)
        return LazyTensor(tensor.shape, tensor.dtype, partial(_read, source, name, bar))

    missing = sorted(set(published) - set(weights.tensors))
    surplus = sorted(set(weights.tensors) - set(published))
    if missing or surplus:
        raise TrainError(f"{folder}: tensor {[*missing, *surplus][0]} is {'missing' if missing else 'no parameter'}.")
    own: dict[str, Any] = {published[name]: lazy(weights, name) for name in weights.tensors}
    if config.tie_word_embeddings:
        own["lm_head.weight"] = own["model.embed_tokens.weight"]
    moments: dict[str, dict[str, Any]] = {name: {} for name in parameters}
    for name in states.tensors:
        parameter, _, kind = name.rpartition(".")
        if parameter not in published:
            raise TrainError(f"{states.stored(name).file}: {name} belongs to no parameter of the model.")
        moments[published[parameter]][kind] = lazy(states, name)
    for name, shape in shapes.items():
        if "step" not in moments[name]:
            raise TrainError(f"{folder}: no tensor {saved_name(name)}.step in {OPTIMIZER}/.")
        for kind, tensor in [("weight", own[name]), *moments[name].items()]:
            if tensor.shape != (() if kind == "step" else shape):
                raise TrainError(f"{folder}: the {kind} of {saved_name(name)} has shape {list(tensor.shape)}.")
    trainer = {**state["trainer"], "model_config": config.to_dict(), "tokenizer": str(Path(folder).absolute())}
    with whole_folder(destination) as partial_folder, bar:
        for rank, random in state["random_state"].items():
            torch.save(random, partial_folder / f"rng-{rank}.pt")
        optimizer = {"state": moments, "param_groups": state["groups"]}
        write_checkpoint(partial_folder, {"model": own, "optimizer": optimizer}, trainer)
    return {
        "step": trainer["step"],
        "parameters": sum(parameter.numel() for parameter in parameters.values()),
        "tensors": len(parameters),
    }


def is_training_state(folder: Path) -> bool:
    """Whether a model folder also holds the state of its training in this form."""
    return (Path(folder) / STATE_FILE).is_file()


def last_rate(state: dict[str, Any]) -> float | None:
    """The base rate of the last update, by the groups; None before the first."""
    rates = [(group["lr_factor"], group["lr"]) for group in state["groups"] if "lr_factor" in group and "lr" in group]
    if not rates or state["step"] == 0:
        return None
    factor, rate = min(rates, key=lambda pair: abs(pair[0] - 1))  # of factor 1, where there is one: exact
    return rate if factor == 1 else rate / factor


def _read(source: ModelFolder, name: str, bar: Any) -> torch.Tensor:
    bar.update()
    return source.read(name)


def _kinds_of(name: str, stored: Any) -> list[str]:
    prefix = f"optimizer.state.{name}."
    return sorted(entry.removeprefix(prefix) for entry in stored if entry.startswith(prefix))


def _groups(entries: CheckpointEntries, tensors: set[str], checkpoint: Path) -> list[dict[str, Any]]:
    """The optimizer's groups, parameters by their names in the module."""
    groups: dict[Any, Any] = {}
    of_groups = {
        name: path[2:]
        for name, path in entries.paths().items()
        if path[:2] == ("optimizer", "param_groups") and len(path) > 2 and name not in tensors
    }
    for name, value in entries.read_all(list(of_groups)).items():
        place(groups, of_groups[name], value)
    found = as_lists(groups)
    try:
        return json.loads(json.dumps(found or []))
    except TypeError as error:
        raise TrainError(f"{checkpoint}: the optimizer's groups hold what is no JSON ({error}).") from error


def _position(trainer: dict[str, Any]) -> dict[str, Any] | None:
    """Which rows the next step reads, for people: for the trainer it follows from the step."""
    identity = trainer.get("identity", {})
    step, begun = (
        trainer["step"],
        [phase for phase in identity.get("phases", []) if phase["first_step"] <= trainer["step"]],
    )
    if not begun:
        return None
    phase, tokens = begun[-1], identity["config"]["tokens_per_step"]
    rows = (step - phase["first_step"]) * (tokens // phase["context_length"])
    return {"phase": phase["name"], "next_row": rows, "rows": phase["rows"]}


def _texts(states: dict[str, torch.Tensor]) -> dict[str, str]:
    """A rank's random states (bytes, as torch has them) by device."""
    return {device: base64.b64encode(state.numpy().tobytes()).decode() for device, state in states.items()}


def _tensors(texts: dict[str, str]) -> dict[str, torch.Tensor]:
    return {
        device: torch.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype=torch.uint8).clone()
        for device, text in texts.items()
    }
