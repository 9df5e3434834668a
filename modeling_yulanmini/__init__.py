"""The YuLan-Mini model as a transformers package: importing it registers its classes with the Auto classes."""

from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from modeling_yulanmini.configuration_yulanmini import CheckpointError, YuLanMiniConfig
from modeling_yulanmini.modeling_yulanmini import (
    YuLanMiniForCausalLM,
    YuLanMiniForSequenceClassification,
    YuLanMiniModel,
    YuLanMiniPreTrainedModel,
    linear_cross_entropy,
)


class MiniYuLanConfig(YuLanMiniConfig):
    """The `model_type` of phases 20-23, "miniyulan": reads as a `YuLanMiniConfig`."""

    model_type = "miniyulan"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        return YuLanMiniConfig.from_dict({**config_dict, "model_type": YuLanMiniConfig.model_type}, **kwargs)


AutoConfig.register(YuLanMiniConfig.model_type, YuLanMiniConfig, exist_ok=True)
AutoConfig.register(MiniYuLanConfig.model_type, MiniYuLanConfig, exist_ok=True)
AutoModel.register(YuLanMiniConfig, YuLanMiniModel, exist_ok=True)
AutoModelForCausalLM.register(YuLanMiniConfig, YuLanMiniForCausalLM, exist_ok=True)
AutoModelForSequenceClassification.register(YuLanMiniConfig, YuLanMiniForSequenceClassification, exist_ok=True)

__all__ = [
    "CheckpointError",
    "MiniYuLanConfig",
    "YuLanMiniConfig",
    "YuLanMiniForCausalLM",
    "YuLanMiniForSequenceClassification",
    "YuLanMiniModel",
    "YuLanMiniPreTrainedModel",
    "linear_cross_entropy",
]
