"""The texts and tables of the page's sections: summary, headline numbers, rows. Numbers in, words and rows out."""

import json
import shlex
from collections.abc import Callable
from typing import Any

from data_recipes.recipes.phases import is_annealing
from eval.demonstration import demonstration, was_right_nowhere
from yulanmini.report import scores, units
from yulanmini.report.collect import in_order
from yulanmini.run_layout import MERGED, MODELS, PRETRAIN, last_model

# Kinds of origin as the corpus counts them (data_recipes/corpus/build.py).
ORIGIN_NAMES = {
    "packages": "installed packages",
    "python": "Python's library",
    "messages": "message catalogues",
    "generated": "computed",
    "files": "your files",
}


def summary(report: dict[str, Any]) -> str:
    """What happened in this run, in a sentence or two, of the parts that did happen."""
    head, settings = report["headline"], report["settings"] or {}
    if not head["steps"]:
        return "Nothing has been trained in this run yet. What is finished is shown below."
    model = f"A {units.compact(head['parameters'])}-parameter model" if head["parameters"] else "A model"
    source = "your own text" if settings.get("corpus") else "text found on this machine"
    done = {stage["stage"] for stage in report["stages"] if stage["status"] == "done"}
    last = report["pretraining"]["phases"][-1]["phase"]
    far = f"went through {head['phases']} phases" if "pretrain" in done else f"has come to phase {last}"
    sentences = (
        f"{model} with YuLan-Mini's architecture {far} of its curriculum: "
        f"{units.compact(head['tokens'])} tokens of {source}, in {units.integer(head['steps'])} steps"
    )
    after = [
        ("merge", "merged into a plain Llama"),
        ("sft", "tuned to answer"),
        ("dpo", "taught to prefer right answers"),
        ("on-policy", "rewarded for its own"),
        ("scores", "scored on problems it had never seen"),
    ]
    parts = [words for stage, words in after if stage in done]
    if parts:
        sentences += f". It was then {', '.join(parts[:-1])}{' and ' if len(parts) > 1 else ''}{parts[-1]}"
    threads = settings.get("threads")
    where = f" on {threads} CPU {'thread' if threads == 1 else 'threads'}" if threads else ""
    if head["seconds"]:
        what = "All of it" if head["finished"] else "What is finished"
        sentences += f". {what} took {units.duration(head['seconds'])}{where}"
    return sentences + "."


def tiles(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The headline numbers: label, value, what to compare it with."""
    head, merge = report["headline"], (report["merge"] or {}).get("comparison")
    bits, easiest = head["bits_per_byte"] or {}, head["easiest"]
    stable, last = bits.get("before_annealing"), bits.get("last")
    gain = last / stable - 1 if stable and last is not None else None
    difference = merge["float32"]["max_abs_logit_difference"] if merge else None
    base, instruct = (easiest["values"][0], easiest["values"][-1]) if easiest else (None, None)
    note = easiest and f"{easiest['measure']}; chance {units.percent(easiest['chance'])}, base {units.percent(base)}"
    start, before = units.significant(bits.get("first")), units.significant(stable)
    parity_note = "largest logit difference in fp32, plain Llama against the original"
    return [
        tile("Held-out bits per byte", last, f"from {start} before training, mean of the domains"),
        tile("Annealing", gain, f"bits per byte, from {before} in the last two phases", units.change),
        tile("Merge parity", difference, parity_note, two_digits),
        tile(f"Instruct, {easiest['group'] if easiest else 'scores'}", instruct, note or "", units.percent),
        tile(
            "Wall time",
            head["seconds"],
            "all stages and attempts" if head["finished"] else "the stages and attempts that ended",
            units.duration,
        ),
        tile("Peak memory", head["peak_rss_bytes"], "resident, all processes of the largest stage", units.size),
    ]


def training_summary(run: dict[str, Any]) -> str:
    """How far a training run has come, in a sentence."""
    model = f"A {units.compact(run['parameters'])}-parameter model" if run["parameters"] else "A model"
    phases = [phase["phase"] for phase in run["phases"]]
    reach = f"phases {phases[0]} to {phases[-1]}" if len(phases) > 1 else f"phase {phases[0]}"
    return f"{model} after {units.integer(run['steps'])} steps of {reach}: {units.compact(run['tokens'])} tokens."


def training_tiles(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The headline numbers of a training run."""
    largest, skipped = units.significant(run["grad_norm_max"]), units.integer(run["skipped_steps"])
    numbers = [
        tile("Training loss", run["loss_end"], f"nats per token, mean of the last {run['loss_end_steps']} steps"),
        tile("Gradient norm", run["grad_norm_median"], f"median before clipping; largest {largest}"),
        tile("Spikes", run["spikes"], f"and {skipped} steps left out", units.integer),
        tile("Variance growth", run["largest_variance_growth"], "largest over its recent median, any layer"),
        tile("Tokens a second", run["tokens_per_second"], "over all steps", units.integer),
        tile("Training time", run["seconds"], "evaluation and saving not counted", units.duration),
    ]
    return [number for number in numbers if not number["absent"]]


def tile(
    label: str, value: float | None, note: str, show: Callable[[float | None], str] = units.significant
) -> dict[str, Any]:
    """A number with its label and what to compare it with; absent where there is none."""
    if value is None:
        return {"label": label, "value": "not run", "note": "", "absent": True}
    return {"label": label, "value": show(value), "note": note, "absent": False}


def two_digits(value: float | None) -> str:
    return units.significant(value, 2)


def tenths(value: float | None) -> str:
    return units.percent(value, 1)


def stages(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The stages with their bars: share of the longest time, share of the largest memory."""
    longest = max((stage["seconds"] or 0 for stage in report["stages"]), default=0) or 1
    largest = max((stage["peak_rss_bytes"] or 0 for stage in report["stages"]), default=0) or 1
    return [
        stage
        | {
            "time_share": (stage["seconds"] or 0) / longest,
            "memory_share": (stage["peak_rss_bytes"] or 0) / largest,
        }
        for stage in report["stages"]
    ]


def origins(sizes: dict[str, int]) -> str:
    """Where a domain's text is from, largest part first."""
    total = sum(sizes.values()) or 1
    parts = sorted(sizes, key=lambda kind: -sizes[kind])
    names = [ORIGIN_NAMES.get(kind, kind) for kind in parts]
    if len(parts) == 1:
        return names[0]
    return ", ".join(f"{name} {units.percent(sizes[kind] / total)}" for kind, name in zip(parts, names, strict=True))


def text(corpus: dict[str, Any] | None, tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    """One row a domain: the text it was given, and how the tokenizer packs it (share of the best)."""
    if corpus is None:
        return []
    found, packing = corpus["counts"]["domains"], ((tokenizer or {}).get("counts") or {}).get("bytes_per_token", {})
    densest = max(packing.values(), default=0) or 1
    return [
        {
            "domain": domain,
            "origins": origins(found[domain].get("origins", {})),
            "documents": found[domain]["train"]["documents"],
            "bytes": found[domain]["train"]["bytes"],
            "heldout_bytes": found[domain]["heldout"]["bytes"],
            "substitute": (corpus.get("substitutes") or {}).get(domain),
            "bytes_per_token": packing.get(domain),
            "share": packing.get(domain, 0) / densest,
        }
        for domain in in_order(found)
    ]


def leads(report: dict[str, Any]) -> dict[str, str]:
    """The sentence under some headings, of what was run."""
    run = report["pretraining"] or {}
    annealed = any(is_annealing(phase["phase"]) for phase in run.get("phases", ()))
    mixed = [mix["phase"] for mix in report.get("mixture") or ()]
    falls = ", until the learning rate falls in the last two" if annealed else ""
    rate = "Warm-up, then a constant learning rate"
    return {
        "curriculum": "The published mixes of YuLan-Mini, scaled down with their proportions kept: what changes from "
        f"phase to phase is the data{falls}." + (f" This run has {len(mixed)} of the 28." if len(mixed) < 28 else ""),
        "pretraining": f"{rate} through the stable phases, then 1-sqrt annealing with a longer context."
        if annealed
        else f"{rate}; this run ends before annealing (phases 26 and 27).",
        "spread": scores.spread((report["settings"] or {}).get("scale")),
    }


def parity(certificate: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The merge certificate as label, value and what it means."""
    compared = (certificate or {}).get("comparison")
    if not compared:
        return []
    exact, stored = compared["float32"], compared["as_stored"]
    largest, difference = units.significant(exact["max_abs_logit"]), exact["max_abs_logit_difference"]
    rows = f"{len(compared['by_probe'])} rows: random ids and text, near and far positions"
    return [
        tile("Largest logit difference", difference, f"in fp32; the largest logit is {largest}", two_digits),
        tile("KL divergence as stored", stored["mean_kl"], "nats a token, after rounding the weights", two_digits),
        tile("Same next token as stored", stored["argmax_agreement"], "argmax agrees, after rounding", tenths),
        tile("Tokens compared", compared["tokens"], rows, units.integer),
    ]


LOAD = f"""from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{MERGED}")
tokenizer = AutoTokenizer.from_pretrained("{MERGED}")
inputs = tokenizer("def main(", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0], skip_special_tokens=True))"""
TALK = """yulanmini chat {folder} --prompt {prompt}
yulanmini chat {folder}"""
CHAT = """from transformers import pipeline

chat = pipeline("text-generation", "{folder}", dtype="float32")  # as it was scored
messages = [{{"role": "user", "content": {prompt}}}]
print(chat(messages, max_new_tokens=128, do_sample=False)[0]["generated_text"][-1]["content"])"""
UNMERGED = """import modeling_yulanmini
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("{path}")
print(model.model.norm_alpha, model.model.layers[0].self_attn.q_proj_alpha)"""
AGAIN = f"""yulanmini train pretrain {PRETRAIN}/config.yaml --set output_dir=again max_steps=100"""


def commands(report: dict[str, Any]) -> list[dict[str, str]]:
    """Commands to use the models of the finished stages with."""
    done = {stage["stage"] for stage in report["stages"] if stage["status"] == "done"}
    shown = []
    if "merge" in done:
        shown.append(command("The merged base model: a plain Llama, without this package", "python", LOAD))
    instruct = last_model(done)
    if instruct:
        folder = MODELS[instruct][0]
        prompt, how_good = question_to_show((report["scores"] or {}).get(instruct))
        talk = TALK.format(folder=folder, prompt=shlex.quote(prompt))
        shown.append(command(f"The instruct model{how_good}", "bash", talk))
        chat = CHAT.format(folder=folder, prompt=json.dumps(prompt, ensure_ascii=False))
        shown.append(command("The same in Python, with transformers alone", "python", chat))
    if report["pretraining"] and report["pretraining"]["models"]:
        path = report["pretraining"]["models"][-1]
        shown.append(command("The model as it was trained, with its scales", "python", UNMERGED.format(path=path)))
    if "pretrain" in done:
        shown.append(command("Pretraining again, with changes", "bash", AGAIN))
    return shown


def question_to_show(scores: dict[str, Any] | None) -> tuple[str, str]:
    """A question that this very model answered right, and how often it does; any one where it was right nowhere."""
    shown = demonstration(scores) if scores else None
    if scores is None or shown is None:
        hopeless = scores is not None and was_right_nowhere(scores)
        warning = ": it answered none of its questions right, so expect no right answer" if hopeless else ""
        return "What is the last digit of 4821?", warning
    row = scores["rows"][shown["row"]]
    guessing = "" if row["chance"] is None else f" (guessing: {units.percent(row['chance'])})"
    return shown["prompt"], (
        f": a question that it answered right, as {row['correct']:,} of {row['count']:,} of this kind{guessing}"
    )


def command(title: str, language: str, code: str) -> dict[str, str]:
    return {"title": title, "language": language, "code": code}
