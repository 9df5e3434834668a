"""The model of instruction tuning: loaded whole, checked against rows and tokenizer, adapted, and saved tuned."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from modeling_yulanmini.configuration_yulanmini import refuse_unpinned_kernel  # registers the architecture too
from train.errors import TrainError
from train.tuning.config import SftConfig

ADAPTER_FOLDER = "adapter"


def load_model(config: SftConfig, folder: Path) -> PreTrainedModel:
    """The model with every weight from the folder; TrainError for one that is damaged or incomplete."""
    try:
        refuse_unpinned_kernel(config.attention)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder.absolute(),  # which an adapter names as its base, for PEFT to find from any folder
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attention,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError, ImportError) as error:
        raise TrainError(f"{folder}: cannot load the model ({' '.join(str(error).split())}).") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "not_finite_keys"):
        if info.get(kind):
            listed = ", ".join(sorted(map(str, info[kind]))[:3])
            raise TrainError(f"{folder}: {len(info[kind])} {kind.replace('_', ' ')} in the checkpoint ({listed}).")
    return model


def check_fit(config: SftConfig, model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Refuse a tokenizer or a row length that the model was not made for."""
    positions = model.config.max_position_embeddings
    if config.max_length > positions:
        raise TrainError(f"max_length {config.max_length} is more than the {positions} positions of {folder}.")
    vocabulary = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > vocabulary:
        raise TrainError(
            f"the tokenizer has {len(tokenizer)} tokens, the model of {folder} an embedding of {vocabulary} rows. "
            "Use the tokenizer that the model was trained with (key 'tokenizer')."
        )


def lora_config(config: SftConfig) -> Any:
    """PEFT's config of the adapters, or None for full tuning."""
    if config.lora is None:
        return None
    return LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=config.lora.target_modules,
        task_type="CAUSAL_LM",
    )


def save_model(
    config: SftConfig, model: Any, folder: Path, state_dict: dict[str, Any] | None, stop_ids: list[int]
) -> None:
    """The tuned model as an ordinary folder; adapters are merged into it, and kept beside it."""
    if config.lora is not None:
        model.save_pretrained(folder / ADAPTER_FOLDER, state_dict=state_dict)
        if state_dict is not None:
            model.load_state_dict(state_dict)
            state_dict = None
        model = model.merge_and_unload()
    dtype = getattr(torch, config.save_dtype)
    if state_dict is not None:
        state_dict = {key: value.to(dtype) for key, value in state_dict.items()}
    else:
        model = model.to(dtype)
    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id, eos_token_id=stop_ids, pad_token_id=model.config.pad_token_id
    )
    model.save_pretrained(folder, state_dict=state_dict)
