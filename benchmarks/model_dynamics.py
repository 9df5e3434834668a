"""Time and peak memory of `yulanmini model dynamics` at full size: a random checkpoint in bfloat16, on a CPU.

    python benchmarks/model_dynamics.py --work DIR [--tokens 8192] [--config CONFIG.json] [--out result.json]

The checkpoint is made by `model create`; the text is this repository's documentation in a tokenizer of bytes. Needs
5 GB of disk in DIR, which is removed again. The command runs in a process of its own, whose largest resident set
counts.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from full_size_files import run
from tokenizers import Tokenizer, models, pre_tokenizers

from data_recipes.machine import this_machine

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder on a disk with room; made and removed")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--config", type=Path, help="a smaller config.json, to try the script")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    options = parser.parse_args()
    verb = [sys.executable, "-m", "yulanmini.cli", "model"]
    size = ["--config", str(options.config)] if options.config else ["--preset", "yulanmini-2.4b"]
    result: dict[str, Any] = {"machine": this_machine(), "load_average_before": os.getloadavg()}
    options.work.mkdir(parents=True)
    try:
        checkpoint, series = options.work / "checkpoint", options.work / "series"
        result["create"] = run([*verb, "create", str(checkpoint), *size, "--dtype", "bfloat16"])
        result["checkpoint_bytes"] = sum(file.stat().st_size for file in checkpoint.iterdir())
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.save(str(checkpoint / "tokenizer.json"))
        command = [*verb, "dynamics", str(checkpoint), "--out", str(series), "--text", str(DOCS)]
        result["dynamics"] = run([*command, "--tokens", str(options.tokens), "--device", "cpu"])
        row = json.loads((series / "dynamics.jsonl").read_text())
        result["row"] = {
            "loss": row["text"]["loss"],
            "rows": row["text"]["rows"],
            "context": row["text"]["context"],
            "spectral_norm_of_q_0": row["weights"]["q"]["spectral_norm"][0],
        }
    finally:
        shutil.rmtree(options.work)
    print(json.dumps(result, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
