"""A Llama of 30k parameters, a tokenizer with a chat template, some dialogues and pairs: what tuning tests train on."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}{{- message['content'] + '<|eot_id|>' }}{%- endgeneration %}"
    "{%- else %}{{- message['content'] + '<|eot_id|>' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n' }}{%- endif %}"
)


def write_tokenizer(folder: Path, *, template: str = TEMPLATE) -> Path:
    """Bytes and special tokens: no training needed, every text can be encoded."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=SPECIAL[4:],
        chat_template=template,
    )
    wrapped.save_pretrained(folder)
    return folder


def write_llama(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + 256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        tie_word_embeddings=False,
        **changes,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_yulanmini(folder: Path) -> YuLanMiniForCausalLM:
    """A model whose scales and biases are far from what a plain Llama has, with a z-loss of its own."""
    torch.manual_seed(1)
    config = YuLanMiniConfig(
        vocab_size=len(SPECIAL) + 256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        lm_head_alpha=1.7,
        z_loss=0.5,
    )
    model = YuLanMiniForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or "alpha" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def dialogue(number: int) -> dict[str, Any]:
    """A sum and its answer; the length varies with the number."""
    draw = random.Random(number)
    a, b = draw.randrange(10), draw.randrange(10)
    question = f"{a}+{b}=?" + " please" * draw.randrange(4)
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": str(a + b)}]}


def write_dialogues(path: Path, count: int = 64) -> Path:
    path.write_text("".join(json.dumps(dialogue(number)) + "\n" for number in range(count)))
    return path


def pair(number: int) -> dict[str, Any]:
    """The sum again, its answer preferred to a wrong one of other length."""
    question, answer = dialogue(number)["messages"]
    wrong = {"role": "assistant", "content": "no idea" if number % 3 else "0"}
    return {"prompt": [question], "chosen": [answer], "rejected": [wrong]}


def write_pairs_file(path: Path, count: int = 64) -> Path:
    path.write_text("".join(json.dumps(pair(number)) + "\n" for number in range(count)))
    return path


def write_sft_config(folder: Path, **changes: Any) -> Path:
    """A config of 16 steps over everything else in `folder`, which is made as needed."""
    return write_tuning_config(folder, "sft", "dialogues", write_dialogues, **changes)


def write_dpo_config(folder: Path, **changes: Any) -> Path:
    """The same of DPO, over pairs."""
    return write_tuning_config(folder, "dpo", "pairs", write_pairs_file, **changes)


def write_tuning_config(folder: Path, name: str, data: str, write_data: Callable[[Path], Path], **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        write_llama(folder / "model")
    if not (folder / "tokenizer").exists():
        write_tokenizer(folder / "tokenizer")
    if not (folder / f"{data}.jsonl").exists():
        write_data(folder / f"{data}.jsonl")
    config = {
        "model": str(folder / "model"),
        "tokenizer": str(folder / "tokenizer"),
        data: str(folder / f"{data}.jsonl"),
        "output_dir": str(folder / "out"),
        "threads": 1,
        "max_length": 128,
        "batch_size": 8,
        "micro_batch_size": 4,
        "epochs": 2,
        "optimizer": {"lr": 0.01},
        "checkpoint": {"every_steps": 4},
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
