"""Does llama.cpp compute what transformers does? The same model in both, greedy tokens, logits and token ids compared.

    python benchmarks/gguf_generate.py MODEL --llama-python VENV/bin/python [--dtype float32] [--out result.json]

MODEL is a YuLan-Mini folder, merged or not, with a tokenizer. llama.cpp comes from the `llama-cpp-python` package,
which is compiled on installation (10 to 40 minutes on two cores) and so is no dependency of this project: install it
in a virtual environment of its own and name that one's Python.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from modeling_yulanmini.certificate import PROBE_TEXT
from modeling_yulanmini.gguf_export import export_gguf
from modeling_yulanmini.merge import merge

# Runs in the other environment: reads a request from stdin, answers with JSON on stdout.
LLAMA_CPP = """
import json, sys
from llama_cpp import Llama, __version__
request = json.load(sys.stdin)
llama = Llama(model_path=request["model"], n_ctx=request["context"], n_threads=2, logits_all=True, verbose=False)
answer = {"version": __version__, "generated": [], "logits": []}
for ids in request["prompts"]:
    tokens = []
    for token in llama.generate(ids, temp=0.0, top_k=1, top_p=1.0, min_p=0.0, repeat_penalty=1.0, reset=True):
        tokens.append(int(token))
        if len(tokens) == request["new_tokens"]:
            break
    answer["generated"].append(tokens)
    llama.reset()
    llama.eval(ids)
    answer["logits"].append(llama.scores[len(ids) - 1].tolist())
answer["tokens"] = llama.tokenize(request["text"].encode(), add_bos=True, special=False)
print(json.dumps(answer))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama-python", type=Path, default=Path(sys.executable), help="Python with llama_cpp")
    parser.add_argument("--dtype", default="float32", help="dtype of the GGUF's matrices")
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    options = parser.parse_args()
    result = compare(options)
    print(json.dumps(result, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    if result["same_tokens"] < result["generated_tokens"] and options.dtype == "float32":
        sys.exit("llama.cpp and transformers chose different tokens")


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Export, generate in both, and count what is equal."""
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    prompts = [tokenizer(text).input_ids for text in PROBE_TEXT.replace("\n", ". ").split(". ") if text]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        merged = options.model
        if not (options.model / "merge_certificate.json").is_file():
            merged = folder / "merged"
            merge(options.model, merged, compare_logits=False)
        exported = export_gguf(options.model, folder / "model.gguf", dtype=options.dtype)
        request = {
            "model": str(folder / "model.gguf"),
            "context": 512,
            "prompts": prompts,
            "new_tokens": options.new_tokens,
            "text": PROBE_TEXT,
        }
        done = subprocess.run(
            [options.llama_python, "-c", LLAMA_CPP], input=json.dumps(request), capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"llama.cpp failed:\n{done.stderr[-2000:]}")
        theirs = json.loads(done.stdout)
        ours = generate(merged, prompts, options.new_tokens)
    pairs = [
        pair for a, b in zip(ours["generated"], theirs["generated"], strict=True) for pair in zip(a, b, strict=True)
    ]
    differences = [
        (torch.tensor(a) - torch.tensor(b)).abs().max().item()
        for a, b in zip(ours["logits"], theirs["logits"], strict=True)
    ]
    own = tokenizer(PROBE_TEXT).input_ids
    return {
        "llama_cpp_python": theirs["version"],
        "dtype": options.dtype,
        "prompts": len(prompts),
        "generated_tokens": len(pairs),
        "same_tokens": sum(a == b for a, b in pairs),
        "max_abs_logit_difference": max(differences),
        "max_abs_logit": max(abs(value) for row in ours["logits"] for value in row),
        "text_tokens": len(own),
        "text_tokens_same": sum(a == b for a, b in zip(own, theirs["tokens"], strict=False)),
        "tokenizer_agreement_predicted": exported["tokenizer_agreement"],
    }


def generate(folder: Path, prompts: list[list[int]], new_tokens: int) -> dict[str, list]:
    """Greedy tokens, and the logits after the prompt, of transformers' Llama in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    answer: dict[str, list] = {"generated": [], "logits": []}
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            answer["logits"].append(model(ids).logits[0, -1].tolist())
            tokens = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, min_new_tokens=new_tokens,
                do_sample=False, eos_token_id=-1,
            )  # fmt: skip
        answer["generated"].append(tokens[0, len(prompt) :].tolist())
    return answer


if __name__ == "__main__":
    main()
