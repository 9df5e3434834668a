"""Does llama.cpp compute what transformers does? The same model in both: greedy tokens, log-probabilities, token ids.

    python benchmarks/gguf_generate.py MODEL [--llama-python LLAMA/bin/python] [--dtype float32] [--out result.json]

MODEL is a YuLan-Mini folder, merged or not, with a tokenizer. llama.cpp runs in a process of its own: from the
`xllamacpp` of this environment, or from another that has it or `llama-cpp-python`, which is compiled on installation,
for 10 minutes of two cores and more.
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

TOP = 10  # log-probabilities compared at each step
# Both run in the other environment: a request from stdin, an answer on stdout. Greedy, no penalties, no early end.
XLLAMACPP = """
import json, sys, urllib.request
import xllamacpp
request = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = request["model"], request["context"], 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # its threads wait by spinning: bad company
# By default keys and values are kept in float16, which alone moves log-probabilities by 0.003.
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(params)
def post(path, body):
    message = urllib.request.Request(server.listening_address + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(message))
answer = {"package": "xllamacpp " + xllamacpp.__version__, "generated": [], "logprobs": []}
for ids in request["prompts"]:
    result = post("/completion", {"prompt": ids, "n_predict": request["new_tokens"], "temperature": 0.0, "top_k": 1,
                  "n_probs": request["top"], "ignore_eos": False, "return_tokens": True, "cache_prompt": False})
    answer["generated"].append(result["tokens"])
    answer["logprobs"].append([{top["id"]: top["logprob"] for top in step["top_logprobs"]}
                               for step in result["completion_probabilities"]])
text = {"content": request["text"], "add_special": True, "parse_special": False}
answer["tokens"] = post("/tokenize", text)["tokens"]
print(json.dumps(answer))
sys.stdout.flush()
"""
LLAMA_CPP_PYTHON = """
import json, sys
import numpy
import llama_cpp
request = json.load(sys.stdin)
llama = llama_cpp.Llama(request["model"], n_ctx=request["context"], n_threads=1, logits_all=True, verbose=False,
                        type_k=0, type_v=0, flash_attn=False)  # 0: float32, not the usual float16
answer = {"package": "llama-cpp-python " + llama_cpp.__version__, "generated": [], "logprobs": []}
for ids in request["prompts"]:
    tokens, steps = [], []
    for token in llama.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0, reset=True):
        logits = llama.scores[llama.n_tokens - 1].astype(numpy.float64)
        logprobs = logits - logits.max() - numpy.log(numpy.exp(logits - logits.max()).sum())
        steps.append({int(i): float(logprobs[i]) for i in logprobs.argsort()[::-1][: request["top"]]})
        tokens.append(int(token))
        if len(tokens) == request["new_tokens"] or token == llama.token_eos():
            break
    answer["generated"].append(tokens)
    answer["logprobs"].append(steps)
answer["tokens"] = llama.tokenize(request["text"].encode(), add_bos=True, special=False)
print(json.dumps(answer))
"""
RUNNERS = {"xllamacpp": XLLAMACPP, "llama_cpp": LLAMA_CPP_PYTHON}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--llama-python", type=Path, default=sys.executable, help="Python that has xllamacpp or llama_cpp"
    )
    parser.add_argument("--dtype", default="float32", help="dtype of the GGUF's matrices")
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    options = parser.parse_args()
    result = compare(options)
    print(json.dumps(result, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    if options.dtype == "float32" and result["same_tokens"] < result["generated_tokens"]:
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
            "top": TOP,
            "text": PROBE_TEXT,
        }
        theirs = run_llama_cpp(options.llama_python, request)
        ours = generate(merged, prompts, theirs["generated"])
    pairs = [
        pair for a, b in zip(ours["generated"], theirs["generated"], strict=True) for pair in zip(a, b, strict=True)
    ]
    differences = [
        abs(value - mine[int(token)].item())
        for rows, steps in zip(ours["logprobs"], theirs["logprobs"], strict=True)
        for mine, step in zip(rows, steps, strict=True)
        for token, value in step.items()
    ]
    own = tokenizer(PROBE_TEXT).input_ids
    return {
        "llama_cpp": theirs["package"],
        "dtype": options.dtype,
        "prompts": len(prompts),
        "generated_tokens": len(pairs),
        "same_tokens": sum(a == b for a, b in pairs),
        "logprobs_compared": len(differences),
        "max_abs_logprob_difference": max(differences),
        "text_tokens": len(own),
        "text_tokenized_the_same": own == theirs["tokens"],
        "tokenizer_agreement_predicted": exported["tokenizer_agreement"],
    }


def run_llama_cpp(python: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of whichever llama.cpp package that Python has."""
    installed = (
        package
        for package in RUNNERS
        if subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode == 0
    )
    package = next(installed, None)
    if package is None:
        sys.exit(f"{python}: has none of {', '.join(RUNNERS)}")
    done = subprocess.run([python, "-c", RUNNERS[package]], input=json.dumps(request), capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"llama.cpp failed:\n{done.stderr[-2000:]}")
    return json.loads(lines[-1])


@torch.no_grad()
def generate(folder: Path, prompts: list[list[int]], theirs: list[list[int]]) -> dict[str, list]:
    """Greedy tokens of transformers' Llama in float32, and its log-probabilities along llama.cpp's path."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.generation_config.eos_token_id = None  # the end of a text is a token like any other here
    answer: dict[str, list] = {"generated": [], "logprobs": []}
    for prompt, path in zip(prompts, theirs, strict=True):
        ids = torch.tensor([prompt])
        tokens = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=len(path),
            do_sample=False,
        )
        answer["generated"].append(tokens[0, len(prompt) :].tolist())
        logits = model(torch.tensor([prompt + path])).logits[0, len(prompt) - 1 : -1]
        answer["logprobs"].append(logits.double().log_softmax(-1))
    return answer


if __name__ == "__main__":
    main()
