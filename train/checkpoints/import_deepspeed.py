"""Turn a DeepSpeed universal checkpoint, as the authors published theirs, into a checkpoint of this trainer.

    global_step243198_universal/
        mp_rank_00_model_states.pt
        zero/<parameter name>/{fp32,exp_avg,exp_avg_sq,step}.pt

Each parameter's float32 master weight, both AdamW moments and its step counter go over, one tensor in memory at a
time. Files are unpickled with `weights_only`. Use the result as `init: {path: DIR, optimizer: true}`.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data_recipes.manifest import check_new_folder, sha256_file, whole_folder
from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini.modeling_yulanmini import saved_name
from train.checkpoints.tensors import LazyTensor, write_checkpoint
from train.config import OptimizerSettings, ParametrizationSettings
from train.errors import TrainError
from train.model_setup.parameter_groups import parameter_groups
from train.model_setup.parametrization import make_parametrization

STATES_FILE = "mp_rank_00_model_states.pt"
MOMENTS = ("exp_avg", "exp_avg_sq")


def import_optimizer(
    universal: Path, destination: Path, *, config: YuLanMiniConfig, tokenizer: Path, progress: bool = False
) -> dict[str, Any]:
    """Write the checkpoint folder `destination`, absent or complete; returns `step`, `parameters` and `tensors`.

    `config` is the model's (its folder is published beside the universal one), `tokenizer` the folder that an export
    of the checkpoint takes its tokenizer from. Groups, betas, eps and weight decay are the published ones.

    Raises `TrainError`, naming file and parameter, for a parameter that is missing, surplus, of another shape, not
    finite or not safely readable, and `DataError` if `destination` exists.
    """
    check_new_folder(destination)
    zero = Path(universal) / "zero"
    if not zero.is_dir():
        raise TrainError(f"{universal}: no zero/ in it; expected a DeepSpeed universal checkpoint.")
    with torch.device("meta"):
        model = YuLanMiniForCausalLM(config)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    parameters = dict(model.named_parameters())
    folders = {name: parameter_folder(zero, name) for name in parameters}
    refuse_mismatch(zero, {folder.name for folder in folders.values()}, tied=config.tie_word_embeddings)
    step = global_step(Path(universal))

    def lazy(name: str, kind: str) -> LazyTensor:
        shape = tuple(parameters[name].shape)
        return LazyTensor(shape, torch.float32, partial(read_tensor, folders[name] / f"{kind}.pt", shape))

    bar = tqdm(total=len(parameters), desc="import", unit="tensor", disable=not progress)
    weights = {name: lazy(name, "fp32") for name in parameters}
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    moments: dict[str, dict[str, Any]] = {}
    for name in parameters:
        # Every file is opened once here, lazily mapped, so that a bad one is found before hours of writing.
        for kind in ("fp32", *MOMENTS):
            check_shape(folders[name] / f"{kind}.pt", tuple(parameters[name].shape))
        counter = torch.tensor(float(read_step(folders[name] / "step.pt", default=step)))
        moments[name] = {kind: lazy(name, kind) for kind in MOMENTS} | {"step": counter}
        bar.update()
    bar.close()
    state = {"model": weights, "optimizer": {"state": moments, "param_groups": published_groups(model)}}
    trainer = {
        "step": step,
        "model_config": config.to_dict(),
        "tokenizer": str(Path(tokenizer).absolute()),
        "fingerprint": sha256_file(Path(universal) / STATES_FILE),
        "imported_from": str(Path(universal).name),
    }
    with whole_folder(destination) as folder:
        write_checkpoint(folder, state, trainer)
    return {"step": step, "parameters": sum(p.numel() for p in parameters.values()), "tensors": len(parameters)}


def parameter_folder(zero: Path, name: str) -> Path:
    """Where a parameter's files are: under its published name, or its own if this model was trained with DeepSpeed."""
    own = zero / name
    return own if own.is_dir() else zero / saved_name(name)


def published_groups(model: YuLanMiniForCausalLM) -> list[dict[str, Any]]:
    """AdamW's groups as the trainer makes them by default (Table 3, facts.md 3.1), with parameters by name."""
    config, settings = model.config, OptimizerSettings()
    base_width = round(config.dim_model_base_lr or config.hidden_size)
    parametrization = make_parametrization(
        ParametrizationSettings(base_width=base_width),
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
    )
    groups = parameter_groups(model, lr_factor=parametrization.lr_factor, settings=settings)
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [group | {"params": [names[id(p)] for p in group["params"]]} for group in optimizer.param_groups]


def refuse_mismatch(zero: Path, expected: set[str], *, tied: bool) -> None:
    """Raise `TrainError` unless the folders are the model's parameters, one for one."""
    found = {path.name for path in zero.iterdir() if path.is_dir()}
    if tied:  # DeepSpeed may keep the tied head under its own name as well
        found -= {"lm_head.weight"}
    if missing := sorted(expected - found):
        raise TrainError(f"{zero / missing[0]}: missing, with {len(missing) - 1} more. Is this the model's config?")
    if surplus := sorted(found - expected):
        raise TrainError(f"{zero / surplus[0]}: no parameter of the model, with {len(surplus) - 1} more like it.")


def load_file(path: Path) -> Any:
    """The content of a .pt file, tensors mapped, not read; only tensors and plain containers are unpickled."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise TrainError(f"{path}: missing.") from None
    except Exception as error:  # pickle, zip and torch each have their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TrainError(f"{path}: damaged, or not safe to unpickle ({reason}).") from error


def tensor_of(path: Path) -> torch.Tensor:
    """DeepSpeed stores a tensor under `param`, beside notes on how slices were joined; older files, the tensor."""
    content = load_file(path)
    tensor = content.get("param") if isinstance(content, dict) else content
    if not isinstance(tensor, torch.Tensor):
        raise TrainError(f"{path}: no tensor in it, found {type(content).__name__}.")
    return tensor


def check_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Raise `TrainError` unless the file's tensor has this shape; scales may be [] or [1]."""
    tensor = tensor_of(path)
    if tuple(tensor.shape) != shape and not (tensor.numel() == 1 and shape == (1,)):
        raise TrainError(f"{path}: shape {list(tensor.shape)}, but the model's config makes it {list(shape)}.")


def read_tensor(path: Path, shape: tuple[int, ...]) -> torch.Tensor:
    """The file's tensor in float32."""
    tensor = tensor_of(path).to(torch.float32, copy=True).reshape(shape)
    if not torch.isfinite(tensor).all():
        raise TrainError(f"{path}: holds NaN or infinity.")
    if path.stem == "exp_avg_sq" and (tensor < 0).any():
        raise TrainError(f"{path}: negative values in a mean of squares.")
    return tensor


def read_step(path: Path, *, default: int) -> int:
    """A parameter's own counter of updates, which corrects the bias of its moments."""
    if not path.is_file():
        return default
    value = load_file(path)
    return int(value)


def global_step(universal: Path) -> int:
    """The run's step: `global_steps` of the model states, else the number in the folder's name."""
    try:
        states = load_file(universal / STATES_FILE)
        return int(states["global_steps"])
    except (TrainError, KeyError, TypeError, ValueError) as error:
        number = re.search(r"global_step(\d+)", universal.resolve().name)
        if number is None or not (universal / STATES_FILE).is_file():
            raise TrainError(f"{universal / STATES_FILE}: global_steps cannot be read ({error}).") from error
        return int(number[1])
