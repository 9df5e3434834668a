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

from modeling_yulanmini.certificate import Side, compare, make_probes
from modeling_yulanmini.checkpoint_reader import (
    CONFIG_NAME,
    GENERATION_CONFIG_NAME,
    ModelFolder,
    assemble,
    read_config,
    read_json,
)
from modeling_yulanmini.checkpoint_writer import (
    DTYPES,
    TensorToWrite,
    new_folder,
    refuse_used_destination,
    write_model,
)
from modeling_yulanmini.configuration_yulanmini import CheckpointError, YuLanMiniConfig
from modeling_yulanmini.folding import TARGETS, Fold, Target, plan_folds, query_multiplier

CERTIFICATE_NAME = "merge_certificate.json"
CERTIFICATE_SCHEMA = 1


def merge_to_llama(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    compare: bool = True,
    progress: bool = False,
) -> dict[str, Any]:
    """Merge the model in `src` into a plain Llama in `dst`; returns the certificate (see `merge`)."""
    return merge(src, dst, target="llama", dtype=dtype, compare_logits=compare, progress=progress)


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
    folder = plan.folder
    with new_folder(dst) as out:
        bar = "merge" if progress else None
        write_model(out, plan.result_config, plan.tensors(), files=folder.companions(), progress=bar)
        if not (out / GENERATION_CONFIG_NAME).is_file():
            write_generation_config(out, plan.result_config)
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
    target: Target
    dtype: str
    folds: list[Fold]
    result_config: dict[str, Any]

    def tensors(self) -> list[TensorToWrite]:
        """The result's tensors, to be computed when their turn to be written comes."""
        dtype = DTYPES[self.dtype]
        return [TensorToWrite(fold.name, fold.shape, dtype, partial(fold.blocks, self.folder)) for fold in self.folds]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors())

    def summary(self) -> dict[str, Any]:
        """What the merge makes of what."""
        return {
            "target": self.target.model_type,
            "architecture": self.target.architecture,
            "dtype": self.dtype,
            "parameters": self.nbytes // DTYPES[self.dtype].itemsize,
            "bytes": self.nbytes,
            "folded": folded_multipliers(self.config),
        }


def plan_merge(
    src: str | os.PathLike[str], dst: str | os.PathLike[str], *, target: str = "llama", dtype: str = "float32"
) -> MergePlan:
    """Check that `src` can be merged into `dst`, reading headers and scales only; raises what `merge` raises."""
    refuse_used_destination(Path(dst))
    chosen = choose(target, TARGETS, "target")
    choose(dtype, DTYPES, "dtype")
    folder = ModelFolder(src)
    config = read_config(folder.path / CONFIG_NAME)
    folder.check_tokenizer(config.vocab_size)
    folds = plan_folds(folder, config, chosen)
    result_config = merged_config(folder, config, chosen, dtype)
    try:
        CONFIG_MAPPING[target].from_dict(dict(result_config))
    except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
        reason = error.__cause__ or error
        raise CheckpointError(f"{folder.path / CONFIG_NAME}: makes no {target} config ({reason}).") from error
    return MergePlan(folder, config, chosen, dtype, folds, result_config)


def choose(name: str, known: dict[str, Any], what: str) -> Any:
    """The entry of that name, or a `CheckpointError` that lists the names there are."""
    if name not in known:
        raise CheckpointError(f"no {what} '{name}'. Known: {', '.join(known)}.")
    return known[name]


def merged_config(folder: ModelFolder, config: YuLanMiniConfig, target: Target, dtype: str) -> dict[str, Any]:
    """The config of the result, with the keys that older and newer readers look for (`rope_theta` and
    `rope_parameters`, `torch_dtype` and `dtype`): a reader that misses one falls back to another model silently."""
    rope = dict(config.rope_parameters or {})
    merged: dict[str, Any] = {
        "architectures": [target.architecture],
        "model_type": target.model_type,
        "attention_dropout": config.attention_dropout,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id if config.pad_token_id is not None else padding_id(folder),
        "hidden_act": config.hidden_act,
        "hidden_size": config.hidden_size,
        "initializer_range": config.initializer_range,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": rope,
        "rope_theta": rope["rope_theta"],
        "tie_word_embeddings": config.tie_word_embeddings and target.keeps_tied,
        "head_dim": config.head_dim,
        "dtype": dtype,
        "torch_dtype": dtype,
        "transformers_version": transformers_version,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }
    if rope.get("rope_type", "default") != "default":
        merged["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    if target.model_type == "llama":
        merged |= {"attention_bias": config.attention_bias, "mlp_bias": False, "pretraining_tp": 1}
    else:
        merged |= {"use_sliding_window": False}
    return merged


def padding_id(folder: ModelFolder) -> int | None:
    """The id of the tokenizer's padding token, which published YuLan-Mini configs leave to the tokenizer."""
    if not all((folder.path / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return None
    token = read_json(folder.path / "tokenizer_config.json").get("pad_token")
    text = token.get("content") if isinstance(token, dict) else token
    added = read_json(folder.path / "tokenizer.json").get("added_tokens", [])
    return next((entry["id"] for entry in added if entry["content"] == text), None)


def write_generation_config(folder: Path, merged: dict[str, Any]) -> None:
    """A generation config that stops at the end-of-text token, for a source that came without one."""
    ids = {key: merged[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    GenerationConfig(**ids).save_pretrained(folder)


def folded_multipliers(config: YuLanMiniConfig) -> dict[str, Any]:
    """What was folded besides the learnable scales, for the record."""
    return {
        "embedding": config.scale_emb,
        "residual": config.residual_multiplier,
        "query": query_multiplier(config),
        "logits": config.logits_multiplier,
        "norm": config.ln_scale,
        "norm_offset": 1.0 if config.rms_type == "gemma" else 0.0,
        "learnable_scales": config.wesar_weights,
    }


def compare_sides(plan: MergePlan, out: Path) -> dict[str, Any]:
    """Compare the source with the merged weights before rounding, and with what was written to `out`."""
    result = ModelFolder(out)
    target_config = CONFIG_MAPPING[plan.target.model_type].from_pretrained(out)
    folds = {fold.name: fold for fold in plan.folds}

    def exact(name: str) -> torch.Tensor:
        return assemble(folds[name].blocks(plan.folder), folds[name].shape, torch.float32)

    source = Side(plan.config, partial(plan.folder.read, dtype=torch.float32))
    written = Side(target_config, partial(result.read, dtype=torch.float32))
    probes = make_probes(plan.folder, plan.config)
    if plan.dtype == "float32":
        return compare(source, written, None, probes)
    return compare(source, Side(target_config, exact), written, probes)
