"""The tables of a model card, cell by cell from the run's files (see figures.py)."""

from collections.abc import Sequence
from typing import Any

from hub_cards.figures import Figures, join

Table = dict[str, Any]  # {"headers": [...], "rows": [[...], ...]}, every cell text
CHANCE_AND_COUNT = (("chance", ".1%"), ("count", ","))


def training_table(figures: Figures) -> Table:
    """Size and length of the pretraining."""
    run = figures.run
    manifest, config = run.pretrain_manifest, f"{run.merged}/config.json"
    rows = [
        ["parameters (tied embedding counted once)", figures.figure(manifest, "/counts/parameters")],
        ["layers", figures.figure(config, "/num_hidden_layers")],
        ["hidden size", figures.figure(config, "/hidden_size")],
        ["attention heads", figures.figure(config, "/num_attention_heads")],
        ["key/value heads", figures.figure(config, "/num_key_value_heads")],
        ["vocabulary", figures.figure(config, "/vocab_size")],
        ["context", figures.figure(config, "/max_position_embeddings")],
        ["training tokens", figures.figure(manifest, "/counts/tokens")],
        ["optimizer steps", figures.figure(manifest, "/counts/steps")],
    ]
    return {"headers": ["", "value"], "rows": rows}


def heldout_table(figures: Figures) -> Table | None:
    """Held-out bits per byte by domain: at the start, after the first phase, before annealing, at the end; and how."""
    file = f"{figures.run.pretrain}/heldout.jsonl"
    if not figures.has(file):
        return None
    lines = figures.value(file)
    steps = sorted({line["step"] for line in lines})
    last_stable = [line["step"] for line in lines if line["phase"] == "25" and line["step"] > 0]
    shown = sorted({steps[0], *steps[1:2], *last_stable, steps[-1]})
    headers = ["domain"]
    for step in shown:
        index = next(index for index, line in enumerate(lines) if line["step"] == step)
        label = "start" if step == 0 else f"phase {figures.figure(file, join(index, 'phase'), '')}"
        headers.append(f"{label}, step {figures.figure(file, join(index, 'step'))}")
    rows = []
    for domain in dict.fromkeys(line["domain"] for line in lines):
        row = [domain]
        for step in shown:
            places = [i for i, line in enumerate(lines) if line["step"] == step and line["domain"] == domain]
            row.append(figures.figure(file, join(places[0], "bits_per_byte"), ".3f") if places else "not scored")
        rows.append(row)
    return {"headers": headers, "rows": rows, "protocol": figures.figure(file, join(0, "protocol"), "")}


def levels_table(figures: Figures, models: Sequence[str]) -> Table | None:
    """Exact match on unseen generated problems by level (1 is the easiest), for the models that were scored."""
    files = [file for file in map(figures.run.scores_file, models) if figures.has(file)]
    if not files or not figures.value(files[-1]).get("levels"):
        return None
    rows = []
    for index in range(len(figures.value(files[-1], "/levels"))):
        at = join("levels", index)
        row = [figures.figure(files[-1], f"{at}/level")]
        row += [figures.figure(file, f"{at}/exact_match", ".1%") for file in files]
        rows.append([*row, *(figures.figure(files[-1], f"{at}/{key}", form) for key, form in CHANCE_AND_COUNT)])
    headers = ["level", *(file.split("/")[-2] for file in files), "chance", "problems"]
    return {"headers": headers, "rows": rows}


def kinds_table(figures: Figures, model: str) -> Table | None:
    """Exact match on unseen generated problems, by kind and language."""
    file = figures.run.scores_file(model)
    if not figures.has(file) or not figures.value(file).get("problems"):
        return None
    rows = []
    for index, problem in enumerate(figures.value(file, "/problems")):
        at = join("problems", index)
        row = [problem["kind"], problem["language"], figures.figure(file, f"{at}/level")]
        row.append(figures.figure(file, f"{at}/exact_match", ".1%"))
        rows.append([*row, *(figures.figure(file, f"{at}/{key}", form) for key, form in CHANCE_AND_COUNT)])
    return {"headers": ["problem", "language", "level", "exact match", "chance", "problems"], "rows": rows}


def merge_table(figures: Figures) -> Table | None:
    """How the merged model's logits compare with the unmerged one's."""
    file = f"{figures.run.merged}/merge_certificate.json"
    if not figures.has(file) or not figures.value(file).get("comparison"):
        return None
    rows = [
        [
            "largest logit difference in float32",
            figures.figure(file, "/comparison/float32/max_abs_logit_difference", ".2g"),
        ],
        ["largest logit", figures.figure(file, "/comparison/float32/max_abs_logit", ".3g")],
        ["mean KL after rounding", figures.figure(file, "/comparison/as_stored/mean_kl", ".2g")],
        ["argmax agreement after rounding", figures.figure(file, "/comparison/as_stored/argmax_agreement", ".2%")],
        ["positions compared", figures.figure(file, "/comparison/tokens")],
    ]
    return {"headers": ["merge", "value"], "rows": rows}


def tuning_table(figures: Figures) -> Table:
    """Data and settings of the instruction tuning."""
    manifest, metrics = figures.run.sft_manifest, f"{figures.run.sft}/metrics.jsonl"
    last = len(figures.value(metrics)) - 1
    rows = [
        ["dialogues", figures.figure(manifest, "/counts/dialogues")],
        ["tokens read", figures.figure(manifest, "/counts/trained_on_tokens")],
        ["optimizer steps", figures.figure(manifest, "/counts/steps")],
        ["dialogues a step", figures.figure(manifest, "/config/batch_size")],
        ["epochs", figures.figure(manifest, "/config/epochs", "g")],
        ["peak learning rate", figures.figure(manifest, "/config/optimizer/lr", "g")],
        ["loss of the first step", figures.figure(metrics, "/0/loss", ".3f")],
        ["loss of the last step", figures.figure(metrics, join(last, "loss"), ".3f")],
    ]
    return {"headers": ["", "value"], "rows": rows}


def samples(figures: Figures, model: str, *, count: int = 3) -> list[dict[str, Any]]:
    """The first few answers as they came, right or wrong; text, so nothing to trace."""
    file = figures.run.scores_file(model)
    if not figures.has(file):
        return []
    return figures.value(file).get("samples", [])[:count]


def corpus_table(figures: Figures) -> Table | None:
    """Documents and bytes of training text by domain, and how many of the bytes are from which kind of place."""
    file = f"{figures.run.corpus}/manifest.json"
    if not figures.has(file) or "domains" not in figures.value(file, "/counts"):
        return None
    domains = figures.value(file, "/counts/domains")
    origins = sorted({origin for domain in domains.values() for origin in domain.get("origins", {})})
    rows = []
    for name, domain in domains.items():
        at = join("counts", "domains", name)
        row = [name, figures.figure(file, f"{at}/train/documents"), figures.figure(file, f"{at}/train/bytes")]
        for origin in origins:
            known = origin in domain.get("origins", {})
            row.append(figures.figure(file, f"{at}/origins/{origin}") if known else "")
        rows.append(row)
    headers = ["domain", "documents", "bytes", *(f"of {origin}" for origin in origins)]
    return {"headers": headers, "rows": rows}
