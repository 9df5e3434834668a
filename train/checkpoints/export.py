"""The model of a running or saved training in the Hugging Face layout, with tokenizer and remote code."""

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from data_recipes.manifest import check_new_folder, whole_folder, write_manifest
from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini.checkpoint_reader import TOKENIZER_FILES
from train.checkpoints.sharded import check_contents, one_process, read_trainer
from train.launch.world import World


def export_model(
    model: Any, destination: Path, world: World, *, tokenizer: Path, dtype: str, inputs: dict[str, str], **counts: Any
) -> None:
    """Gather the weights on rank 0 and write `destination` whole, with a manifest. Collective: every rank calls it."""
    weights = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=dist.is_initialized(), cpu_offload=dist.is_initialized())
    )
    if world.is_main:
        write_model_folder(
            weights, model.config, destination, tokenizer=tokenizer, dtype=dtype, inputs=inputs, **counts
        )
    world.barrier()


def export_checkpoint(checkpoint: Path, destination: Path, *, dtype: str = "float32") -> None:
    """Write the model folder of any checkpoint of a run (`RUN/checkpoints/step-N`), in one process without a GPU."""
    check_new_folder(destination)
    trainer = read_trainer(checkpoint)
    check_contents(checkpoint, trainer)
    config = YuLanMiniConfig.from_dict(trainer["model_config"])
    with torch.device("meta"):
        model = YuLanMiniForCausalLM(config)
    model.to_empty(device="cpu")
    weights = get_model_state_dict(model)
    with one_process():
        dcp.load({"model": weights}, checkpoint_id=checkpoint, no_dist=True)
    write_model_folder(
        weights,
        config,
        destination,
        tokenizer=Path(trainer["tokenizer"]),
        dtype=dtype,
        inputs={"run": trainer["fingerprint"]},
        step=trainer["step"],
    )


def copy_tokenizer(folder: Path, destination: Path) -> None:
    """Carry a tokenizer's files along as they are: one that transformers has loaded and saved again names a class that
    older versions do not know."""
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, destination / name)


def write_model_folder(
    weights: dict[str, torch.Tensor],
    config: YuLanMiniConfig,
    destination: Path,
    *,
    tokenizer: Path,
    dtype: str,
    inputs: dict[str, str],
    **counts: Any,
) -> None:
    """Config, weights, tokenizer, remote code and manifest, in a folder that appears whole."""
    target = getattr(torch, dtype)
    with torch.device("meta"):
        model = YuLanMiniForCausalLM(config)
    model = model.to_empty(device="cpu")
    model.load_state_dict(weights, strict=True)
    model = model.to(target)
    if model.config.tie_word_embeddings:
        model.tie_weights()
    model.config.dtype = dtype
    with whole_folder(destination) as partial:
        model.save_pretrained(partial)
        copy_tokenizer(tokenizer, partial)
        write_manifest(partial, kind="model", inputs=inputs, config={"dtype": dtype}, counts=counts)
