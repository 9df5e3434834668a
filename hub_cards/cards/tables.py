"""The tables of a model card, cell by cell from the run's files (see evidence.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.demonstration import demonstration, was_right_nowhere
from eval.scores import SEPARATOR, finest, rows_by_measure, value_format
from hub_cards.cards.evidence import Figures, join
from hub_cards.cards.mixes import domain_name
from hub_cards.cards.page import Name, Table
from hub_cards.cards.training_tables import figures_table

FIRST_COLUMN = {"heldout": "kind of text", "problems": "kind of problem"}


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
    headers = ["kind of text"]
    for step in shown:
        label = f"phase {figures.figure(file, join(first[step], 'phase'), '')}" if step else "start"
        headers.append(Name(f"{label}, step {figures.figure(file, join(first[step], 'step'))}"))

    def cell(step: int, domain: str) -> str:
        at = places.get((step, domain))
        return "not scored" if at is None else figures.figure(file, join(at, "bits_per_byte"), ".3f")

    domains = dict.fromkeys(line["domain"] for line in lines)
    rows = [[domain_name(domain), *(cell(step, domain) for step in shown)] for domain in domains]
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
        columns.append(("number", "count", ",", files[::-1]))
        rows = [[domain_name(entry["group"]), *(cell(entry, *column[1:]) for column in columns)] for entry in entries]
        return {
            "headers": [FIRST_COLUMN.get(entries[0]["task"], "scored on"), *(Name(column[0]) for column in columns)],
            "rows": rows,
        }

    tables = []
    for entries in rows_by_measure([figures.value(file) for file in files]):
        if entries[0]["task"] in without:
            continue
        parts = [entry for entry in finest(entries) if SEPARATOR in entry["group"]]
        tables.append(
            {
                "measure": Name(entries[0]["measure"]),
                "task": Name(entries[0]["task"]),
                "in_levels": any(entry["group"].startswith("level") for entry in entries),
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
    return {"measure": Name(worst[1]), "group": domain_name(worst[2]), "before": before, "after": after}


def merge_table(figures: Figures) -> Table | None:
    """How the merged model's logits compare with the unmerged one's."""
    file = f"{figures.run.merged}/merge_certificate.json"
    if not figures.has(file) or not figures.value(file).get("comparison"):
        return None
    return figures_table(
        figures,
        "merged against unmerged",
        ("positions compared", file, "/comparison/tokens", ","),
        ("largest logit", file, "/comparison/float32/max_abs_logit", ".3g"),
        ("largest difference of a logit in float32", file, "/comparison/float32/max_abs_logit_difference", ".2g"),
        (
            "as stored, rounded: mean KL divergence of the next token, in nats",
            file,
            "/comparison/as_stored/mean_kl",
            ".2g",
        ),
        ("as stored, rounded: same most likely token", file, "/comparison/as_stored/argmax_agreement", ".2%"),
    )


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
