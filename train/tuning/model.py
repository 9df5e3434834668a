"""The model of a tuning run: found, loaded whole, checked against rows and tokenizer, adapted, and saved tuned."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from peft import LoraConfig
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from data_recipes.errors import first_line
from modeling_yulanmini.configuration_yulanmini import refuse_unpinned_kernel  # registers the architecture too
from train.config import ModelPlace
from train.errors import TrainError
from train.model_setup.attention import choose_attention
from train.tuning.config import TuningConfig

ADAPTER_FOLDER = "adapter"


def snapshot(place: ModelPlace, key: str, *, needs: str) -> Path:
    """The folder that a config key names, fetched where it is a Hub id; TrainError where it lacks the file `needs`."""
    folder = Path(place)
    if place.hub_id is not None:
        patterns = ["*.json", "*.jinja", "*.py", *(["*.safetensors"] if key == "model" else [])]
        try:
            folder = Path(snapshot_download(place.hub_id, allow_patterns=patterns))
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise TrainError(
                f"{place} (key '{key}'): no such folder, and the Hub's {place.hub_id} cannot be fetched "
                f"({first_line(error)})."
            ) from error
    elif not folder.is_dir():
        raise TrainError(f"{folder}: no such folder (key '{key}').")
    if not (folder / needs).is_file():
        raise TrainError(f"{folder}: no {needs} (key '{key}'); this is not a {key} folder.")
    return folder


def attention_of(config: TuningConfig, *, pads: bool) -> str:
    """transformers' name of the attention: `auto` is varlen for rows that lie end to end, sdpa for padded ones."""
    if pads:
        return "sdpa" if config.attention == "auto" else config.attention
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = "bfloat16" if "bfloat16" in (config.precision, config.dtype) else "float32"
    return choose_attention(config.attention, precision=precision, device=device)[0]


def load_model(dtype: str, folder: Path, attention: str) -> PreTrainedModel:
    """The model with every weight from the folder; TrainError for one that is damaged or incomplete."""
    try:
        refuse_unpinned_kernel(attention)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder.absolute(),  # which an adapter names as its base, for PEFT to find from any folder
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError, ImportError) as error:
        raise TrainError(f"{folder}: cannot load the model ({' '.join(str(error).split())}).") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "not_finite_keys"):
        if info.get(kind):
            listed = ", ".join(sorted(map(str, info[kind]))[:3])
            raise TrainError(f"{folder}: {len(info[kind])} {kind.replace('_', ' ')} in the checkpoint ({listed}).")
    return model


def check_fit(longest: int, model: PreTrainedModel, tokenizer: Any, folder: Path, *, key: str) -> None:
    """Refuse a tokenizer or a row length (of `key`) that the model was not made for."""
    positions = model.config.max_position_embeddings
    if longest > positions:
        raise TrainError(f"{key} {longest} is more than the {positions} positions of {folder}.")
    vocabulary = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > vocabulary:
        raise TrainError(
            f"the tokenizer has {len(tokenizer)} tokens, the model of {folder} an embedding of {vocabulary} rows. "
            "Use the tokenizer that the model was trained with (key 'tokenizer')."
        )


def lora_config(config: TuningConfig) -> Any:
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
    config: TuningConfig, model: Any, folder: Path, state_dict: dict[str, Any] | None, stop_ids: list[int]
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
