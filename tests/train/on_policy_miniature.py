"""Prompts and configs for the tests of the on-policy stage, over the Llama and the tokenizer of the SFT tests."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from sft_miniature import SPECIAL, write_llama, write_tokenizer
from transformers import AutoTokenizer

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForSequenceClassification


def write_classifier(folder: Path) -> Path:
    """A reward model of our architecture; its padding token is the one that ends a turn, as TRL would have it."""
    write_tokenizer(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = YuLanMiniConfig(
        vocab_size=len(SPECIAL) + 256,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.5,
        num_labels=1,
        pad_token_id=SPECIAL.index("<|eot_id|>"),
        **sizes,
    )
    YuLanMiniForSequenceClassification(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = "<|eot_id|>"
    tokenizer.save_pretrained(folder)
    return folder


def write_prompts(path: Path, count: int = 32) -> Path:
    lines = [
        {"prompt": f"{number % 10}+{number // 10}=?" + " please" * (number % 3), "answer": number % 10 + number // 10}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_on_policy_config(folder: Path, **changes: Any) -> Path:
    """A config of 8 steps over everything else in `folder`, which is made as needed."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        write_llama(folder / "model")
    if not (folder / "tokenizer").exists():
        write_tokenizer(folder / "tokenizer")
    if not (folder / "prompts.jsonl").exists():
        write_prompts(folder / "prompts.jsonl")
    if not (folder / "reward").exists():
        write_classifier(folder / "reward")
    config = {
        "model": str(folder / "model"),
        "tokenizer": str(folder / "tokenizer"),
        "prompts": str(folder / "prompts.jsonl"),
        "output_dir": str(folder / "out"),
        "threads": 1,
        "max_prompt_length": 64,
        "max_completion_length": 8,
        "batch_size": 16,
        "micro_batch_size": 8,
        "epochs": 1,
        "optimizer": {"lr": 0.003, "warmup_ratio": 0.0, "min_lr_ratio": 1.0},
        "checkpoint": {"every_steps": 3},
        "rewards": {
            "reward_model": {"model": str(folder / "reward"), "dtype": "float32"},
            "unfinished": {"weight": 0.5},
            "verified_answer": {},
        },
        **changes,
    }
    path = folder / "on-policy.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
