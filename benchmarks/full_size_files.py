"""Time and peak memory of the model verbs at full size: create, load, merge with its certificate, load merged, GGUF.

    python benchmarks/full_size_files.py --work DIR [--config CONFIG.json] [--out result.json]

Each step runs in a process of its own, whose largest resident set is reported. Needs 20 GB of disk in DIR, which is
emptied again, and 6 GB of memory (for loading the model; the verbs themselves take less).
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

LOAD = """
import sys, torch
import modeling_yulanmini
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
ids = torch.arange(3, 11)[None]
out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
print(type(model).__name__, sum(p.numel() for p in model.parameters()), out.shape[1])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder on a disk with room; made and removed")
    parser.add_argument("--config", type=Path, help="a smaller config.json, to try the script")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    options = parser.parse_args()
    verb = [sys.executable, "-m", "yulanmini.cli", "model"]
    size = ["--config", str(options.config)] if options.config else ["--preset", "yulanmini-2.4b"]
    new, merged, gguf = (str(options.work / name) for name in ("new", "merged", "model.gguf"))
    steps = {
        "create, float32": [*verb, "create", new, *size],
        "load as bfloat16 and generate": [sys.executable, "-c", LOAD, new],
        "merge to Llama, bfloat16, compared": [*verb, "merge", new, merged, "--dtype", "bfloat16"],
        "load the merged model and generate": [sys.executable, "-c", LOAD, merged],
        "GGUF, bfloat16": [*verb, "gguf", merged, gguf, "--dtype", "bfloat16"],
    }
    result: dict[str, Any] = {"cores": os.cpu_count(), "load_average_before": os.getloadavg(), "steps": {}}
    options.work.mkdir(parents=True)
    try:
        for name, command in steps.items():
            result["steps"][name] = run(command)
            print(name, result["steps"][name], flush=True)
        certificate = json.loads((options.work / "merged" / "merge_certificate.json").read_text())
        result["comparison"] = certificate["comparison"]
        result["bytes"] = {
            path.name: sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
            for path in sorted(options.work.iterdir())
        }
    finally:
        shutil.rmtree(options.work)
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


def run(command: list[str]) -> dict[str, float]:
    """Seconds, and the largest resident set in GB, of one process."""
    started = time.monotonic()
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"failed: {' '.join(command)}")
    return {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),  # Linux reports KiB
    }


if __name__ == "__main__":
    main()
