"""The tables of a model card, cell by cell from the run's files (see evidence.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_recipes.manifest import MANIFEST_NAME
from eval.demonstration import demonstration, was_right_nowhere
from eval.scores import SEPARATOR, finest, rows_by_measure, value_format
from hub_cards.cards.evidence import Figures, join
from hub_cards.cards.page import Name, Table


def figures_table(figures: Figures, title: str, *rows: tuple[str, str, str, str]) -> Table:
    """A table of single figures: what each is, its file, where in it, and its format."""
    return {"headers": [title, "value"], "rows": [[Name(label), figures.figure(*place)] for label, *place in rows]}


def training_table(figures: Figures) -> Table:
    """Size and length of the pretraining."""
    manifest, config = figures.run.pretrain_manifest, f"{figures.run.merged}/config.json"
    return figures_table(
        figures,
        "",
        ("parameters (tied embedding counted once)", manifest, "/counts/parameters", ","),
        ("layers", config, "/num_hidden_layers", ","),
        ("hidden size", config, "/hidden_size", ","),
        ("attention heads", config, "/num_attention_heads", ","),
        ("key/value heads", config, "/num_key_value_heads", ","),
        ("vocabulary", config, "/vocab_size", ","),
        ("context", config, "/max_position_embeddings", ","),
        ("training tokens", manifest, "/counts/tokens", ","),
        ("optimizer steps", manifest, "/counts/steps", ","),
    )


def heldout_table(figures: Figures, *, phase: str | None = None) -> Table | None:
    """Held-out bits per byte by domain: at the start, after the first phase, before annealing, at the end; and how.
    With `phase` only at its end."""
    file = f"{figures.run.pretrain}/heldout.jsonl"
    if not figures.has(file):
        return None
    lines = figures.value(file)
    places = {(line["step"], line["domain"]): index for index, line in enumerate(lines)}
    first = {line["step"]: index for index, line in reversed(list(enumerate(lines)))}
    steps = sorted(first)
    last_stable = [line["step"] for line in lines if line["phase"] == "25" and line["step"] > 0]
    shown = sorted({*steps[:2], *last_stable, steps[-1]})
    if phase is not None:
        shown = [line["step"] for line in lines if line["phase"] == phase and line["step"] > 0][-1:]
    if not shown:
        return None
    headers = ["domain"]
    for step in shown:
        label = f"phase {figures.figure(file, join(first[step], 'phase'), '')}" if step else "start"
        headers.append(Name(f"{label}, step {figures.figure(file, join(first[step], 'step'))}"))

    def cell(step: int, domain: str) -> str:
        at = places.get((step, domain))
        return "not scored" if at is None else figures.figure(file, join(at, "bits_per_byte"), ".3f")

    domains = dict.fromkeys(line["domain"] for line in lines)
    rows = [[Name(domain), *(cell(step, domain) for step in shown)] for domain in domains]
    return {"headers": headers, "rows": rows, "protocol": figures.figure(file, join(0, "protocol"), "")}


def score_tables(figures: Figures, models: Sequence[str], *, without: Sequence[str] = ()) -> list[dict[str, Any]]:
    """For each measure of each task a table of its whole groups and one of the finest, of the models that were scored;
    `without` the tasks that the card shows elsewhere.

    Count, chance and protocol are those of the last model that has the row.
    """
    files = [file for file in map(figures.run.scores_file, models) if figures.has(file)]

    def cell(entry: Mapping[str, Any], key: str, form: str, files: Sequence[str]) -> str:
        """A figure of the row that an entry stands for, from the first of the files that has it."""
        for file in files:
            for index, row in enumerate(figures.value(file, "/rows")):
                same = all(row[name] == entry[name] for name in ("task", "measure", "group"))
                if same and row.get(key) is not None:
                    return figures.figure(file, join("rows", index, key), form)
        return ""

    def table(entries: Sequence[Mapping[str, Any]]) -> Table:
        columns = [(file.split("/")[-2], "value", value_format(entries[0]), [file]) for file in files]
        if any(entry["chance"] is not None for entry in entries):
            columns.append(("chance", "chance", ".1%", files[::-1]))
        columns.append(("count", "count", ",", files[::-1]))
        rows = [[Name(entry["group"]), *(cell(entry, *column[1:]) for column in columns)] for entry in entries]
        return {"headers": [Name(entries[0]["task"]), *(Name(column[0]) for column in columns)], "rows": rows}

    tables = []
    for entries in rows_by_measure([figures.value(file) for file in files]):
        if entries[0]["task"] in without:
            continue
        parts = [entry for entry in finest(entries) if SEPARATOR in entry["group"]]
        tables.append(
            {
                "measure": Name(entries[0]["measure"]),
                "better": entries[0]["better"],
                "protocol": cell(entries[0], "protocol", "", files[::-1]),
                "wholes": table([entry for entry in entries if SEPARATOR not in entry["group"]]),
                "parts": table(parts) if parts else None,
            }
        )
    return tables


def tuning_cost(figures: Figures) -> dict[str, str] | None:
    """The held-out text that tuning costs most: its domain, and the value of the base and of the instruct model; None
    where the two were not scored on it, or where it costs nothing."""
    files = [figures.run.scores_file(model) for model in (figures.run.models[0], figures.run.models[-1])]
    if not all(map(figures.has, files)):
        return None
    places = [
        {
            (row["task"], row["measure"], row["group"]): (index, row)
            for index, row in enumerate(figures.value(file, "/rows"))
            if row["better"] == "lower"
        }
        for file in files
    ]
    costs = {
        key: places[1][key][1]["value"] / row["value"]
        for key, (_, row) in places[0].items()
        if key in places[1] and row.get("protocol") == places[1][key][1].get("protocol")
    }
    worst = max(costs, key=costs.__getitem__, default=None)
    if worst is None or costs[worst] <= 1:
        return None
    before, after = (
        figures.figure(file, join("rows", found[worst][0], "value"), ".3f")
        for file, found in zip(files, places, strict=True)
    )
    return {"measure": Name(worst[1]), "group": Name(worst[2]), "before": before, "after": after}


def merge_table(figures: Figures) -> Table | None:
    """How the merged model's logits compare with the unmerged one's."""
    file = f"{figures.run.merged}/merge_certificate.json"
    if not figures.has(file) or not figures.value(file).get("comparison"):
        return None
    return figures_table(
        figures,
        "merge",
        ("largest logit difference in float32", file, "/comparison/float32/max_abs_logit_difference", ".2g"),
        ("largest logit", file, "/comparison/float32/max_abs_logit", ".3g"),
        ("mean KL after rounding", file, "/comparison/as_stored/mean_kl", ".2g"),
        ("argmax agreement after rounding", file, "/comparison/as_stored/argmax_agreement", ".2%"),
        ("positions compared", file, "/comparison/tokens", ","),
    )


def tuning_tables(figures: Figures) -> dict[str, Table]:
    """Data and settings of each stage that made the instruct model of the base, by its name."""
    tables = {}
    for stage, folder in figures.run.tuned.items():
        manifest, metrics = f"{folder}/{MANIFEST_NAME}", f"{folder}/metrics.jsonl"
        last = len(figures.value(metrics)) - 1
        counts = [name for name, count in figures.value(manifest, "/counts").items() if isinstance(count, int)]
        tables[stage] = figures_table(
            figures,
            "",
            *((name.replace("_", " "), manifest, join("counts", name), ",") for name in counts),
            ("batch", manifest, "/config/batch_size", ","),
            ("peak learning rate", manifest, "/config/optimizer/lr", "g"),
            ("loss of the first step", metrics, "/0/loss", ".3f"),
            ("loss of the last step", metrics, join(last, "loss"), ".3f"),
        )
    return tables


def samples(figures: Figures, model: str, *, count: int = 3) -> list[dict[str, Any]]:
    """The first few answers as they came, right or wrong; text, so nothing to trace."""
    file = figures.run.scores_file(model)
    return figures.value(file, "/samples")[:count] if figures.has(file) else []


def example(figures: Figures, model: str) -> dict[str, Any] | None:
    """The question of the card's example, one that the model answered right, with the score of its kind; with "right"
    False where no answer was. None where the scores do not tell."""
    file = figures.run.scores_file(model)
    if not figures.has(file):
        return None
    scores = figures.value(file)
    shown = demonstration(scores)
    if shown is None:
        return {"right": False} if was_right_nowhere(scores) else None
    row = scores["rows"][shown["row"]]

    def cell(key: str, form: str) -> str:
        return figures.figure(file, join("rows", shown["row"], key), form)

    return {
        "right": True,
        "prompt": shown["prompt"],
        "text": shown["text"],
        "group": Name(row["group"]),
        "correct": cell("correct", ","),
        "count": cell("count", ","),
        "chance": None if row["chance"] is None else cell("chance", ".1%"),
    }
