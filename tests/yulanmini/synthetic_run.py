"""Writes a run folder with the files that `reproduce` leaves and made-up numbers: for the report's tests, in ms."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from eval.tasks.base import score_row
from eval.tasks.problems import tally

DOMAINS = {
    "web-en": (0.49, 2.9),
    "web-zh": (0.085, 3.6),
    "code": (0.19, 2.0),
    "math": (0.075, 2.3),
    "books-papers-encyclopedia": (0.10, 2.6),
    "instruction-synthetic": (0.06, 1.5),
}
STAGES = ("corpus", "tokenizer", "data", "pretrain", "merge", "sft", "dpo", "on-policy", "scores", "hub")
FOLDERS = (
    *("01-corpus", "02-tokenizer", "03-data", "04-pretrain", "05-merged"),
    *("06-sft", "07-dpo", "08-on-policy", "09-scores", "10-hub"),
)
TUNED = ("sft", "dpo", "on-policy")
MIXES = [str(phase) for phase in range(1, 26)] + ["26-4k", "26", "27"]
PARAMETERS = 3 * 128 * 256
PROTOCOL = "overlapping windows of 128 tokens, stride 64"


def heldout_bytes(level: float) -> int:
    return round(20_000 * (2.2 + level / 3))


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False))


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def manifest(stage: str, *, inputs: dict[str, str], counts: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "fingerprint": f"{stage}-{'0123456789abcdef' * 4}"[:64],
        "kind": stage,
        "inputs": inputs,
        "config": {},
        "seed": 20,
        "files": {},
        "counts": counts,
        "packages": {"torch": "2.13.0", "transformers": "5.23.0", "yulanmini": "0.1.0"},
        **extra,
    }


def write_mixes(folder: Path, random_numbers: random.Random) -> None:
    for index, mix in enumerate(MIXES):
        late = mix.startswith(("26", "27"))
        subsets = []
        for domain, (share, _) in DOMAINS.items():
            weight = share * (3.5 if late and domain == "instruction-synthetic" else 1 + 0.01 * index * (share < 0.1))
            parts = [random_numbers.random() ** 3 for _ in range(12 if domain != "web-en" else 4)]
            for number, part in enumerate(parts):
                tokens = round(125_000 * weight * part / sum(parts))
                subsets.append({"name": f"{domain}/subset_{number}", "domain": domain, "tokens": tokens})
        total = sum(subset["tokens"] for subset in subsets)
        context = 896 if late and "-" not in mix else 128
        name, _, variant = mix.partition("-")
        write_json(
            folder / f"phase-{int(name):02d}{'-' + variant if variant else ''}" / "manifest.json",
            manifest(
                "packed-rows",
                inputs={},
                counts={"rows": total // context, "tokens": total, "documents": 700 + index},
                name=f"phase-{mix}",
                phase=int(name),
                variant=variant or None,
                context_length=context,
                subsets=subsets,
            ),
        )


def write_pretraining(folder: Path, random_numbers: random.Random, *, phases: int, steps_per_phase: int) -> None:
    total, warmup, peak = phases * steps_per_phase, 30, 0.004
    annealing_start = min(25, phases) * steps_per_phase
    records = []
    for step in range(1, total + 1):
        phase = (step - 1) // steps_per_phase + 1
        done = max(step - annealing_start, 0) / max(total - annealing_start, 1)
        rate = peak * min(step / warmup, 1) * (1 - 0.99 * math.sqrt(done))
        base = 2.9 + 5.2 * math.exp(-step / 90) + 0.9 * math.exp(-step / 400) - 0.35 * math.sqrt(done)
        record = {
            "step": step,
            "phase": str(phase),
            "loss": base + random_numbers.gauss(0, 0.08),
            "lr": rate,
            "grad_norm": math.exp(random_numbers.gauss(-0.9, 0.3)) * (1 + 9 * math.exp(-step / 15)),
            "tokens": 3584,
            "seconds": 0.22 + 0.02 * random_numbers.random() + (0.05 if phase > 25 else 0),
            "z_loss": 1e-3,
        }
        if step % 5 == 0:
            record["hidden_state_variance"] = [
                0.05 * (layer + 1) ** 1.7 * (1 + 2 * math.log1p(step / 40)) * math.exp(random_numbers.gauss(0, 0.04))
                for layer in range(6)
            ]
        records.append(record)
    write_lines(folder / "metrics.jsonl", records)
    held = []
    for phase in range(phases + 1):
        for domain, (_, level) in DOMAINS.items():
            done = max(phase - 25, 0) / 2
            bits = level * (0.55 + 0.75 * math.exp(-phase / 1.2) + 0.25 * math.exp(-phase / 9) - 0.05 * done)
            held.append(
                {
                    "step": phase * steps_per_phase,
                    "phase": str(phase or 1),
                    "domain": domain,
                    "loss": bits * 2.9 * math.log(2),
                    "bits_per_byte": bits,
                    "tokens": 20_000,
                    "bytes": heldout_bytes(level),
                    "protocol": PROTOCOL,
                }
            )
    write_lines(folder / "heldout.jsonl", held)
    config = {
        "model": {"hidden_size": 128, "num_hidden_layers": 6},
        "tokens_per_step": 3584,
        "data": {"dir": str(folder.parent / "03-data")},
        "optimizer": {"lr": peak, "clip": 1.0},
        "schedule": {"warmup_steps": warmup, "annealing": {"start": 26, "shape": "1-sqrt"}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    model = folder / "models" / f"phase-{phases:02d}"
    model.mkdir(parents=True)
    save_file(
        {"a": np.zeros((128, 256), np.float32), "b": np.zeros((256, 256), np.float32)}, model / "model.safetensors"
    )
    write_json(
        folder / "manifest.json", manifest("pretraining-run", inputs={"data": "d" * 64}, counts={"steps": total})
    )


KINDS = (
    ("addition", 1, "en", 0.93, 0.05),
    ("addition", 2, "en", 0.48, 0.01),
    ("comparison", 1, "en", 0.97, 0.5),
    ("counting", 1, "zh", 0.81, 0.1),
    ("calendar", 2, "zh", 0.35, 0.14),
    ("sorting", 2, "en", 0.0, 0.0),
    ("even or odd", 1, "en", 0.2, 0.5),
)
SAMPLES = (
    ("What is 3 + 4?", "3 + 4 = 7. The answer is 7.", "7", True, "addition", 1, "en"),
    ("小明有 5 个苹果，又买了 2 个，现在有几个？", "5 + 2 = 7，答案是 7。", "7", True, "counting", 1, "zh"),
    ("What is 17 + 28?", "17 + 28 = 44. <b>The answer</b> is 44.", "45", False, "sorting", 2, "en"),
)


def scores_of(model: str) -> dict[str, Any]:
    tuned = model in TUNED
    answers = [
        {
            "kind": kind,
            "level": level,
            "language": language,
            "chance": chance,
            "tokens_cut": 0,
            "correct": asked < right,
        }
        for kind, level, language, share, chance in KINDS
        for right in [round(50 * (share if tuned else chance / 2))]
        for asked in range(50)
    ]
    samples = [
        {
            "prompt": prompt,
            "output": output if tuned else "the the of and",
            "expected": expected,
            "correct": correct and tuned,
            "kind": kind,
            "level": level,
            "language": language,
        }
        for prompt, output, expected, correct, kind, level, language in SAMPLES
    ]
    if not tuned:
        beginning = {"prompt": "def area(width):", "output": " return width", "expected": None, "correct": None}
        samples.append({**beginning, "language": "en", "domain": "code"})
    rows = [
        {"task": "heldout"}
        | score_row(
            "bits per byte",
            domain,
            level * (0.9 if tuned else 0.55),
            better="lower",
            count=20,
            protocol=PROTOCOL,
            bytes=heldout_bytes(level),
        )
        for domain, (_, level) in DOMAINS.items()
    ]
    rows += [{"task": "problems"} | row for row in tally(answers)]
    return {"model": model, "rows": rows, "samples": samples}


def corpus_counts() -> dict[str, Any]:
    sides = {"train": {"documents": 900, "bytes": 400_000}, "heldout": {"documents": 20, "bytes": 9_000}}
    return {
        "domains": {domain: {**sides, "origins": {"files": 400_000}} for domain in DOMAINS},
        "dialogues": {"train": 4000, "heldout": 250},
        "dropped": {"near_heldout": 3},
    }


def cleaning_summary() -> dict[str, Any]:
    """Two domains of 500 documents of 10 characters each, of which a hundred and two hundred are near duplicates."""
    funnel = []
    for source, dropped in (("web-en", 100), ("code", 200)):
        for step, reached, lost in (("reading", 500, 0), ("near-duplicates", 500, dropped)):
            row = {"source": source, "step": step, "reasons": {"similar": {"documents": lost}} if lost else {}}
            for what, each in (("documents", 1), ("characters", 10)):
                row |= {f"{what}_in": reached * each, f"{what}_dropped": lost * each}
                row[f"{what}_kept"] = (reached - lost) * each
            funnel.append(row)
    counts = {"documents": 1000, "characters": 10_000, "kept_documents": 700, "kept_characters": 7_000}
    return {**counts, "sources": ["web-en", "code"], "steps": ["reading", "near-duplicates"], "funnel": funnel}


def write_run(run: Path, *, phases: int = 27, steps_per_phase: int = 35) -> Path:
    """A whole run of `phases` phases in `run`; delete files from it for an interrupted one."""
    random_numbers = random.Random(7)
    folders = {stage: run / folder for stage, folder in zip(STAGES, FOLDERS, strict=True)}
    write_json(
        folders["corpus"] / "manifest.json",
        manifest("corpus", inputs={}, counts=corpus_counts()),
    )
    write_json(folders["corpus"] / "cleaning" / "summary.json", cleaning_summary())
    write_json(
        folders["tokenizer"] / "manifest.json",
        manifest(
            "tokenizer",
            inputs={"corpus": "c" * 64},
            counts={
                "vocab_size": 3072,
                "bytes_per_token": {domain: 2.2 + level / 3 for domain, (_, level) in DOMAINS.items()},
            },
        ),
    )
    write_json(folders["data"] / "manifest.json", manifest("data", inputs={}, counts={"mixes": 28}))
    write_mixes(folders["data"], random_numbers)
    write_pretraining(folders["pretrain"], random_numbers, phases=phases, steps_per_phase=steps_per_phase)
    certificate = {
        "schema_version": 1,
        "target": "llama",
        "comparison": {
            "tokens": 512,
            "float32": {"max_abs_logit_difference": 2.4e-6, "max_abs_logit": 13.7, "limit": 1.4e-3},
            "as_stored": {"max_abs_logit_difference": 0.02, "mean_kl": 3.1e-5, "argmax_agreement": 0.998},
            "by_probe": [{"probe": "random ids"}, {"probe": "text"}],
        },
    }
    write_json(folders["merge"] / "merge_certificate.json", certificate)
    write_json(folders["merge"] / "manifest.json", manifest("merged-model", inputs={}, counts={}))
    tuning = [{"step": 5 * n, "loss": 2.4 * math.exp(-n / 9) + 0.3, "learning_rate": 1e-3} for n in range(1, 31)]
    write_lines(folders["sft"] / "metrics.jsonl", tuning)
    write_json(folders["sft"] / "manifest.json", manifest("sft", inputs={}, counts={"dialogues": 4000}))
    for stage, figures in (("dpo", {"rewards/margins": 0.4}), ("on-policy", {"reward": 0.7, "kl": 0.1})):
        lines = [{"step": n, "loss": 0.6 / n} | {key: value * n for key, value in figures.items()} for n in (1, 2, 3)]
        write_lines(folders[stage] / "metrics.jsonl", lines)
        write_json(folders[stage] / "manifest.json", manifest(stage, inputs={}, counts={"steps": 3}))
    for model in ("base", *TUNED):
        write_json(folders["scores"] / model / "scores.json", scores_of(model))
    write_json(folders["scores"] / "manifest.json", manifest("scores", inputs={}, counts={}))
    for repo in ("yulanmini-tiny", "yulanmini-tiny-instruct"):
        (folders["hub"] / "someone" / repo).mkdir(parents=True)
        (folders["hub"] / "someone" / repo / "README.md").write_text("# A card")
    write_json(folders["hub"] / "manifest.json", manifest("hub", inputs={}, counts={"repos": 2}))
    seconds = (9.1, 4.0, 14.2, 231.4, 3.9, 21.0, 11.0, 9.0, 33.3, 2.2)
    timings = [
        {"stage": stage, "started": 0.0, "seconds": spent, "peak_rss_bytes": int(3e8 + 1e7 * spent), "finished": True}
        for stage, spent in zip(STAGES, seconds, strict=True)
    ]
    write_lines(run / "timings.jsonl", timings)
    settings = {"scale": "tiny", "corpus": None, "phases": f"1-{phases}", "seed": 20, "threads": 2}
    write_json(run / "claim.json", {"kind": "reproduction", "made_from": settings})
    return run
