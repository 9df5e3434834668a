"""Model folders for tests, written from the published names and shapes, not through the model class."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

SMALL = {
    "model_type": "yulanmini",
    "architectures": ["YuLanMiniModelForCausalLM"],
    "vocab_size": 131,
    "hidden_size": 48,
    "intermediate_size": 120,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "attention_bias": True,
    "scale_emb": 10.0,
    "initializer_range": 5e-05,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "hidden_states_shrink": 0.7,
    "dim_model_base_logits": 48,
    "wesar_weights": True,
    "use_norm_alpha": True,
    "rms_type": "llama",
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def random_tensors(config: dict, *, seed: int = 0, alpha_shape: tuple[int, ...] | None = None) -> dict:
    """Weights, biases and scales of a model with `config`: biases of standard deviation 1, scales in [0.3, 3].

    `alpha_shape` None gives the published mixture of shapes: [1] inside attention, [] elsewhere.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head_dim = hidden // config["num_attention_heads"]
    kv = config["num_key_value_heads"] * head_dim

    def normal(*shape: int, std: float) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * std

    def alpha(shape: tuple[int, ...]) -> torch.Tensor:
        value = 0.3 * 10 ** torch.rand(1, generator=generator)
        return value.reshape(shape if alpha_shape is None else alpha_shape)

    def norm() -> torch.Tensor:
        around = 0.0 if config.get("rms_type") == "gemma" else 1.0
        return normal(hidden, std=0.3) + around

    tensors = {"model.embed_tokens.weight": normal(vocab, hidden, std=0.4), "model.norm.weight": norm()}
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = normal(vocab, hidden, std=0.2)
    scales = config.get("wesar_weights", True)
    norm_scales = scales and config.get("use_norm_alpha", True)
    if scales:
        tensors["lm_head_alpha"] = alpha(())
    if norm_scales:
        tensors["model.norm_alpha"] = alpha(())
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for letter, rows in (("q", hidden), ("k", kv), ("v", kv), ("o", hidden)):
            prefix = f"{at}.self_attn.{letter}_proj"
            tensors[f"{prefix}.weight"] = normal(rows, hidden, std=0.2)
            if config["attention_bias"] and letter != "o":
                tensors[f"{prefix}.bias"] = normal(rows, std=1.0)
            if scales:
                tensors[f"{prefix}_alpha"] = alpha((1,))
        for name, shape in (("gate", (ffn, hidden)), ("up", (ffn, hidden)), ("down", (hidden, ffn))):
            tensors[f"{at}.mlp.{name}_proj.weight"] = normal(*shape, std=0.15)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}.{name}.weight"] = norm()
            if norm_scales:
                tensors[f"{at}.{name}_alpha"] = alpha(())
        if scales:
            tensors[f"{at}.gate_up_proj_alpha"] = alpha(())
            tensors[f"{at}.down_proj_alpha"] = alpha(())
    return tensors


def write_folder(path: Path, config: dict, tensors: dict, *, shards: int = 1) -> Path:
    """Write config and weights, in one file or in `shards` with an index."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if shards == 1:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return path
    names, weight_map = sorted(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        save_file(part, path / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def write_small(path: Path, *, seed: int = 0, shards: int = 1, alpha_shape=None, **overrides) -> Path:
    """A small random model folder; `overrides` replace config keys."""
    config = SMALL | overrides
    return write_folder(path, config, random_tensors(config, seed=seed, alpha_shape=alpha_shape), shards=shards)
