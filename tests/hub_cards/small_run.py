"""A finished run in the layout that `yulanmini reproduce` leaves, with real models of some thousand parameters."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data_recipes.manifest import fingerprint_of, sha256_file, write_manifest
from data_recipes.packing.gather import Rows
from data_recipes.packing.writer import record_batch
from data_recipes.recipes.phases import phase_folder
from data_recipes.rows.layout import schema_of, write_for_datasets
from data_recipes.tokens.tokenizer import load_tokenizer
from eval.tasks.base import score_row
from hub_cards.cards.card import write_card
from hub_cards.cards.settings import CardSettings
from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.checkpoints.export import copy_tokenizer
from yulanmini.run_layout import card_files

SHAPE = {
    "vocab_size": 288,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MIXES = ("phase-01", "phase-02", "phase-26-4k", "phase-26")
PHASE_STEPS = {"1": 35, "2": 70, "26-4k": 105, "26": 105}
TOKENS_PER_STEP = 3584
DOMAINS = ("web-en", "math")
PRETRAINED = {
    "tokens_per_step": TOKENS_PER_STEP,
    "init": None,
    "parametrization": {"name": "yulanmini"},
    "optimizer": {"lr": 0.006, "betas": [0.9, 0.95], "eps": 1e-15, "weight_decay": 0.1, "clip": 1.0, "kind": "adamw"},
    "schedule": {
        "warmup_steps": 30,
        "warmup_tokens": None,
        "annealing": {"start": 26, "steps": None, "shape": "1-sqrt", "floor": 0.00522},
    },
    "stages": [{"phases": "1-25", "rope_theta": 10000.0}, {"phases": "26-27", "rope_theta": None}],
    "precision": "float32",
    "seed": 0,
}
TUNED = {"sft": "06-sft", "dpo": "07-dpo", "on-policy": "08-on-policy"}


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_lines(path: Path, lines: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_model(folder: Path, model: torch.nn.Module) -> None:
    model.save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {word: number for number, word in enumerate([*SPECIAL, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    unk, bos, eos, pad = SPECIAL
    special = {"unk_token": unk, "bos_token": bos, "eos_token": eos, "pad_token": pad}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE, **special).save_pretrained(folder)


def write_mix(folder: Path, run: Path) -> None:
    """A built phase of four rows of eight tokens, as the builder writes it."""
    folder.mkdir(parents=True)
    ids, ends = np.arange(32).reshape(4, 8), np.arange(1, 5)
    rows = Rows(ids, np.zeros(4, int), ends, *np.zeros((3, 4), int), np.arange(4) * 8, np.arange(1, 5) * 8)
    schema = schema_of(8)
    with pa.OSFile(str(folder / "rows-00000.arrow"), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        writer.write_batch(record_batch(rows, np.zeros(4, int), schema))
    write_json(folder / "sources.json", [{"name": "web", "files": ["web-en.jsonl"]}])
    identity = {
        "inputs": {"source web": 4 * "fedcba9876543210"},
        "config": {"name": folder.name, "packing": "concat", "missing": [], "rows_per_shard": 100},
        "seed": 0,
    }
    shards = ["rows-00000.arrow"]
    write_for_datasets(folder, title=folder.name, shards=shards, fingerprint=fingerprint_of(identity))
    text = str(run.resolve() / "01-corpus" / "train" / "web-en.jsonl")
    tokenizer = load_tokenizer(str(run / "02-tokenizer"))
    write_manifest(
        folder,
        kind="packed-rows",
        **identity,
        counts={"rows": 4, "tokens": 32, "documents": 5, "padding": 0},
        context_length=8,
        tokenizer={**tokenizer.describe(), "location": str((run / "02-tokenizer").resolve())},
        subsets=[{"name": "web", "domain": "web-en", "source": "web", "rows": 4, "tokens": 32}],
        sources=[
            {
                "name": "web",
                "fingerprint": 4 * "fedcba9876543210",
                "revision": None,
                "licence": None,
                "epochs": None,
                "drops": {"malformed JSON": 3},
                "entry": {"path": text},
                "location": text,
            }
        ],
        recipe={"name": folder.name, "context_length": 8, "subsets": [{"name": "web", "tokens": 32}]},
    )


def scores(model: str) -> dict[str, Any]:
    right = 3 if model == "base" else 47
    counted = {"better": "higher", "count": 50, "chance": 0.05, "protocol": "greedy answers"}
    sample = {"prompt": '3 + "4"?', "output": "7 ``` so", "expected": "7", "correct": True, "language": "en"}
    sample |= {"text": 'Question: 3 + "4"?\nAnswer:\n', "kind": "addition", "level": 1}
    return {
        "model": model,
        "rows": [
            *(
                {"task": "problems"} | score_row("exact match", group, right / 50, correct=right, **counted)
                for group in ("level 1", "level 1 / addition", "level 1 / addition / en")
            ),
            *(
                {"task": "heldout"} | score_row("bits per byte", name, value, better="lower", count=7)
                for name, value in zip(DOMAINS, (1.05, 1.2) if model == "base" else (1.1, 1.7), strict=True)
            ),
        ],
        "samples": [sample],
    }


def write_small_run(run: Path) -> Path:
    """The run's folders `03-data` to `09-scores`, as far as publishing reads them."""
    torch.manual_seed(0)
    sides = {"train": {"documents": 3709, "bytes": 5_876_506}, "heldout": {"documents": 67, "bytes": 85_223}}
    domains = {domain: {**sides, "origins": {"python": 5_876_506}} for domain in DOMAINS}
    domains["math"]["origins"] = {"generated": 737_033}
    write_json(run / "01-corpus" / "manifest.json", {"counts": {"domains": domains}})
    pretrain = run / "04-pretrain"
    for phase, step in PHASE_STEPS.items():
        folder = pretrain / "models" / phase_folder(phase)
        write_model(folder, YuLanMiniForCausalLM(YuLanMiniConfig(**SHAPE)))
        write_manifest(
            folder, kind="model", inputs={}, config={"dtype": "float32"}, counts={"step": step, "phase": phase}
        )
    (run / "02-tokenizer").mkdir()
    copy_tokenizer(pretrain / "models" / "phase-01", run / "02-tokenizer")
    for mix in MIXES:
        write_mix(run / "03-data" / mix, run)
    write_lines(
        pretrain / "heldout.jsonl",
        [
            {
                "step": step,
                "phase": phase,
                "domain": domain,
                "loss": 5.0 - step / 50,
                "bits_per_byte": 3.0 - step / 99,
                "protocol": "overlapping windows of 32 tokens, stride 16",
            }
            for step, phase in ((0, "1"), (35, "1"), (70, "2"), (105, "26"))
            for domain in DOMAINS
        ],
    )
    session = {"devices": {"Some CPU": 2}, "processes": 2, "seconds": 1800.0, "gpu_joules": None, "cpu_joules": 9e5}
    write_json(pretrain / "hardware.json", {"sessions": [session, session]})
    write_lines(pretrain / "metrics.jsonl", [{"step": 1, "loss": 5.0}])
    (pretrain / "config.yaml").write_text(yaml.safe_dump({"data": {"dir": str(run.resolve() / "03-data")}}))
    total = max(PHASE_STEPS.values())
    write_json(
        pretrain / "manifest.json",
        {
            "schema_version": 1,
            "kind": "pretraining-run",
            "fingerprint": "f",
            "config": PRETRAINED,
            "counts": {
                "steps": total,
                "tokens": total * TOKENS_PER_STEP,
                "parameters": 12_345,
                "phases": ["1", "2", "26"],
            },
            "packages": {"yulanmini": "0.1.0", "torch": "2.13.0"},
        },
    )
    llama = LlamaForCausalLM(LlamaConfig(**SHAPE | {"tie_word_embeddings": False}))
    write_model(run / "05-merged", llama.to(torch.bfloat16))
    result = {name: sha256_file(run / "05-merged" / name) for name in ("config.json", "model.safetensors")}
    write_json(
        run / "05-merged" / "merge_certificate.json",
        {
            "result": {"sha256": result},
            "comparison": {
                "tokens": 512,
                "float32": {"max_abs_logit_difference": 2.4e-6, "max_abs_logit": 13.7, "limit": 1.4e-3},
                "as_stored": {"max_abs_logit_difference": 0.02, "mean_kl": 3.1e-5, "argmax_agreement": 0.998},
            },
        },
    )
    for stage in TUNED.values():
        write_stage(run / stage, run)
    for model in ("base", *TUNED):
        write_json(run / "09-scores" / model / "scores.json", scores(model))
    return run


def write_stage(folder: Path, run: Path) -> None:
    """A stage that made the instruct model."""
    write_model(folder, YuLanMiniForCausalLM(YuLanMiniConfig(**SHAPE)))
    write_lines(folder / "metrics.jsonl", [{"step": n, "loss": 3.0 / n} for n in (1, 2, 3)])
    config = {"batch_size": 32, "epochs": 2.0, "optimizer": {"lr": 0.001}, "output_dir": str(run.resolve())}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    counts = {"dialogues": 4000, "trained_on_tokens": 777_000, "steps": 250}
    write_manifest(folder, kind="sft", inputs={}, config=config, counts=counts)


def card_of(run: Path, kind: str, folder: Path, **more: Any) -> str:
    """The card of one of the run's models, written into a folder of its own."""
    folder.mkdir(exist_ok=True)
    links = {"base": "someone/tiny", "checkpoints": "someone/tiny-checkpoints", "data": "someone/tiny-data"}
    write_card(folder, CardSettings(kind, f"someone/tiny-{kind}", links, **more), card_files(run))
    return (folder / "README.md").read_text()


def without_weights(run: Path, copy: Path) -> Path:
    """A copy of the run to be changed, for cards, which read no weights."""
    return Path(shutil.copytree(run, copy, ignore=shutil.ignore_patterns("*.safetensors", "*.arrow")))
