"""Step time and memory of this model against transformers' Llama of the same shape, in one run.

    python benchmarks/model_step.py                                   small shape on the CPU, a minute or two
    python benchmarks/model_step.py --shape full --device cuda --dtype bfloat16 --rows 4 --compile --liger

Measured: a training step (forward, backward, AdamW) with each model's own loss, the same on the base models alone
(what the scales cost, without the loss), and greedy decoding with a cache. Beside Llama stands this model without its
alphas (`wesar_weights: false`): the same class, so the difference is the alphas alone. The models take turns, each
first as often as the others, so that noise hits all; a ratio is the median of those of neighbours, with its quartiles,
and on the CPU it is given for processor time too, which other programs disturb less than the clock. First a merged copy
is checked to give the same logits.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.utils import is_liger_kernel_available

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini.counts import peak_flops, training_flops_per_token
from modeling_yulanmini.merge import merge

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 1024,
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "small": {
        "vocab_size": 8192,
        "hidden_size": 512,
        "intermediate_size": 1280,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
    },
    "full": {},
}
MODELS = ("yulanmini", "without alphas", "llama")
PARTS = ("decoding", "whole", "base", "memory")
RATIOS = (("yulanmini", "llama"), ("yulanmini", "without alphas"), ("without alphas", "llama"))


def build(name: str, options: argparse.Namespace, use_liger: bool) -> torch.nn.Module:
    """One of the models with the shape asked for, tied, with q/k/v biases (Llama's o bias comes with them)."""
    torch.manual_seed(0)
    config: Any = YuLanMiniConfig.reparametrized(
        **SHAPES[options.shape],
        max_position_embeddings=options.length,
        wesar_weights=name == "yulanmini",
    )
    config._attn_implementation = options.attention
    if name == "llama":
        shared = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        shared += ("num_key_value_heads", "head_dim", "rms_norm_eps", "max_position_embeddings", "rope_parameters")
        config = LlamaConfig(
            **{key: getattr(config, key) for key in shared}, tie_word_embeddings=True, attention_bias=True
        )
        config._attn_implementation = options.attention
    with torch.device(options.device):
        model = (LlamaForCausalLM if name == "llama" else YuLanMiniForCausalLM)(config)
    if name == "llama" and use_liger:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model)
    return model


def training_step(model: torch.nn.Module, options: argparse.Namespace, part: str) -> Callable[[], float]:
    """A function that does one step on fixed tokens and returns its loss. `part` is "whole" or "base"."""
    model.train()
    trained = model if part == "whole" else model.model
    compiled = torch.compile(trained) if options.compile else trained
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(0, model.config.vocab_size, (options.rows, options.length), device=options.device)
    mixed = torch.autocast(options.device, dtype=torch.bfloat16, enabled=options.dtype == "bfloat16")

    def step() -> float:
        with mixed:
            if part == "whole":
                loss = compiled(input_ids=tokens, labels=tokens, use_cache=False).loss
            else:
                loss = compiled(input_ids=tokens, use_cache=False).last_hidden_state.float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def decoding_step(model: torch.nn.Module, options: argparse.Namespace) -> Callable[[], float]:
    """A function that feeds one token to a cache of `--prompt` tokens and returns the next token."""
    model.eval().requires_grad_(False)
    if options.dtype == "bfloat16":
        model.to(torch.bfloat16)
    state: dict[str, Any] = {"cache": DynamicCache(config=model.config)}
    prompt = torch.randint(0, model.config.vocab_size, (1, options.prompt), device=options.device)

    @torch.no_grad()
    def advance(tokens: torch.Tensor) -> torch.Tensor:
        output = model(tokens, past_key_values=state["cache"], use_cache=True, logits_to_keep=1)
        return output.logits[:, -1].argmax(-1, keepdim=True)

    state["token"] = advance(prompt)

    def step() -> float:
        state["token"] = advance(state["token"])
        return float(state["token"].item())

    return step


def measure(steps: dict[str, Callable[[], float]], options: argparse.Namespace, repeats: int) -> dict[str, Any]:
    """Seconds a step of each model, taken in turns, and how the models compare."""
    for step in steps.values():
        for _ in range(options.warmup):
            step()
    taken: dict[str, dict[str, list[float]]] = {
        clock: {name: [] for name in steps} for clock in ("seconds", "processor_seconds")
    }
    for turn in range(repeats):
        for place in range(len(MODELS)):
            name = MODELS[(turn + place) % len(MODELS)]
            if options.device == "cuda":
                torch.cuda.synchronize()
            start, processor_start = time.perf_counter(), time.process_time()
            steps[name]()
            if options.device == "cuda":
                torch.cuda.synchronize()
            taken["seconds"][name].append(time.perf_counter() - start)
            taken["processor_seconds"][name].append(time.process_time() - processor_start)
    if options.device == "cuda":
        del taken["processor_seconds"]
    return {
        "repeats": repeats,
        **{clock: {name: statistics.median(values) for name, values in of.items()} for clock, of in taken.items()},
        "ratios": {
            clock: {f"{ours} / {theirs}": spread(of[ours], of[theirs]) for ours, theirs in RATIOS}
            for clock, of in taken.items()
        },
    }


def spread(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Median and quartiles of the ratios of neighbours."""
    low, median, high = statistics.quantiles((a / b for a, b in zip(ours, theirs, strict=True)), n=4)
    return {"median": median, "lower_quartile": low, "upper_quartile": high}


def resident(field: str) -> int:
    """Bytes of this process by /proc: VmRSS now, VmHWM at its peak (ru_maxrss would be inherited from the parent)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def peak_memory(name: str, options: argparse.Namespace, use_liger: bool) -> int:
    """Bytes at the peak of two training steps: of the allocator on a GPU, of the process less its start on the CPU."""
    at_start = resident("VmRSS")
    step = training_step(build(name, options, use_liger), options, "whole")
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        step()
    return torch.cuda.max_memory_allocated() if options.device == "cuda" else resident("VmHWM") - at_start


def peak_memory_in_process(name: str, options: argparse.Namespace, use_liger: bool) -> int:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_memory, (name, options, use_liger))


def check_same_function(options: argparse.Namespace) -> float:
    """Largest difference of logits between a model with scales far from 1 and the Llama that it merges to."""
    shape = SHAPES[options.shape if options.shape != "full" else "small"]
    torch.manual_seed(0)
    model = YuLanMiniForCausalLM(YuLanMiniConfig.reparametrized(**shape, initializer_range=0.02)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("_alpha", "bias")):
                parameter.uniform_(0.2, 1.2)
    tokens = torch.randint(0, model.config.vocab_size, (2, 64))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "yulanmini")
        merge(Path(folder) / "yulanmini", Path(folder) / "llama", compare_logits=False)
        merged = LlamaForCausalLM.from_pretrained(Path(folder) / "llama").eval()
        with torch.no_grad():
            difference = (model(tokens).logits - merged(tokens).logits).abs().max().item()
    if difference > 1e-3:
        raise SystemExit(f"the models are not the same function: logits differ by {difference}")
    return difference


def throughput(seconds: float, options: argparse.Namespace, peak: float | None) -> dict[str, Any]:
    """Tokens per second of a training step, and its MFU by each convention where the peak is known."""
    tokens_per_second = options.rows * options.length / seconds
    config = YuLanMiniConfig.reparametrized(**SHAPES[options.shape])
    flops = training_flops_per_token(config, options.length)
    mfu = {name: count * tokens_per_second / peak for name, count in flops.items()} if peak else None
    return {"tokens_per_second": tokens_per_second, "mfu": mfu}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All measurements of one combination of options, as the JSON that is written."""
    device_name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or "CPU"
    peak = options.peak_tflops * 1e12 if options.peak_tflops else peak_flops(device_name)
    results: dict[str, Any] = {
        "what": "models of the same shape; a ratio below 1 means that the first is faster",
        "options": vars(options),
        "device": device_name,
        "threads": torch.get_num_threads(),
        "load_average_at_start": os.getloadavg(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "peak_flops_assumed": peak,
        "merged_copy_max_logit_difference": check_same_function(options),
        "runs": [],
    }
    if "decoding" in options.parts:
        steps = {name: decoding_step(build(name, options, False), options) for name in MODELS}
        record(results, {"step": "decoding", "liger": False, **measure(steps, options, options.decode_steps)})
        del steps
    for use_liger in [False, True] if options.liger else [False]:
        for part in [part for part in ("whole", "base") if part in options.parts]:
            steps = {name: training_step(build(name, options, use_liger), options, part) for name in MODELS}
            entry = {"step": f"training, {part}", "liger": use_liger, **measure(steps, options, options.repeats)}
            if part == "whole":
                entry["throughput"] = {name: throughput(entry["seconds"][name], options, peak) for name in MODELS}
            record(results, entry)
            del steps
        if "memory" in options.parts:
            memory = {name: peak_memory_in_process(name, options, use_liger) for name in MODELS}
            ratio = memory["yulanmini"] / memory["llama"]
            record(results, {"step": "training, memory", "liger": use_liger, "bytes": memory, "ratio": ratio})
    results["load_average_at_end"] = os.getloadavg()
    return results


def record(results: dict[str, Any], entry: dict[str, Any]) -> None:
    """Keep and print one measurement."""
    results["runs"].append(entry)
    print(f"{entry['step']}  liger={entry['liger']}")
    for name, count in entry.get("bytes", {}).items():
        print(f"    {name}: {count / 2**20:.0f} MiB")
    for name in entry.get("seconds", ()):
        line = f"    {name}: {entry['seconds'][name] * 1e3:.2f} ms"
        if speed := entry.get("throughput", {}).get(name):
            mfu = "  ".join(f"{key} {value:.1%}" for key, value in (speed["mfu"] or {}).items())
            line += f"  {speed['tokens_per_second']:,.0f} tokens/s  {mfu}"
        print(line)
    for clock, ratios in entry.get("ratios", {}).items():
        for pair, of in ratios.items():
            quartiles = f"{of['lower_quartile']:.3f} to {of['upper_quartile']:.3f}"
            print(f"    {pair}, {clock}: {of['median']:.3f} (quartiles {quartiles})", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shape", choices=SHAPES, default="small", help="full: 56 layers, width 1920, 2.23B parameters"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16: autocast, fp32 weights"
    )
    parser.add_argument("--attention", default="sdpa", help="attention implementation of both models")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--rows", type=int, default=2, help="rows in a batch")
    parser.add_argument("--length", type=int, default=512, help="tokens in a row")
    parser.add_argument("--prompt", type=int, default=64, help="tokens in the cache when decoding starts")
    parser.add_argument("--repeats", type=int, default=10, help="training steps measured")
    parser.add_argument("--decode-steps", type=int, default=300, help="decoding steps measured")
    parser.add_argument("--warmup", type=int, default=2, help="steps before measuring")
    parser.add_argument("--compile", action="store_true", help="torch.compile both models for training")
    parser.add_argument("--liger", action="store_true", help="measure again with liger-kernel's kernels in Llama (GPU)")
    parser.add_argument("--peak-tflops", type=float, help="peak that MFU is a share of; known for common GPUs")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    if options.liger and not (options.device == "cuda" and is_liger_kernel_available()):
        parser.error("--liger needs a GPU and the liger-kernel package (pip install liger-kernel)")
    return options


def main() -> None:
    options = parse()
    results = run(options)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2, default=str) + "\n")
        print(f"-> {options.out}")


if __name__ == "__main__":
    main()
