"""What instruction tuning costs of the base model, and what it brings, under different settings.

    python benchmarks/tuning_cost.py runs/tiny --out costs [--only NAME ...]

Tunes the merged model of a finished run of `yulanmini reproduce` with each set of settings of `VARIANTS` over those of
`sft-tiny.yaml`, averages some of the results with the base, and scores all as `reproduce` does: held-out bits per byte
by domain, unseen problems by level. A finished variant is not run again; one line of JSON each on stdout.
"""

import argparse
import json
import resource
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

from data_recipes.manifest import MANIFEST_NAME
from eval.suites import run_suite
from train.config_file import changed_settings, configs
from train.launch.launcher import ONE_ON_THE_CPU, launch
from yulanmini.reproduce.settings import load_settings
from yulanmini.run_layout import CORPUS, DATA, MERGED, TOKENIZER

ALONE = {"pretraining": None, "packing": "none", "group_by_length": 8, "batch_size": 32, "micro_batch_size": 32}


def mixed(share: float, phases: str = "14-27") -> dict[str, Any]:
    return {"packing": "bfd", "group_by_length": 1, "batch_size": 5, "micro_batch_size": 5} | {
        "pretraining.share": share,
        "pretraining.phases": phases,
    }


VARIANTS: dict[str, dict[str, Any]] = {
    "alone, rate 1e-3": ALONE | {"optimizer.lr": 1e-3},
    "share 0.2, rate 1e-3": mixed(0.2) | {"optimizer.lr": 1e-3},
    "share 0.07, rate 2e-3": mixed(0.07) | {"optimizer.lr": 2e-3},
    "alone, rate 3e-4": ALONE | {"optimizer.lr": 3e-4},
    "share 0.15, rate 3e-3": mixed(0.15) | {"optimizer.lr": 3e-3},
    "alone, LoRA 16, rate 2e-3": ALONE | {"optimizer.lr": 2e-3, "lora": {"rank": 16, "alpha": 32}},
    "alone, rate 1e-3, half as long": ALONE | {"optimizer.lr": 1e-3, "epochs": 0.5},
}
AVERAGED = {  # of a variant and the base, by the weight of the variant
    "alone, rate 1e-3": (0.5, 0.7),
    "share 0.2, rate 1e-3": (0.7,),
    "share 0.07, rate 2e-3": (0.7,),
}


def tune(run: Path, out: Path, changes: dict[str, Any]) -> float:
    """Processor seconds of the tuning."""
    if (out / MANIFEST_NAME).is_file():
        return 0.0
    values = changed_settings(
        configs()["sft-tiny"],
        {
            "output_dir": str(out.resolve()),
            "model": str((run / MERGED).resolve()),
            "tokenizer": str((run / TOKENIZER).resolve()),
            "dialogues": str((run / CORPUS / "dialogues" / "train.jsonl").resolve()),
            **changes,
        },
    )
    if values.get("pretraining"):
        values["pretraining"]["dir"] = str((run / DATA).resolve())
    config = out.with_name(f"{out.name}.yaml")
    config.write_text(yaml.safe_dump(values))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    launch("sft", [str(config)], options=ONE_ON_THE_CPU, environment={"HF_HUB_OFFLINE": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def average(base: Path, tuned: Path, weight: float, out: Path) -> None:
    """A model folder: `weight` of the tuned weights and the rest of the base's."""
    out.mkdir(exist_ok=True)
    for file in tuned.glob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            (out / file.name).write_bytes(file.read_bytes())
    theirs, ours = load_file(base / "model.safetensors"), load_file(tuned / "model.safetensors")
    mean = {name: torch.lerp(theirs[name].float(), ours[name].float(), weight) for name in ours}
    save_file(mean, out / "model.safetensors", metadata={"format": "pt"})


def scored(run: Path, model: Path, out: Path, *, prompt: str) -> dict[str, float]:
    """Bits per byte by domain, and the share of right answers by level."""
    settings = load_settings("tiny")
    scores = run_suite(
        model,
        data=run / CORPUS,
        settings={
            "prompt": prompt,
            "context": min(settings.context_lengths.values()),
            "bytes_per_domain": 10_000,
            "per_kind": settings.problems_per_kind,
        },
        out=out,
    )
    return {row["group"]: round(row["value"], 4) for row in scores["rows"] if " / " not in row["group"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=None, metavar="NAME")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    chosen.out.mkdir(parents=True, exist_ok=True)
    base = chosen.run / MERGED
    print(json.dumps({"variant": "base"} | scored(chosen.run, base, chosen.out / "base.scores", prompt="question")))
    for name, changes in VARIANTS.items():
        if chosen.only and not any(wanted in name for wanted in chosen.only):
            continue
        folder = chosen.out / name.replace(" ", "-").replace(",", "")
        seconds = tune(chosen.run, folder, {**changes, "threads": chosen.threads})
        line = {"variant": name, "processor_seconds": round(seconds, 1)}
        print(json.dumps(line | scored(chosen.run, folder, Path(f"{folder}.scores"), prompt="chat")), flush=True)
        for weight in AVERAGED.get(name, ()):
            mean = Path(f"{folder}.averaged-{weight}")
            average(base, folder, weight, mean)
            line = {"variant": f"{name}, averaged {weight}"}
            print(json.dumps(line | scored(chosen.run, mean, Path(f"{mean}.scores"), prompt="chat")), flush=True)


if __name__ == "__main__":
    main()
