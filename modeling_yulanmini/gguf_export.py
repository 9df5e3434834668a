"""Write a model as GGUF, the file that llama.cpp and what is built on it load.

A YuLan-Mini model is merged on the way, a merged Llama or Qwen2 is taken as it is. llama.cpp's "llama" rotates pairs
of neighbours where transformers rotates halves, so the rows of q and k, weights and biases alike, change places.
"""

import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tqdm import tqdm

from modeling_yulanmini.certificate import PROBE_TEXT
from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, MODEL_TYPES, ModelFolder, read_config
from modeling_yulanmini.checkpoint_writer import TensorToWrite, choose, new_path, refuse_used_destination, stored_tensor
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.folding import TARGETS, Target, plan_folds
from modeling_yulanmini.gguf_tokenizer import GgufVocabulary, agreement, read_vocabulary
from modeling_yulanmini.merge import merged_config

FILE_TYPES = {
    "float32": (torch.float32, gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "float16": (torch.float16, gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bfloat16": (torch.bfloat16, gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}
# Llama's and Qwen2's names are the same; 256 layers are more than any such model has.
NAMES = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 256)


def export_gguf(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    dtype: str = "float16",
    progress: bool = False,
) -> dict[str, Any]:
    """Write the model in `src` to the new file `dst`, absent or complete, its matrices in `dtype`.

    `dtype` is "float32", "float16" or "bfloat16"; vectors (norms, biases) are float32 always, as llama.cpp wants
    them. Returns architecture, dtype, tensors, bytes, and `tokenizer_agreement`: the share of a text's tokens that
    llama.cpp's tokenizer finds too (None without a tokenizer: such a file takes token ids only).

    Raises `CheckpointError` for bad input, for what GGUF or llama.cpp's model cannot hold (another tokenizer, a
    scaled rotary embedding other than linear, a value beyond float16), and if `dst` exists.
    """
    torch_dtype, matrix_type, file_type = choose(dtype, FILE_TYPES, "dtype")
    if Path(dst).is_dir():
        raise CheckpointError(f"{dst}: is a folder; give the name of a file, such as {Path(dst) / 'model.gguf'}.")
    refuse_used_destination(Path(dst))
    folder = ModelFolder(src)
    config, tensors = as_stock_model(folder)
    vocabulary = read_vocabulary(folder.path, config["vocab_size"])
    with new_path(dst) as path:
        writer = gguf.GGUFWriter(path, config["model_type"])
        writer.add_file_type(file_type)
        add_hyperparameters(writer, config, name=Path(src).resolve().name)
        add_vocabulary(writer, vocabulary)
        for tensor in tensors:
            is_matrix = len(tensor.shape) > 1
            size = torch.Size(tensor.shape).numel() * (torch_dtype.itemsize if is_matrix else 4)
            kind = matrix_type if is_matrix else gguf.GGMLQuantizationType.F32
            writer.add_tensor_info(gguf_name(tensor.name), tensor.shape, np.dtype(np.float32), size, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tqdm(tensors, desc="gguf", unit="tensor", disable=not progress):
            writer.write_tensor_data(stored_values(tensor, config, torch_dtype))
        writer.close()
    return {
        "architecture": config["model_type"],
        "dtype": dtype,
        "tensors": len(tensors),
        "bytes": Path(dst).stat().st_size,
        "tokenizer_agreement": (
            round(agreement(folder.tokenizer, vocabulary, PROBE_TEXT), 4) if folder.tokenizer and vocabulary else None
        ),
    }


def as_stock_model(folder: ModelFolder) -> tuple[dict[str, Any], list[TensorToWrite]]:
    """Config and tensors of the model as Llama or Qwen2: a plan to merge it, or its own taken one to one."""
    path = folder.path / CONFIG_NAME
    model_type = folder.config.get("model_type")
    if model_type in MODEL_TYPES:
        config = read_config(path)
        tensors = plan_folds(folder, config, TARGETS["llama"])
        content = merged_config(folder, config, TARGETS["llama"], "float32")
    elif model_type in TARGETS:
        content = folder.config
        tensors = [stored_tensor(folder, name) for name in folder.tensors]
        refuse_output_bias(folder, TARGETS[model_type])
    else:
        raise CheckpointError(f"{path}: model_type is {model_type!r}, expected yulanmini, llama or qwen2.")
    folder.check_tokenizer(content["vocab_size"])
    return content, tensors


def refuse_output_bias(folder: ModelFolder, target: Target) -> None:
    """Raise `CheckpointError` for an output bias where llama.cpp's model has none."""
    for name, stored in folder.tensors.items():
        if name.endswith("o_proj.bias") and not target.has_output_bias and folder.read(name).any():
            raise CheckpointError(f"{stored.file}: tensor {name} is not zero, but {target.model_type} has none.")


def gguf_name(name: str) -> str:
    """GGUF's name of a parameter; Llama and Qwen2 share theirs."""
    found = NAMES.get_name(name, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise CheckpointError(f"tensor {name} has no name in GGUF.")
    return found


def heads_permuted(name: str, config: dict[str, Any]) -> int:
    """Into how many heads the rows of this tensor are re-ordered; 0 for rows that stay."""
    if config["model_type"] != "llama":  # llama.cpp's qwen2 rotates halves, as transformers does
        return 0
    if ".q_proj." in name:
        return config["num_attention_heads"]
    return config["num_key_value_heads"] if ".k_proj." in name else 0


def interleave_halves(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Re-order the rows of each head from (first half, second half) to neighbours (0, half, 1, half + 1, ...)."""
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(rows.shape)


def stored_values(tensor: TensorToWrite, config: dict[str, Any], matrix_dtype: torch.dtype) -> np.ndarray:
    """A tensor's values as they lie in the file: folded in float64, rounded once, rows in llama.cpp's order."""
    dtype = matrix_dtype if len(tensor.shape) > 1 else torch.float32
    values = tensor.values(dtype)
    if dtype == torch.float16 and not torch.isfinite(values).all():
        raise CheckpointError(f"tensor {tensor.name} is beyond float16; use bfloat16 or float32.")
    if heads := heads_permuted(tensor.name, config):
        values = interleave_halves(values, heads)
    return values.contiguous().view(torch.uint8 if dtype == torch.bfloat16 else dtype).numpy()


def add_hyperparameters(writer: gguf.GGUFWriter, config: dict[str, Any], *, name: str) -> None:
    """The keys from which llama.cpp builds the network."""
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config.get("rope_parameters") or {"rope_theta": config["rope_theta"]}
    writer.add_name(name)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope_type = rope.get("rope_type", "default")
    if rope_type == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif rope_type != "default":
        raise CheckpointError(f"rope_type '{rope_type}' is not written to GGUF; expected default or linear.")


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: GgufVocabulary | None) -> None:
    """The tokenizer's keys; "none" tells llama.cpp that there is none."""
    if vocabulary is None:
        writer.add_tokenizer_model("none")
        return
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(vocabulary.adds_space_prefix)
    for role, index in vocabulary.special_ids.items():
        getattr(writer, f"add_{role}_token_id")(index)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)
