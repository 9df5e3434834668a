"""Read a YuLan-Mini config from a file, with one kind of error for all that can be wrong with it."""

from pathlib import Path

from huggingface_hub.errors import StrictDataclassError

from modeling_yulanmini.checkpoint_reader import read_json
from modeling_yulanmini.configuration_yulanmini import CheckpointError, YuLanMiniConfig, refuse_unsafe_keys

# The second is the spelling of the published phases 20-23.
MODEL_TYPES = (YuLanMiniConfig.model_type, "miniyulan")


def read_config(path: Path) -> YuLanMiniConfig:
    """The config in `path` with its defaults resolved; `CheckpointError` if it is not a usable YuLan-Mini config."""
    content = read_json(path)
    refuse_unsafe_keys(content, where=str(path))
    model_type = content.get("model_type")
    if model_type not in MODEL_TYPES:
        merged = " It is merged already." if model_type in ("llama", "qwen2") else ""
        raise CheckpointError(f"{path}: model_type is {model_type!r}, expected 'yulanmini'.{merged}")
    try:
        return YuLanMiniConfig.from_dict(content | {"model_type": YuLanMiniConfig.model_type})
    except (StrictDataclassError, TypeError, ValueError, AttributeError, KeyError, ZeroDivisionError) as error:
        # The strict dataclass wraps what its validators raise; theirs is the message.
        raise CheckpointError(f"{path}: {error.__cause__ or error}") from error
