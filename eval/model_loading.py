"""Load a causal language model: any local Hugging Face folder (a LoRA adapter's too) or Hub id, with a fingerprint."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from data_recipes.errors import first_line
from data_recipes.manifest import fingerprint_of, sha256_file
from data_recipes.places import local_folder
from eval.errors import EvalError
from train.launch.world import World

DTYPES = ("float32", "bfloat16", "float16")
WEIGHT_PATTERNS = ("*.safetensors", "*.bin")
ADAPTER_NAME = "adapter_config.json"
READ_PATTERNS = (
    "config.json",
    ADAPTER_NAME,
    "generation_config.json",
    "tokenizer*.json",
    "chat_template*",
    *WEIGHT_PATTERNS,
)


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode on its device, its tokenizer, and what identifies it in a score file.

    `world`: the processes that have a copy each and score together, None for one alone.
    """

    model: Any
    tokenizer: Any
    provenance: dict[str, Any]
    world: World | None = None

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

    Raises what `check_model` raises, and `EvalError` when the model cannot be loaded.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import modeling_yulanmini  # noqa: F401  (registers the architecture)

    folder, device, dtype = check_model(name, device=device, dtype=dtype)
    base = base_of_adapter(folder) if folder else None
    try:
        has_tokenizer = folder is None or base is None or (folder / "tokenizer_config.json").is_file()
        tokenizer = AutoTokenizer.from_pretrained(name if has_tokenizer else base, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise EvalError(f"{name}: cannot be loaded ({first_line(error)}). Is the folder complete?") from error
    if len(tokenizer) > model.config.get_text_config().vocab_size:
        raise EvalError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}; "
            "they do not belong together."
        )
    provenance = {
        "name": folder.name if folder else str(name),
        "model_type": model.config.model_type,
        "adapter": base is not None,
        "fingerprint": fingerprint(folder) if folder else None,
        "revision": getattr(model.config, "_commit_hash", None),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": dtype,
        "device": device.split(":")[0],
    }
    return LoadedModel(model.to(device).eval(), tokenizer, provenance)


def check_model(name: str | Path, *, device: str = "auto", dtype: str = "auto") -> tuple[Path | None, str, str]:
    """What can be known without loading: the folder (None for a Hub id), the device and the dtype, "auto" resolved.

    Raises `DataError` for a folder that is not there, `EvalError` for one without a whole model, and for a device that
    is not there or a dtype that weights cannot have.
    """
    folder = local_folder(name, "model folder")
    if folder is not None:
        check_folder(folder)
        base_of_adapter(folder)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    check_device(device)
    if dtype not in DTYPES:
        raise EvalError(f"--dtype {dtype}: expected auto, {', '.join(DTYPES)}.")
    return folder, device, dtype


def check_device(name: str) -> None:
    """`EvalError` for what is no device of this machine."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # CUDA that was not compiled in asserts
        count = torch.cuda.device_count()
        known = ["auto", "cpu", *(f"cuda:{index}" for index in range(count))]
        raise EvalError(f"--device {name}: no such device on this machine. Known: {', '.join(known)}.") from error


def check_folder(folder: Path) -> None:
    """`EvalError` when a folder cannot hold a model."""
    if not any((folder / file).is_file() for file in ("config.json", ADAPTER_NAME)):
        inside = sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob("*/config.json"))
        found = f" Model folders in it: {', '.join(inside)}." if inside else ""
        raise EvalError(f"{folder}: no config.json, so not a model folder.{found}")
    try:
        for path in folder.glob("*config.json"):
            json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one too
        raise EvalError(f"{path}: not valid JSON ({first_line(error)}). Copy it again.") from error
    if not any(any(folder.glob(pattern)) for pattern in WEIGHT_PATTERNS):
        raise EvalError(f"{folder}: no weights (expected model.safetensors). Was the export interrupted?")
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, "pt"):  # compares the header with the length of the file
                pass
        except SafetensorError as error:
            raise EvalError(f"{file}: not a whole safetensors file ({first_line(error)}). Copy it again.") from error


def base_of_adapter(folder: Path) -> str | None:
    """The model that a LoRA adapter belongs to, a folder or Hub id; None for a folder that holds a whole model."""
    if (folder / "config.json").is_file() or not (folder / ADAPTER_NAME).is_file():
        return None
    try:
        base = json.loads((folder / ADAPTER_NAME).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise EvalError(f"{folder / ADAPTER_NAME}: names no model ('base_model_name_or_path').") from error
    if not isinstance(base, str) or not base:
        raise EvalError(f"{folder / ADAPTER_NAME}: base_model_name_or_path is {base!r}; expected a folder or Hub id.")
    is_path = base.startswith((".", "/", "~")) or base.count("/") > 1  # anything else may be a Hub id
    if is_path and not Path(base).is_dir():
        beside = f" {folder.parent} holds the two in one." if (folder.parent / "config.json").is_file() else ""
        raise EvalError(f"{folder}: the model that this adapter belongs to is not at {base} any more.{beside}")
    return base


def fingerprint(folder: Path) -> str:
    """Hex SHA-256 over the names and contents of the files that decide what a model answers."""
    return fingerprint_of({path.name: sha256_file(path) for pattern in READ_PATTERNS for path in folder.glob(pattern)})
