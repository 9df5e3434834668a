"""Our training loop against HF Trainer on the same model, batch and rows; reading, waiting and monitors measured apart.

    python benchmarks/train_step.py --run runs/tiny                       the miniature on the CPU, some minutes
    python benchmarks/train_step.py --run runs/tiny --shape full --device cuda --context 4096 --rows 16 \
        --micro-batch 4 --recompute 7                                     2.42B in bf16 on one GPU, fp32 masters

Contenders take turns, each time in a process of its own. On the CPU: our loop, and HF Trainer with our model,
optimizer groups and schedule; their losses must agree. On a GPU: our loop, our loop without compile and fused loss, and
HF Trainer with transformers' Llama of the same shape and Liger's kernels. The rows are real text from a run of
`yulanmini reproduce`, packed at the context asked for.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

MINIATURE = "train/configs/tiny/pretrain.yaml"
WARMUP = 5
READER_TOKENS, READER_STEP = 64_000_000, 262_144
READER_FLOOR = 20.0  # M tokens/s
WAITING_FLOOR = 0.01
MONITOR_FLOOR = 0.01


def build_rows(run: Path, folder: Path, *, context: int, tokens: int) -> Path:
    """Pack about `tokens` of the run's corpus, gone through as often as that takes; returns the folder of phases."""
    from data_recipes.build import build_phases
    from data_recipes.recipe import Recipe

    sources = sorted((run / "01-corpus" / "train").glob("*.jsonl"))
    recipe = Recipe.model_validate(
        {
            "name": "phase-01",
            "phase": 1,
            "context_length": context,
            "subsets": [
                {"name": path.stem, "tokens": tokens // len(sources) + context, "source": {"path": str(path)}}
                for path in sources
            ],
        }
    )
    build_phases([recipe], folder, tokenizer=run / "02-tokenizer", store=folder / "store", progress=False)
    return folder


def settings(options: argparse.Namespace, data: Path, out: Path) -> dict[str, Any]:
    """The run's config: the miniature's, or the full model's shape with the miniature's schedule."""
    import yaml

    config = yaml.safe_load((Path(__file__).resolve().parents[1] / MINIATURE).read_text())
    config |= {
        "output_dir": str(out),
        "tokenizer": str(options.run / "02-tokenizer"),
        "data": {"dir": str(data), "phases": [1]},
        "tokens_per_step": options.rows * options.context,
        "max_steps": options.steps + WARMUP,
        "heldout": None,
        "device": options.device,
        "stages": [],
        "schedule": {"warmup_steps": 30},
        "export": {"phase_ends": False},
    }
    config["monitors"] = {"interval": 20, "flush_every": 1}
    if options.shape == "full":
        config["model"] = {"max_position_embeddings": options.context, "vocab_size": 99_000}
        config |= {
            "precision": "bfloat16",
            "parametrization": {"name": "yulanmini", "base_width": 256},
            "compile": True,
        }
        config["micro_batch_rows"] = options.micro_batch
        config["monitors"]["flush_every"] = 5
        if options.recompute:
            config["recomputation"] = {"mode": "every", "k": options.recompute}
    return config


def ours(options: argparse.Namespace, data: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each step after the warm-up (rows, log and all), losses, share of the time spent waiting for rows."""
    import torch

    from data_recipes.schema_errors import validate
    from train.config import PretrainConfig
    from train.pretrain import StopSignal, train
    from train.run import Run
    from train.world import enter_world

    with tempfile.TemporaryDirectory() as folder:
        values = settings(options, data, Path(folder) / "run")
        for key, value in changes.items():
            values[key] = value if not isinstance(value, dict) else {**(values.get(key) or {}), **value}
        config = validate(PretrainConfig, values, where="benchmark")
        world = enter_world(config)
        run = Run(config, world)
        # The checkpoint at the end is no part of a step.
        run.finish = lambda: None  # type: ignore[method-assign]
        run.end_phase = lambda phase: None  # type: ignore[method-assign]
        train(run, max_seconds=None, stop=StopSignal())
        run.flush()
        run.close()
        records = run.metrics.lines()
        world.close()
    steps = records[WARMUP:]
    seconds = [record["seconds"] for record in steps]
    return {
        "seconds": seconds,
        "losses": [record["loss"] + record["z_loss"] for record in records],
        "waiting": sum(record["waited"] for record in steps) / sum(seconds),
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30 if options.device == "cuda" else None,
    }


def hf_trainer(options: argparse.Namespace, data: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """The same from transformers' Trainer: on the CPU our model, optimizer and schedule; on a GPU Llama with Liger."""
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    from data_recipes.reader import PackedRows
    from data_recipes.schema_errors import validate
    from modeling_yulanmini import YuLanMiniConfig
    from train.build_model import build_model
    from train.config import PretrainConfig
    from train.parameter_groups import parameter_groups
    from train.schedule import Schedule

    config = validate(PretrainConfig, settings(options, data, Path("run")), where="benchmark")
    full = options.shape == "full"
    schedule = Schedule(lr=config.optimizer.lr, warmup_steps=30)
    if full:
        shape = YuLanMiniConfig(vocab_size=99_000)
        keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        keys += ("num_key_value_heads", "rms_norm_eps")
        llama = LlamaConfig(
            **{key: getattr(shape, key) for key in keys},
            max_position_embeddings=options.context,
            tie_word_embeddings=True,
            attention_bias=True,
            attn_implementation=config.attention,
        )
        with torch.device("cuda"):
            model: Any = LlamaForCausalLM(llama)
        optimizers: Any = (None, None)
    else:
        vocab_size = len(AutoTokenizer.from_pretrained(config.tokenizer))
        model, parametrization = build_model(config, vocab_size=vocab_size, device=torch.device("cpu"))
        groups = parameter_groups(
            model, lr_factor=parametrization.lr_factor, weight_decay=config.optimizer.weight_decay
        )
        for group in groups:
            group["lr"] = config.optimizer.lr * group["lr_factor"]
        optimizer = torch.optim.AdamW(groups, betas=config.optimizer.betas, eps=config.optimizer.eps, fused=True)
        rule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.lr_at(step) / schedule.lr)
        optimizers = (optimizer, rule)

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if options.device == "cuda":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    class InOrder(Trainer):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    # Its rows lie in memory as tensors, so that reading costs it next to nothing.
    packed = PackedRows(data / "phase-01")
    ids = torch.from_numpy(packed.rows(0, options.rows * (options.steps + WARMUP)).input_ids).long()
    rows = [{"input_ids": row} for row in ids]

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        input_ids = torch.stack([row["input_ids"] for row in batch])
        return {"input_ids": input_ids, "labels": input_ids}

    micro = options.micro_batch or options.rows
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=options.steps + WARMUP,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=options.rows // micro,
            max_grad_norm=config.optimizer.clip or 0.0,
            logging_steps=1 if options.device == "cpu" else 5,
            save_strategy="no",
            report_to=[],
            use_cpu=options.device == "cpu",
            bf16=full,
            tf32=True if full else None,
            use_liger_kernel=full,
            activation_checkpointing=bool(options.recompute),
            optim="adamw_torch_fused",
            learning_rate=config.optimizer.lr / 10,
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=options.device == "cuda",
        )
        trainer = InOrder(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=collate,
            optimizers=optimizers,
            callbacks=[Clock()],
        )
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "seconds": [b - a for a, b in zip(ends[WARMUP - 1 :], ends[WARMUP:], strict=False)],
        "losses": losses,
        "waiting": None,
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30 if options.device == "cuda" else None,
    }


def reader_speed(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """M tokens a second of the loop's own reader (labels, masks, checks and all) in steps of 256K tokens, one thread.

    At the miniature's and at the published context, without and with document mask. Median of five passes over the
    rows, after a first one that brings them from the disk into memory.
    """
    import torch

    from data_recipes.schema_errors import validate
    from train.batches import StepReader
    from train.config import PretrainConfig
    from train.curriculum import built_phases, make_curriculum
    from train.world import World

    found = {}
    for context in (128, 4096):
        data = build_rows(options.run, folder / f"reader-{context}", context=context, tokens=READER_TOKENS)
        for mask in (False, True):
            values = settings(options, data, Path("run")) | {
                "tokens_per_step": READER_STEP,
                "micro_batch_rows": None,
                "stages": [{"phases": "1", "document_mask": mask}],
            }
            config = validate(PretrainConfig, values, where="benchmark")
            curriculum = make_curriculum(config, built_phases(config))
            world = World(torch.device("cpu"), 0, 1)
            reader = StepReader(curriculum, world, vocab_size=1_000_000, attention=config.attention)
            speeds = []
            for _ in range(6):
                begin = time.perf_counter()
                for step in range(curriculum.total_steps):
                    reader.read(curriculum.at(step))
                speeds.append(curriculum.total_steps * READER_STEP / (time.perf_counter() - begin) / 1e6)
            reader.close()
            name = f"context {context}, {'with' if mask else 'without'} document mask"
            found[name] = statistics.median(speeds[1:])
    return found


CONTENDERS = {
    "ours": (ours, {}),
    "ours, no monitors": (ours, {"monitors": {"names": []}}),
    "ours, all monitors at every step": (ours, {"monitors": {"interval": 1}}),
    "ours, plain": (ours, {"compile": False, "model": {"use_liger": False}, "monitors": {"names": []}}),
    "HF Trainer": (hf_trainer, {}),
}


def carry_out(name: str, options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """One turn of a contender, in this process."""
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    if name == "reader":
        torch.set_num_threads(1)
        return reader_speed(options, data.parent)
    function, changes = CONTENDERS[name]
    return function(options, data, changes)


def in_process(name: str, options: argparse.Namespace, data: Path) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(carry_out, (name, options, data))


def measure(options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """All contenders in turn, `--repeats` times; medians over all steps of all turns, ratio turn by turn."""
    on_cpu = options.device == "cpu"
    names = [name for name in CONTENDERS if (name != "ours, plain") or not on_cpu]
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(options.repeats):
        for name in names if turn % 2 == 0 else reversed(names):
            print(f"turn {turn + 1} of {options.repeats}: {name}", file=sys.stderr)
            turns[name].append(in_process(name, options, data))
    tokens = options.rows * options.context
    found: dict[str, Any] = {}
    for name, done in turns.items():
        seconds = statistics.median(value for turn in done for value in turn["seconds"])
        found[name] = {"seconds": seconds, "tokens_per_second": tokens / seconds, "memory_gib": done[0]["memory_gib"]}
    waiting = statistics.median(turn["waiting"] for turn in turns["ours"])
    # Measured at every step, to be seen above the noise; at the miniature's interval a 20th of that falls on a step.
    every, none = found["ours, all monitors at every step"]["seconds"], found["ours, no monitors"]["seconds"]
    ratios = [
        statistics.median(theirs["seconds"]) / statistics.median(mine["seconds"])
        for mine, theirs in zip(turns["ours"], turns["HF Trainer"], strict=True)
    ]
    result = {
        "what": "one training step, whole loop; ratio above 1 means our loop is faster",
        "options": {key: value for key, value in vars(options).items() if not isinstance(value, Path)},
        "machine": {"processor": platform.processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate")},
        "contenders": found,
        "ratio_hf_trainer_over_ours": statistics.median(ratios),
        "ratio_in_each_turn": ratios,
        "share_of_time_waiting_for_rows": waiting,
        "monitors_share_of_a_step_at_interval_20": (every - none) / none / 20,
        "reader_million_tokens_per_second": in_process("reader", options, data),
    }
    if on_cpu:
        pairs = zip(turns["ours"][0]["losses"], turns["HF Trainer"][0]["losses"], strict=True)
        result["largest_loss_difference"] = max(abs(a - b) for a, b in pairs)
    else:
        result["mfu"] = mfu(options, found)
    return result


def mfu(options: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any] | None:
    """MFU of each contender by convention, with the peak assumed; None for an unknown device."""
    import torch

    from modeling_yulanmini import YuLanMiniConfig
    from modeling_yulanmini.flops import peak_flops, training_flops_per_token

    device = torch.cuda.get_device_name()
    peak = options.peak_tflops * 1e12 if options.peak_tflops else peak_flops(device)
    if peak is None:
        return None
    flops = training_flops_per_token(YuLanMiniConfig(vocab_size=99_000), options.context)
    by_name = {
        name: {convention: count * entry["tokens_per_second"] / peak for convention, count in flops.items()}
        for name, entry in found.items()
    }
    return {"device": device, "peak_flops": peak, "by_contender": by_name}


def check(result: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """What falls short of the floors."""
    problems = []
    if result.get("largest_loss_difference", 0) > 2e-3:
        problems.append(f"the loops disagree: losses differ by {result['largest_loss_difference']:.3g}")
    if result["ratio_hf_trainer_over_ours"] < 1:
        problems.append(f"slower than HF Trainer: {result['ratio_hf_trainer_over_ours']:.3f}")
    for name, speed in result["reader_million_tokens_per_second"].items():
        if speed < READER_FLOOR:
            problems.append(f"reader, {name}: {speed:.1f} M tokens/s, floor {READER_FLOOR:.0f}")
    if result["share_of_time_waiting_for_rows"] > WAITING_FLOOR:
        problems.append(f"waits for rows {result['share_of_time_waiting_for_rows']:.1%} of the time")
    if result["monitors_share_of_a_step_at_interval_20"] > MONITOR_FLOOR:
        problems.append(f"monitors cost {result['monitors_share_of_a_step_at_interval_20']:.1%} of a step")
    return problems


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"), help="folder of `yulanmini reproduce`")
    parser.add_argument("--shape", choices=["miniature", "full"], default="miniature")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--rows", type=int, default=14, help="rows a step")
    parser.add_argument("--micro-batch", type=int, help="rows a forward pass")
    parser.add_argument("--recompute", type=int, help="recompute all layers but every k-th")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def main() -> int:
    options = parse()
    tokens = options.rows * options.context * (options.steps + WARMUP + 1)
    with tempfile.TemporaryDirectory() as folder:
        data = build_rows(options.run, Path(folder) / "steps", context=options.context, tokens=tokens)
        result = measure(options, data)
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    problems = check(result, options)
    for problem in problems:
        print(f"below the floor: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
