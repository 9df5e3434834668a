"""Thirty steps against a second account of the same run: forward pass, loss, schedule, clipping and AdamW written anew
from the report's formulas in float64. Only the rows and the initial weights are shared."""

import math
from pathlib import Path

import numpy as np
import torch
from pretrain_miniature import SHAPE, metrics, pretrain, write_inputs, write_run_config
from safetensors.torch import load_file
from transformers import AutoTokenizer

from data_recipes.rows.reader import PackedRows
from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM

HEADS, KEY_HEADS, WIDTH, BASE_WIDTH, LAYERS = 4, 2, 32, 16, 2
PEAK, WARMUP, FLOOR, DECAY, BETAS, EPS, CLIP, Z = 3e-3, 4, 0.005, 0.1, (0.9, 0.95), 1e-15, 1.0, 1e-4
STEPS = 10  # of each phase: 1 and 2 at the full rate, 26 the tail, at another RoPE base and with documents kept apart
PHASES = ((1, 32, 10_000.0, False), (2, 32, 10_000.0, False), (26, 96, 490_000.0, True))
TOKENS = 384  # a step


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def rotated(x: torch.Tensor, base: float) -> torch.Tensor:
    """x [rows, heads, tokens, dim]: pairs (i, i + dim/2) turned by position / base^(2i/dim)."""
    half = x.shape[-1] // 2
    turn = torch.arange(x.shape[2]).double()[:, None] / base ** (torch.arange(half).double() / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * turn.cos() - b * turn.sin(), a * turn.sin() + b * turn.cos()], -1)


def logits(w: dict[str, torch.Tensor], ids: torch.Tensor, visible: torch.Tensor, base: float) -> torch.Tensor:
    """W = alpha W~, embeddings times 10, branches times 1.4 / sqrt(layers): Table 3 and section 3.2 of the report."""
    rows, tokens = ids.shape
    hidden = 10 * w["model.embed_tokens.weight"][ids]
    branch = 1.4 / math.sqrt(LAYERS)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."

        def linear(x: torch.Tensor, name: str, heads: int, at: str = at) -> torch.Tensor:
            y = x @ w[f"{at}self_attn.{name}.weight"].T + w[f"{at}self_attn.{name}.bias"]
            return (y * w[f"{at}self_attn.{name}_alpha"]).view(rows, tokens, heads, -1).transpose(1, 2)

        x = norm(hidden, w[at + "input_layernorm.weight"]) * w[at + "input_layernorm_alpha"]
        q = rotated(linear(x, "q_proj", HEADS), base)
        k = rotated(linear(x, "k_proj", KEY_HEADS), base).repeat_interleave(HEADS // KEY_HEADS, 1)
        v = linear(x, "v_proj", KEY_HEADS).repeat_interleave(HEADS // KEY_HEADS, 1)
        scores = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).masked_fill(~visible[:, None], -math.inf)
        x = (scores.softmax(-1) @ v).transpose(1, 2).reshape(rows, tokens, WIDTH)
        hidden = hidden + branch * w[at + "self_attn.o_proj_alpha"] * (x @ w[at + "self_attn.o_proj.weight"].T)
        x = norm(hidden, w[at + "post_attention_layernorm.weight"]) * w[at + "post_attention_layernorm_alpha"]
        x = x * w[at + "gate_up_proj_alpha"]
        gate, up = (x @ w[f"{at}mlp.{name}.weight"].T for name in ("gate_proj", "up_proj"))
        x = gate / (1 + (-gate).exp()) * up
        hidden = hidden + branch * w[at + "down_proj_alpha"] * (x @ w[at + "mlp.down_proj.weight"].T)
    x = norm(hidden, w["model.norm.weight"]) * w["model.norm_alpha"] * w["lm_head_alpha"]
    return x @ w["model.embed_tokens.weight"].T


def expected(folder: Path, inputs: Path) -> list[tuple[float, float, float]]:
    """Loss, z-loss and gradient norm of each step."""
    w = {name: value.double().requires_grad_() for name, value in load_file(folder / "model.safetensors").items()}
    w.pop("lm_head.weight", None)
    first, second = ({name: torch.zeros_like(value) for name, value in w.items()} for _ in range(2))
    found = []
    for step in range(STEPS * len(PHASES)):
        number, context, base, apart = PHASES[step // STEPS]
        size = TOKENS // context
        begin = step % STEPS * size
        rows = PackedRows(inputs / "data" / f"phase-{number:02d}").rows(begin, begin + size)
        ids = torch.from_numpy(np.asarray(rows.input_ids).astype(np.int64))
        document = torch.stack(
            [torch.repeat_interleave(torch.tensor(each.astype(np.int64))) for each in rows.doc_lengths]
        )
        visible = torch.ones(context, context).tril().bool().expand(size, -1, -1)
        counts = torch.arange(context) < context - torch.from_numpy(np.asarray(rows.padding))[:, None]
        counts = counts[:, 1:]
        if apart:
            visible = visible & (document[:, :, None] == document[:, None, :])
            counts = counts & (document[:, 1:] == document[:, :-1])
        scores = logits(w, ids, visible, base)[:, :-1]
        log_sum = scores.exp().sum(-1).log()
        of_target = scores.gather(-1, ids[:, 1:, None])[..., 0]
        loss = (log_sum - of_target)[counts].sum() / counts.sum()
        z_loss = Z * log_sum.square()[counts].sum() / counts.sum()
        gradients = dict(zip(w, torch.autograd.grad(loss + z_loss, list(w.values())), strict=True))
        size_of_all = math.sqrt(sum(value.square().sum().item() for value in gradients.values()))
        found.append((loss.item(), z_loss.item(), size_of_all))

        tail = step - STEPS * (len(PHASES) - 1)
        rate = PEAK * min(1.0, (step + 1) / WARMUP) * (max(FLOOR, 1 - math.sqrt(tail / STEPS)) if tail >= 0 else 1.0)
        with torch.no_grad():
            for name, value in w.items():
                own = rate * BASE_WIDTH / WIDTH if name.endswith("proj.weight") else rate
                gradient = gradients[name] * min(1.0, CLIP / (size_of_all + 1e-6))
                first[name] = BETAS[0] * first[name] + (1 - BETAS[0]) * gradient
                second[name] = BETAS[1] * second[name] + (1 - BETAS[1]) * gradient.square()
                mean, square = first[name] / (1 - BETAS[0] ** (step + 1)), second[name] / (1 - BETAS[1] ** (step + 1))
                value -= own * (DECAY * value + mean / (square.sqrt() + EPS))
    return found


def test_thirty_steps_equal_a_float64_account_of_them(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", steps_per_phase=STEPS)
    vocabulary = len(AutoTokenizer.from_pretrained(inputs / "tokenizer"))
    torch.manual_seed(11)
    shape = SHAPE | {"vocab_size": vocabulary, "tie_word_embeddings": True}
    model = YuLanMiniForCausalLM(YuLanMiniConfig.reparametrized(base_width=BASE_WIDTH, **shape))
    with torch.no_grad():  # biases are 0, norms and their scales 1 at first: any mistake there would hide
        for value in model.parameters():
            if value.dim() == 1:
                value.add_(0.1 * torch.randn_like(value))
            else:
                value.mul_(5.0)
    model.save_pretrained(tmp_path / "model")
    config = write_run_config(
        inputs,
        tmp_path / "config.yaml",
        heldout=None,
        init={"path": str(tmp_path / "model")},
        parametrization={"base_width": BASE_WIDTH},
        optimizer={"lr": PEAK},
        spikes={"policies": []},
        micro_batch_rows=2,
    )
    assert pretrain(config) == 0
    account = expected(tmp_path / "model", inputs)
    lines = metrics(tmp_path / "run")
    assert len(lines) == len(account) == 30
    assert account[-1][0] < account[0][0] - 0.3
    for line, (loss, z_loss, size) in zip(lines, account, strict=True):
        assert abs(line["loss"] - loss) < 1e-5, line["step"]
        assert abs(line["z_loss"] - z_loss) < 1e-5, line["step"]
        assert abs(line["grad_norm"] - size) < 1e-4 * size, line["step"]
