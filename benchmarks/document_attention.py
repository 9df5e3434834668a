"""A training step of packed rows: documents apart by a mask (sdpa) beside documents cut by their lengths (varlen).

    python benchmarks/document_attention.py                                   the miniature's shape, on the CPU
    python benchmarks/document_attention.py --device cuda --context 28672     the published width, 8 layers, bfloat16

Forward and backward of the whole model, the two taking turns on the same rows; losses must agree. The ratio is the
median over the repeats, below 1 where varlen is faster. Where a mask would not fit, `--only varlen`.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.model_setup.attention import choose_attention

MINIATURE = {"vocab_size": 2000, "hidden_size": 120, "intermediate_size": 300, "num_hidden_layers": 6}
MINIATURE |= {"num_attention_heads": 5, "num_key_value_heads": 1}
PUBLISHED = {"vocab_size": 99_000, "num_hidden_layers": 8}


def arguments(rows: int, context: int, documents: int, device: str) -> dict[str, dict[str, Any]]:
    """For each attention what it is told of `documents` documents a row, cut at random places."""
    rng = np.random.default_rng(0)
    cuts = [np.sort(rng.choice(np.arange(1, context), documents - 1, replace=False)) for _ in range(rows)]
    lengths = np.concatenate([np.diff([0, *row, context]) for row in cuts])
    positions = torch.cat([torch.arange(length) for length in lengths]).view(rows, context).to(device)
    places = -(-len(lengths) // 64) * 64
    ends = torch.tensor(np.cumsum([0, *lengths, *[0] * (places - len(lengths))]), dtype=torch.int32, device=device)
    longest = int(lengths.max())
    varlen = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    return {"sdpa": {"position_ids": positions}, "varlen": varlen}


def measure(options: argparse.Namespace, documents: int) -> dict[str, Any]:
    on_gpu = options.device == "cuda"
    config = YuLanMiniConfig.reparametrized(base_width=64, **(PUBLISHED if on_gpu else MINIATURE))
    torch.manual_seed(0)
    with torch.device(options.device):
        model = YuLanMiniForCausalLM(config).train()
    choose_attention("auto", precision="bfloat16" if on_gpu else "float32", device=torch.device(options.device))
    rows = torch.randint(4, config.vocab_size, (options.rows, options.context), device=options.device)
    told = {
        name: given
        for name, given in arguments(options.rows, options.context, documents, options.device).items()
        if options.only in (None, name)
    }
    seconds: dict[str, list[float]] = {name: [] for name in told}
    losses: dict[str, float] = {}
    for repeat in range(options.repeats + 2):
        for name, given in told.items() if repeat % 2 else reversed(told.items()):
            model.config._attn_implementation = name
            begin = time.perf_counter()
            with torch.autocast(options.device, torch.bfloat16, enabled=on_gpu):
                loss = model(rows, labels=rows, use_cache=False, **given).loss
            loss.backward()
            losses[name] = loss.item()
            model.zero_grad()
            if repeat >= 2:
                seconds[name].append(time.perf_counter() - begin)
    found: dict[str, Any] = {
        "documents_a_row": documents,
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
    }
    if len(told) == 2:
        assert abs(losses["sdpa"] - losses["varlen"]) < (2e-2 if on_gpu else 1e-4), losses
        pairs = zip(seconds["varlen"], seconds["sdpa"], strict=True)
        found["ratio_varlen_over_sdpa"] = statistics.median(ours / theirs for ours, theirs in pairs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--context", type=int, default=896)
    parser.add_argument("--documents", type=int, nargs="+", default=[2, 4, 20], help="documents a row")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--only", choices=["sdpa", "varlen"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = [measure(options, documents) for documents in options.documents]
    print(text := json.dumps({"threads": torch.get_num_threads(), "results": results}, indent=2))
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
