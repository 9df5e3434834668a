"""The model of a tuning run: found, loaded whole, checked against rows and tokenizer, adapted, and saved tuned."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig, PreTrainedModel
from transformers.utils import is_bitsandbytes_available, is_liger_kernel_available

from data_recipes.errors import first_line, nearest
from modeling_yulanmini.configuration_yulanmini import (  # registers the architecture too
    YuLanMiniConfig,
    refuse_unpinned_kernel,
)
from train.config import ModelPlace
from train.errors import TrainError
from train.model_setup.attention import choose_attention
from train.tuning.config import QuantizationSettings, TuningConfig

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


def load_model(
    dtype: str, folder: Path, attention: str, quantization: QuantizationSettings | None = None
) -> PreTrainedModel:
    """The model with every weight from the folder; TrainError for one that is damaged or incomplete."""
    try:
        refuse_unpinned_kernel(attention)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder.absolute(),  # which an adapter names as its base, for PEFT to find from any folder
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            quantization_config=four_bits(quantization, dtype),
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError, ImportError) as error:
        raise TrainError(f"{folder}: cannot load the model ({' '.join(str(error).split())}).") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "not_finite_keys"):
        if info.get(kind):
            listed = ", ".join(sorted(map(str, info[kind]))[:3])
            raise TrainError(f"{folder}: {len(info[kind])} {kind.replace('_', ' ')} in the checkpoint ({listed}).")
    return model


def four_bits(settings: QuantizationSettings | None, dtype: str) -> BitsAndBytesConfig | None:
    """transformers' config of weights in 4 bits; TrainError where bitsandbytes is missing."""
    if settings is None:
        return None
    if not is_bitsandbytes_available():
        raise TrainError("quantization: bitsandbytes is not installed. pip install bitsandbytes, or take it out.")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.kind,
        bnb_4bit_use_double_quant=settings.double,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def choose_trained(config: TuningConfig, model: PreTrainedModel, folder: Path) -> None:
    """Freeze the scales where the config says so; TrainError for keys that have nothing to act on here."""
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith("_alpha")]
    if config.train_scales is not None and not scales:
        raise TrainError(f"train_scales: the model of {folder} has no scales (alphas); it is merged. Take the key out.")
    for scale in scales if config.train_scales is False else ():
        scale.requires_grad_(False)
    if config.trainer.get("use_liger_kernel"):
        if not is_liger_kernel_available():
            raise TrainError(
                "trainer.use_liger_kernel: liger-kernel is not installed. Install it, or take the key out."
            )
        if model.config.model_type == YuLanMiniConfig.model_type:
            raise TrainError("trainer.use_liger_kernel: Liger has no kernels for an unmerged model; take the key out.")
    if config.lora is not None and isinstance(config.lora.target_modules, list):
        linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        last = sorted({name.rpartition(".")[2] for name in linear} - {"lm_head"})
        for wanted in config.lora.target_modules:
            if wanted == "lm_head":
                raise TrainError("lora.target_modules: an adapter on lm_head would not be trained; leave it out.")
            if not any(name == wanted or name.endswith(f".{wanted}") for name in linear):
                raise TrainError(
                    f"lora.target_modules: {folder} has no linear layer '{wanted}'.{nearest(wanted, last)}"
                )


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
    config: TuningConfig,
    model: Any,
    folder: Path,
    state_dict: dict[str, Any] | None,
    *,
    base: Path,
    stop_ids: list[int],
) -> None:
    """The tuned model as an ordinary folder; adapters are merged into `base`, and kept beside it."""
    if config.lora is not None:
        model.save_pretrained(folder / ADAPTER_FOLDER, state_dict=state_dict)
        if state_dict is not None or config.quantization is not None:
            # Of a sharded model only the adapter is whole here, and weights in 4 bits are none to be merged into.
            whole = load_model(config.dtype, base, "sdpa").to("cpu")
            model, state_dict = PeftModel.from_pretrained(whole, folder / ADAPTER_FOLDER), None
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
