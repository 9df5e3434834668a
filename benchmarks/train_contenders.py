"""The contenders of benchmarks/train_step.py: our loop and HF Trainer on the same rows."""

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

MINIATURE = "train/configs/tiny.yaml"
WARMUP = 5


class Turns:
    """Who may take a step: contenders that run side by side take one each in turn, so that noise meets all alike."""

    def __init__(self, mine: Any, following: Any, ready: Any, steps: int) -> None:
        self._mine, self._following, self._ready = mine, following, ready
        self._left = steps

    def begin(self) -> None:
        """Wait until all are built, then for the first turn."""
        self._ready.wait()
        self._mine.acquire()

    def hand_over(self) -> None:
        """A step is done: let the next one go, and wait for the next turn unless this was the last."""
        self._left -= 1
        self._following.release()
        if self._left:
            self._mine.acquire()


def build_rows(run: Path, folder: Path, *, context: int, tokens: int) -> Path:
    """Pack about `tokens` of the run's corpus, gone through as often as that takes; returns the folder of phases."""
    from data_recipes.packing.build import build_phases
    from data_recipes.recipes.recipe import Recipe

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
        "stages": [{"phases": "1", "document_mask": True}] if getattr(options, "document_mask", False) else [],
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


def ours(options: argparse.Namespace, data: Path, changes: dict[str, Any], turns: Turns | None) -> dict[str, Any]:
    """Seconds of each step after the warm-up (rows, log and all), losses, share of the time spent waiting for rows."""
    import torch

    from data_recipes.recipes.yaml_schema import validate
    from train import pretrain
    from train.config import PretrainConfig
    from train.launch.stop import StopSignal
    from train.launch.world import enter_world
    from train.run.run import Run

    with tempfile.TemporaryDirectory() as folder:
        values = settings(options, data, Path(folder) / "run")
        for key, value in changes.items():
            values[key] = value if not isinstance(value, dict) else {**(values.get(key) or {}), **value}
        config = validate(PretrainConfig, values, where="benchmark")
        world = enter_world(config)
        run = Run(config, world)
        # The checkpoint at the end is no part of a step.
        pretrain.finish = lambda *_: True
        if turns is not None:
            turns.begin()
            flush = run.flush

            def flush_and_hand_over() -> Any:
                stepped = len(run.pending) > 0
                offending = flush()
                if stepped:
                    turns.hand_over()
                    run.restart_clock()
                return offending

            run.flush = flush_and_hand_over  # type: ignore[method-assign]
        pretrain.train(run, max_seconds=None, stop=StopSignal())
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


def hf_trainer(options: argparse.Namespace, data: Path, changes: dict[str, Any], turns: Turns | None) -> dict[str, Any]:
    """The same from transformers' Trainer: on the CPU our model, optimizer and schedule; on a GPU Llama with Liger."""
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    from data_recipes.recipes.yaml_schema import validate
    from data_recipes.rows.reader import PackedRows
    from modeling_yulanmini import YuLanMiniConfig
    from train.config import PretrainConfig
    from train.curriculum.schedule import Schedule
    from train.model_setup.build import build_model
    from train.model_setup.parameter_groups import parameter_groups

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
            attn_implementation="sdpa",
        )
        with torch.device("cuda"):
            model: Any = LlamaForCausalLM(llama)
        optimizers: Any = (None, None)
    else:
        vocab_size = len(AutoTokenizer.from_pretrained(config.tokenizer))
        model, parametrization = build_model(config, vocab_size=vocab_size, device=torch.device("cpu"))
        groups = parameter_groups(model, lr_factor=parametrization.lr_factor, settings=config.optimizer)
        for group in groups:
            group["lr"] = config.optimizer.lr * group["lr_factor"]
        optimizer = torch.optim.AdamW(groups, betas=config.optimizer.betas, eps=config.optimizer.eps, fused=True)
        rule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.lr_at(step) / schedule.lr)
        optimizers = (optimizer, rule)

    begins: list[float] = []
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if turns is not None:
                turns.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if options.device == "cuda":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())
            if turns is not None:
                turns.hand_over()
            begins.append(time.perf_counter())

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
        "seconds": [end - begin for begin, end in zip(begins[WARMUP - 1 :], ends[WARMUP:], strict=False)],
        "losses": losses,
        "waiting": None,
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30 if options.device == "cuda" else None,
    }


CONTENDERS = {
    "ours": (ours, {}),
    "ours, no monitors": (ours, {"monitors": {"names": []}}),
    "ours, all monitors at every step": (ours, {"monitors": {"interval": 1}}),
    "ours, plain": (ours, {"compile": False, "monitors": {"names": []}}),
    "HF Trainer": (hf_trainer, {}),
}
