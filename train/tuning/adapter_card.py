"""The card of an adapter: what it was trained from and on, and how it is loaded; in the place of PEFT's blank form."""

import json
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from train.tuning.config import TuningConfig

CARD = """\
---
library_name: peft
pipeline_tag: text-generation
tags: [lora, {script}]
---

# LoRA adapter of {base}

Trained by `yulanmini train {script}`. The folder above this one holds the model with the adapter merged into it.

| | |
|---|---|
| base model | `{base}` ({architecture}), files with the fingerprint `{base_fingerprint}` |
| data | {data} ({counts}) |
| adapter | rank {rank}, alpha {alpha:g}, dropout {dropout:g}; {parameters:,} parameters on {modules} |
| training | {steps:,} steps of {batch_size} rows; AdamW, peak rate \
{lr:g} after {warmup:.0%} of the steps, cosine to {floor:g} of it; seed {seed} |
| loss | {first_loss:.3f} in the first step, {last_loss:.3f} in the last |

```python
{imports}from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("{base}")  # the folder of the base model
model = PeftModel.from_pretrained(model, "adapter").merge_and_unload()
```
"""


def write_adapter_card(
    folder: Path,
    config: TuningConfig,
    *,
    data: dict[str, Path],
    counts: dict[str, int],
    inputs: dict[str, str],
    metrics: Path,
) -> None:
    """README.md of the adapter in `folder`. Names no folder of this machine but the last part of a path."""
    assert config.lora is not None
    model = json.loads((config.model / "config.json").read_text())
    adapter = json.loads((folder / "adapter_config.json").read_text())
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
        parameters = sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    values: dict[str, Any] = {
        "base": config.model.resolve().name,
        "architecture": (model.get("architectures") or [model["model_type"]])[0],
        "base_fingerprint": inputs["model"][:16],
        "script": config.script,
        "data": ", ".join(f"`{path.name}`, SHA-256 `{inputs[key][:16]}`" for key, path in data.items()),
        "counts": ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if name != "steps"),
        "steps": counts["steps"],
        **config.lora.model_dump(include={"rank", "alpha", "dropout"}),
        "parameters": parameters,
        "modules": ", ".join(sorted({module.rpartition(".")[2] for module in adapter["target_modules"]})),
        "batch_size": config.batch_size,
        "lr": config.optimizer.lr,
        "warmup": config.optimizer.warmup_ratio,
        "floor": config.optimizer.min_lr_ratio,
        "seed": config.seed,
        "first_loss": lines[0]["loss"],
        "last_loss": lines[-1]["loss"],
        "imports": "import modeling_yulanmini\n" if model["model_type"] == "yulanmini" else "",
    }
    (folder / "README.md").write_text(CARD.format(**values), encoding="utf-8")
