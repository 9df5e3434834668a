"""A folder with right inputs of every kind, as small as they come, beside wrong ones; the rows' working folder."""

import json
import os
import shutil
from pathlib import Path

import yaml
from on_policy_miniature import write_on_policy_config
from pretrain_miniature import PHASES, pretrain, write_inputs, write_run_config
from sft_miniature import write_dialogues, write_dpo_config, write_llama, write_sft_config, write_tokenizer

from data_recipes.manifest import write_manifest
from modeling_yulanmini.create import create_model

GARBAGE = bytes(range(256)) * 4
SHAPE = {
    "model_type": "yulanmini",
    "vocab_size": 263,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def write_place(place: Path) -> Path:
    """Fill `place`, which is there and empty; returns it. Takes about two seconds."""
    _write_right_inputs(place)
    _write_files(place)
    _write_broken_folders(place)
    return place


def _write_right_inputs(place: Path) -> None:
    write_inputs(place)  # tokenizer, text, data, heldout
    write_llama(place / "llama")
    write_tokenizer(place / "llama")
    config = place / "model.json"
    config.write_text(json.dumps(SHAPE))
    from modeling_yulanmini.create import config_from

    create_model(place / "model", config_from(str(config)), seed=0)
    write_tokenizer(place / "model")
    write_dialogues(place / "dialogues.jsonl")

    source = {"path": "dialogues.jsonl", "category": "math"}
    mixtures: dict[str, dict] = {
        "mixture": {"sources": {"sums": source}},
        "mixture-column": {"sources": {"sums": {**source, "columns": {"messages": "mesages"}}}},
        "mixture-judge": {"sources": {"sums": source}, "steps": [{"step": "judge", "model": "served"}]},
        "mixture-nowhere": {"sources": {"sums": {"path": "nodir/dialogues.jsonl"}}},
        "mixture-shares": {"sources": {"sums": source}, "shares": {"maths": 1.0}},
        "mixture-pairs": {"sources": {"sums": source}, "pairs": {"dialogues": 4}},
    }
    for name, mixture in mixtures.items():
        (place / f"{name}.yaml").write_text(yaml.safe_dump(mixture))

    corpus = place / "corpus"
    shutil.copytree(place / "heldout", corpus / "heldout")
    (corpus / "train").mkdir()
    shutil.copy(place / "text" / "a.jsonl", corpus / "train" / "code.jsonl")
    write_manifest(corpus, kind="corpus", inputs={}, config={}, counts={"documents": 120})

    subset = {"name": "a", "tokens": 4096, "source": {"path": "text/a.jsonl"}}
    recipe = {"name": "mine", "context_length": 32, "tokenizer": "tokenizer", "subsets": [subset]}
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    write_run_config(place, place / "pretrain.yaml", output_dir="new-run", heldout=None)
    write_sft_config(place, output_dir="new-tuned", model="llama")
    write_dpo_config(place, output_dir="new-preferred", model="llama")
    write_on_policy_config(place, output_dir="new-rewarded", model="llama")
    selection = {
        "model": "llama",
        "candidates": {"mine": "dialogues.jsonl"},
        "targets": {"mine": "dialogues.jsonl"},
        "output_dir": "new-selection",
        "select": {"count": 2},
    }
    (place / "select.yaml").write_text(yaml.safe_dump(selection))

    run = write_run_config(place, place / "run.yaml", max_steps=2, heldout=None, checkpoint={"every_steps": 2})
    assert pretrain(run) == 0
    # As much of `yulanmini reproduce` as a study reads.
    reproduction = place / "reproduction"
    shutil.copytree(place / "tokenizer", reproduction / "02-tokenizer")
    write_manifest(reproduction / "02-tokenizer", kind="tokenizer", inputs={}, config={}, counts={})
    shutil.copytree(place / "data", reproduction / "03-data")
    for phase in range(3, 26):
        (reproduction / "03-data" / f"phase-{phase:02d}").symlink_to("phase-01")
    write_manifest(reproduction / "03-data", kind="data", inputs={}, config={}, counts={"phases": len(PHASES)})


def _write_files(place: Path) -> None:
    (place / "folder").mkdir()
    (place / "folder" / "thesis.txt").write_text("mine")
    (place / "file.txt").write_text("some text\n")
    (place / "broken-link").symlink_to("gone")
    for ending in ("yaml", "json", "jsonl", "safetensors"):
        (place / f"garbage.{ending}").write_bytes(GARBAGE)
        (place / f"empty.{ending}").touch()
    (place / "with a space").mkdir()
    (Path(os.fsdecode(os.fsencode(place) + b"/not-utf8-\xff"))).write_bytes(GARBAGE)


def _write_broken_folders(place: Path) -> None:
    shutil.copytree(place / "model", place / "truncated")
    cut(place / "truncated" / "model.safetensors")
    shutil.copytree(place / "model", place / "garbage-model")
    (place / "garbage-model" / "config.json").write_bytes(GARBAGE)
    shutil.copytree(place / "data" / "phase-01", place / "broken-phase")
    (place / "broken-phase" / "manifest.json").write_bytes(GARBAGE)
    checkpoint = place / "run" / "checkpoints" / "step-00000002"
    for name in ("broken-checkpoint", "truncated-checkpoint"):
        shutil.copytree(checkpoint, place / name)
    (place / "broken-checkpoint" / "trainer.json").write_bytes(GARBAGE)
    for file in (place / "truncated-checkpoint").glob("*.distcp"):
        cut(file)
    (place / "broken-run").mkdir()
    for name in ("config.yaml", "metrics.jsonl"):
        (place / "broken-run" / name).write_bytes(GARBAGE)


def cut(path: Path) -> None:
    """Half a file, as an interrupted copy leaves it."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
