"""Merge a YuLan-Mini model into a stock architecture that every server knows: same function, no scales left.

Weights stream from file to file in float64 and are rounded once. The result appears whole or not at all, with a
certificate that says how its logits compare.
"""

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, GenerationConfig
from transformers import __version__ as transformers_version

from modeling_yulanmini.certificate import compare, make_probes, streamed_logits
from modeling_yulanmini.checkpoint_reader import (
    CONFIG_NAME,
    GENERATION_CONFIG_NAME,
    ModelFolder,
    read_config,
    read_json,
)
from modeling_yulanmini.checkpoint_writer import (
    DTYPES,
    TensorToWrite,
    choose,
    new_folder,
    refuse_used_destination,
    write_model,
)
from modeling_yulanmini.configuration_yulanmini import CheckpointError, YuLanMiniConfig
from modeling_yulanmini.folding import TARGETS, Target, plan_folds, query_multiplier

CERTIFICATE_NAME = "merge_certificate.json"
CERTIFICATE_SCHEMA = 1
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
# What the result's config takes over as it is.
KEPT_KEYS = (
    *TOKEN_IDS,
    "attention_dropout",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "vocab_size",
)


def merge(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    target: str = "llama",
    dtype: str = "float32",
    compare_logits: bool = True,
    progress: bool = False,
) -> dict[str, Any]:
    """Merge the YuLan-Mini model in `src` into a `target` ("llama" or "qwen2") model in `dst`.

    The weights are stored as `dtype` ("float32" or "bfloat16"); tokenizer, chat template and generation config are
    carried over. Returns the content of `merge_certificate.json`: checksums of both sides, the multipliers that were
    folded, and, with `compare_logits`, how the logits compare.

    Raises `CheckpointError` (naming file and tensor) for input that is broken or contradicts itself, for an option
    that `target` cannot express, for a `dst` that is not empty, and for logits that differ; `dst` is then as before.
    """
    plan = plan_merge(src, dst, target=target, dtype=dtype)
    folder, merged = plan.folder, plan.merged_config
    with new_folder(dst) as out:
        files = folder.companions(code=False)
        write_model(out, merged, plan.tensors, files=files, progress="merge" if progress else None)
        if not (out / GENERATION_CONFIG_NAME).is_file():
            GenerationConfig(**{key: merged[key] for key in TOKEN_IDS}).save_pretrained(out)
        certificate = {
            "schema_version": CERTIFICATE_SCHEMA,
            **plan.summary(),
            "comparison": compare_sides(plan, out) if compare_logits else None,
            "source": {"model_type": folder.config.get("model_type"), "sha256": folder.checksums()},
            "result": {"sha256": ModelFolder(out).checksums()},
            "versions": {"torch": torch.__version__, "transformers": transformers_version},
        }
        (out / CERTIFICATE_NAME).write_text(json.dumps(certificate, indent=2) + "\n", encoding="utf-8")
    return certificate


@dataclass(frozen=True)
class MergePlan:
    """A merge that has been found possible: everything but the arithmetic."""

    folder: ModelFolder
    config: YuLanMiniConfig
    dtype: str
    tensors: list[TensorToWrite]
    merged_config: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """The result's kind and size, and what is folded into it besides the learnable scales."""
        size = sum(tensor.nbytes for tensor in self.tensors)
        return {
            "target": self.merged_config["model_type"],
            "architecture": self.merged_config["architectures"][0],
            "dtype": self.dtype,
            "parameters": size // DTYPES[self.dtype].itemsize,
            "bytes": size,
            "folded": {
                "embedding": self.config.scale_emb,
                "residual": self.config.residual_multiplier,
                "query": query_multiplier(self.config),
                "logits": self.config.logits_multiplier,
                "norm": self.config.ln_scale,
                "norm_offset": 1.0 if self.config.rms_type == "gemma" else 0.0,
                "learnable_scales": self.config.wesar_weights,
            },
        }


def plan_merge(
    src: str | os.PathLike[str], dst: str | os.PathLike[str], *, target: str = "llama", dtype: str = "float32"
) -> MergePlan:
    """Check that `src` can be merged into `dst`, reading headers and scales only; raises what `merge` raises."""
    refuse_used_destination(Path(dst))
    chosen = choose(target, TARGETS, "target")
    torch_dtype = choose(dtype, DTYPES, "dtype")
    folder = ModelFolder(src)
    config = read_config(folder.path / CONFIG_NAME)
    folder.check_tokenizer(config.vocab_size)
    tensors = plan_folds(folder, config, chosen, torch_dtype)
    merged = merged_config(folder, config, chosen, dtype)
    try:
        CONFIG_MAPPING[target].from_dict(dict(merged))
    except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
        path = folder.path / CONFIG_NAME
        raise CheckpointError(f"{path}: makes no {target} config ({error.__cause__ or error}).") from error
    return MergePlan(folder, config, dtype, tensors, merged)


def merged_config(folder: ModelFolder, config: YuLanMiniConfig, target: Target, dtype: str) -> dict[str, Any]:
    """The config of the result, with the keys that older and newer readers look for (`rope_theta` and
    `rope_parameters`, `torch_dtype` and `dtype`): a reader that misses one falls back to another model silently."""
    rope = dict(config.rope_parameters or {})
    merged: dict[str, Any] = {key: getattr(config, key) for key in KEPT_KEYS} | {
        "architectures": [target.architecture],
        "model_type": target.model_type,
        "rope_parameters": rope,
        "rope_theta": rope["rope_theta"],
        "tie_word_embeddings": config.tie_word_embeddings and target.keeps_tied,
        "dtype": dtype,
        "torch_dtype": dtype,
        "transformers_version": transformers_version,
        "use_cache": True,
    }
    if merged["pad_token_id"] is None:
        merged["pad_token_id"] = padding_id(folder)
    if rope.get("rope_type", "default") != "default":
        merged["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    if target.model_type == "llama":
        return merged | {"attention_bias": config.attention_bias, "mlp_bias": False, "pretraining_tp": 1}
    return merged | {"use_sliding_window": False}


def padding_id(folder: ModelFolder) -> int | None:
    """The id of the tokenizer's padding token, which published YuLan-Mini configs leave to the tokenizer."""
    settings = folder.path / "tokenizer_config.json"
    if folder.tokenizer is None or not settings.is_file():
        return None
    token = read_json(settings).get("pad_token")
    text = token.get("content") if isinstance(token, dict) else token
    return folder.tokenizer.token_to_id(text) if text else None


def compare_sides(plan: MergePlan, out: Path) -> dict[str, Any]:
    """Compare the source with the merged weights before rounding, and with what was written to `out`."""
    tensors = {tensor.name: tensor for tensor in plan.tensors}
    config = CONFIG_MAPPING[plan.merged_config["model_type"]].from_pretrained(out)
    source = partial(streamed_logits, plan.config, partial(plan.folder.read, dtype=torch.float32))
    written = partial(streamed_logits, config, partial(ModelFolder(out).read, dtype=torch.float32))
    probes = make_probes(plan.folder, plan.config)
    if plan.dtype == "float32":
        return compare(source, written, None, probes)
    exact = partial(streamed_logits, config, lambda name: tensors[name].values(torch.float32))
    return compare(source, exact, written, probes)
