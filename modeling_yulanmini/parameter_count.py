"""Where a model's parameters are: counts by part of the network, and the totals that are quoted."""

import os
import re
from pathlib import Path
from typing import Any

from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, ModelFolder
from modeling_yulanmini.configuration_yulanmini import YuLanMiniConfig
from modeling_yulanmini.create import empty_model
from modeling_yulanmini.modeling_yulanmini import saved_name

# First match wins; the order is the table's.
PARTS = {
    "embedding": r"embed_tokens\.weight$",
    "attention matrices": r"self_attn\.[qkvo]_proj\.weight$",
    "attention biases": r"self_attn\.[qkvo]_proj\.bias$",
    "MLP matrices": r"mlp\.\w+\.weight$",
    "norms": r"norm",
    "head": r"lm_head\.weight$",
}
SCALE = re.compile(r"_alpha$")


def count_parameters(config: YuLanMiniConfig) -> dict[str, Any]:
    """Count the parameters of the model that `config` describes, without making it.

    Returns `parts` (by name), `total` (every trainable parameter once, learnable scales apart), `scales`, and
    `with_untied_head`: the total with embedding and head both counted, which is the size quoted as 2.42B.
    """
    parameters = empty_model(config).named_parameters()
    return counts_of({saved_name(name): parameter.numel() for name, parameter in parameters})


def count_folder(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Count the parameters that a folder's weight files hold, of any Llama-like model; as `count_parameters`."""
    return counts_of({name: tensor.numel for name, tensor in ModelFolder(path).tensors.items()})


def counts_of(sizes: dict[str, int]) -> dict[str, Any]:
    """Group sizes by part of the network, and add them up."""
    parts = dict.fromkeys(PARTS, 0)
    scales = 0
    for name, size in sizes.items():
        if SCALE.search(name):
            scales += size
            continue
        part = next((part for part, pattern in PARTS.items() if re.search(pattern, name)), "other")
        parts[part] = parts.get(part, 0) + size
    total = sum(parts.values())
    head = 0 if parts["head"] else parts["embedding"]
    return {"parts": parts, "total": total, "scales": scales, "with_untied_head": total + head}


def has_weights(path: Path) -> bool:
    """Whether `path` is a folder with weights, not only a config."""
    return path.is_dir() and any(path.glob("*.safetensors")) and (path / CONFIG_NAME).is_file()
