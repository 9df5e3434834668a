"""What a run is (`identity`), and whether a checkpoint or folder belongs to it. A difference is named key by key."""

import json
from typing import Any

from train.config import PretrainConfig
from train.config_file import resolved
from train.curriculum.plan import Curriculum

RUN_KIND = "pretraining-run"
# Sections that decide what is computed. The others say how a run is carried out or watched; what matters of the
# data, the tokenizer, the stages and the model is compared by content below.
_IDENTITY = ("tokens_per_step", "parametrization", "optimizer", "schedule", "seed", "precision", "spikes")
_NOT_OF_THE_MODEL = ("transformers_version", "id2label", "label2id", "max_position_embeddings", "use_liger")


def identity(
    config: PretrainConfig, curriculum: Curriculum, *, model: dict[str, Any], tokenizer: str
) -> dict[str, Any]:
    """All that must be equal for a checkpoint to go on: settings, model, fingerprints of tokenizer and data."""
    settings = resolved(config)
    found = {
        "config": {key: settings[key] for key in _IDENTITY},
        "model": {key: value for key, value in model.items() if key not in _NOT_OF_THE_MODEL},
        "tokenizer": tokenizer,
        "phases": [
            {
                "name": phase.name,
                "data": phase.fingerprint,
                "context_length": phase.context_length,
                "rope_theta": phase.rope_theta,
                "document_mask": phase.document_mask,
                "rebalance": phase.rebalance,
            }
            for phase in curriculum.phases
        ],
    }
    # As JSON keeps it: a checkpoint's identity comes back from a file.
    return json.loads(json.dumps(found))
