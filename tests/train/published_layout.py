"""A small checkpoint as the authors published theirs (facts.md 1.5), after a few steps of training."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sft_miniature import write_tokenizer

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini.modeling_yulanmini import saved_name
from train.config import OptimizerSettings
from train.model_setup.parameter_groups import parameter_groups

STEP, RATE, BASE_WIDTH = 243_198, 2e-3, 8
SHAPE = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "vocab_size": 263, "initializer_range": 0.02}


def trained() -> tuple[YuLanMiniForCausalLM, torch.optim.AdamW]:
    """A model and its optimizer after three steps, at the RoPE base of the 4K stages."""
    torch.manual_seed(0)
    model = YuLanMiniForCausalLM(YuLanMiniConfig.reparametrized(base_width=BASE_WIDTH, **SHAPE))
    matrices = BASE_WIDTH / SHAPE["hidden_size"]
    groups = parameter_groups(
        model, lr_factor=lambda name: matrices if "proj.weight" in name else 1.0, settings=OptimizerSettings()
    )
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-15, fused=True)
    for group in optimizer.param_groups:
        group["lr"] = RATE * group["lr_factor"]
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        ids = torch.randint(7, 263, (4, 24), generator=generator)
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def write_published(folder: Path, model: YuLanMiniForCausalLM, *, dtype: torch.dtype = torch.bfloat16) -> Path:
    """`folder` as published: bfloat16, scales outside attention 0-dim, the other spelling of the model type, the RoPE
    base and length of the stage to come, a tokenizer, and the HF Trainer's state."""
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    weights = {
        name: tensor.to(dtype).reshape(() if name.endswith("_alpha") and "self_attn" not in name else tensor.shape)
        for name, tensor in load_file(file).items()
    }
    save_file(weights, file, metadata={"format": "pt"})
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters")
    config |= {"model_type": "miniyulan", "architectures": ["MiniYuLanModelForCausalLM"], "rope_theta": 490_000.0}
    config |= {"max_position_embeddings": 28_723, "torch_dtype": "bfloat16", "shrink_alpha": 1}
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    log = [{"step": STEP - 3, "learning_rate": RATE, "loss": 5.0}, {"step": STEP, "train_runtime": 1.0}]
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": STEP, "log_history": log}))
    return folder


def write_universal(root: Path, model: Any, optimizer: Any, *, wrapped: bool = True) -> Path:
    """The published layout names and shapes as DeepSpeed's converter writes them."""
    folder = root / f"global_step{STEP}_universal"
    for name, parameter in model.named_parameters():
        target = folder / "zero" / saved_name(name)
        target.mkdir(parents=True)
        state = optimizer.state[parameter]
        # Published checkpoints hold the scales outside attention as 0-dim tensors.
        shape = () if name.endswith("_alpha") and "self_attn" not in name else parameter.shape
        values = {"fp32": parameter.detach(), "exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}
        for kind, value in values.items():
            value = value.reshape(shape).clone()
            torch.save({"param": value, "cat_dim": 0} if wrapped else value, target / f"{kind}.pt")
        torch.save(int(state["step"]), target / "step.pt")
    torch.save({"global_steps": STEP, "module": None}, folder / "mp_rank_00_model_states.pt")
    return folder
