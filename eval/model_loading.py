"""Load a causal language model to score: any local Hugging Face folder or Hub id, with a fingerprint of its files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_recipes.errors import first_line
from data_recipes.manifest import fingerprint_of, sha256_file
from eval.errors import EvalError

WEIGHT_PATTERNS = ("*.safetensors", "*.bin")
READ_PATTERNS = ("config.json", "generation_config.json", "tokenizer*.json", "chat_template*", *WEIGHT_PATTERNS)


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode on its device, its tokenizer, and what identifies it in a score file."""

    model: Any
    tokenizer: Any
    provenance: dict[str, Any]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def max_length(self) -> int:
        """Longest context in tokens that the config names."""
        return int(getattr(self.model.config, "max_position_embeddings", 0) or 2048)


def load_model(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load from a folder or the Hub. `dtype` "auto" is float32 on a CPU and bfloat16 on a GPU.

    Raises `EvalError` when the folder is missing, has no config or weights, or cannot be read.
    """
    import safetensors
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import modeling_yulanmini  # noqa: F401  (registers the architecture)

    folder = Path(name)
    if folder.exists():
        check_folder(folder)
    elif str(name).startswith((".", "/", "~")) or str(name).count("/") > 1:
        raise EvalError(f"{name}: no such folder. Give a model folder (config.json and weights) or a Hub id.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise EvalError(f"dtype '{dtype}': expected auto, float32, bfloat16 or float16.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise EvalError(f"{name}: cannot be loaded ({first_line(error)}). Is the folder complete?") from error
    if len(tokenizer) > model.config.get_text_config().vocab_size:
        raise EvalError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}; "
            "they do not belong together."
        )
    provenance = {
        "name": folder.name if folder.exists() else str(name),
        "model_type": model.config.model_type,
        "fingerprint": fingerprint(folder) if folder.exists() else None,
        "revision": getattr(model.config, "_commit_hash", None),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": dtype,
        "device": device.split(":")[0],
    }
    return LoadedModel(model.to(device).eval(), tokenizer, provenance)


def check_folder(folder: Path) -> None:
    """`EvalError` when a folder cannot hold a model."""
    if not (folder / "config.json").is_file():
        raise EvalError(f"{folder}: no config.json, so not a model folder.")
    if not any(any(folder.glob(pattern)) for pattern in WEIGHT_PATTERNS):
        raise EvalError(f"{folder}: no weights (expected model.safetensors). Was the export interrupted?")


def fingerprint(folder: Path) -> str:
    """Hex SHA-256 over the names and contents of the files that decide what a model answers."""
    return fingerprint_of({path.name: sha256_file(path) for pattern in READ_PATTERNS for path in folder.glob(pattern)})
