"""The tables of a model's card on how it was trained: its size, the settings, the stages of tuning, the machines."""

from typing import Any

from data_recipes.manifest import MANIFEST_NAME
from hub_cards.cards.evidence import Figure, Figures, Operand, join
from hub_cards.cards.page import Name, Table
from train.run.hardware import HARDWARE_FILE

TUNING_COUNTS = {
    "steps": "optimizer steps",
    "tokens": "tokens of the data",
    "trained_tokens": "of them learnt (the answers)",
    "pretraining_tokens": "of them from pretraining text",
    "trained_on_tokens": "tokens read in training",
    "truncated": "cut to the greatest length",
    "dropped": "left out as too long",
    "over_long": "left out as too long",
    "prompts": "questions",
    "prompt_tokens": "tokens of the questions",
    "pairs": "pairs of answers",
}
NAMED_IF_ANY = ("truncated", "dropped", "over_long", "pretraining_tokens")
NOT_MEASURED = "not measured"
GROUPED = ","


def figures_table(figures: Figures, title: str, *rows: tuple[str, str, str, str]) -> Table:
    """A table of single figures: what each is, its file, where in it, and its format."""
    return {"headers": [title, "value"], "rows": [[Name(label), figures.figure(*place)] for label, *place in rows]}


def size_table(figures: Figures, config: str) -> Table:
    """The shape of the model, from its config file, and how long it was trained."""
    table = figures_table(
        figures,
        "",
        ("layers", config, "/num_hidden_layers", GROUPED),
        ("hidden size", config, "/hidden_size", GROUPED),
        ("feed-forward size", config, "/intermediate_size", GROUPED),
        ("attention heads", config, "/num_attention_heads", GROUPED),
        ("key/value heads", config, "/num_key_value_heads", GROUPED),
        ("vocabulary", config, "/vocab_size", GROUPED),
        ("longest context, in tokens", config, "/max_position_embeddings", GROUPED),
    )
    manifest = figures.run.pretrain_manifest
    if figures.has(manifest):
        trained = figures_table(
            figures,
            "",
            ("parameters in training (input and output embedding are one)", manifest, "/counts/parameters", GROUPED),
            ("tokens trained on", manifest, "/counts/tokens", GROUPED),
            ("optimizer steps", manifest, "/counts/steps", GROUPED),
        )
        table["rows"] = [*trained["rows"], *table["rows"]]
    return table


def settings_table(figures: Figures) -> Table:
    """The hyper-parameters of pretraining, as they were resolved."""
    file = figures.run.pretrain_manifest
    config = figures.value(file, "/config")
    annealing = config["schedule"]["annealing"] or {}
    rows: list[list[Any]] = []

    def add(label: str, *keys: str | int, form: str = "") -> None:
        if look(*keys) is not None:
            rows.append([label, figures.figure(file, join("config", *keys), form)])

    def look(*keys: str | int) -> Any:
        value = config
        for key in keys:
            value = value[key]
        return value

    add("tokens in a step (batch)", "tokens_per_step", form=GROUPED)
    add("optimizer", "optimizer", "kind")
    add("peak learning rate", "optimizer", "lr", form="g")
    add("warm-up steps", "schedule", "warmup_steps", form=GROUPED)
    add("warm-up tokens", "schedule", "warmup_tokens", form=GROUPED)
    if annealing:
        add("learning rate falls from phase", "schedule", "annealing", "start")
        add("along the curve", "schedule", "annealing", "shape")
        add("down to this part of the peak", "schedule", "annealing", "floor", form="g")
    for index, name in enumerate(("first", "second")):
        add(f"{name} moment's decay (beta)", "optimizer", "betas", index, form="g")
    add("epsilon", "optimizer", "eps", form="g")
    add("weight decay", "optimizer", "weight_decay", form="g")
    add("gradient norm is clipped at", "optimizer", "clip", form="g")
    add("parametrization", "parametrization", "name")
    for index, stage in enumerate(config["stages"]):
        if stage["rope_theta"] is not None:
            label = Name(f"rotary base, phases {stage['phases']}")
            rows.append([label, figures.figure(file, join("config", "stages", index, "rope_theta"), ",.0f")])
    add("precision", "precision")
    add("seed", "seed")
    return {"headers": ["setting", "value"], "rows": rows}


def tuning_tables(figures: Figures) -> dict[str, Table]:
    """Data and settings of each stage that made the instruct model of the base, by its name."""
    tables = {}
    for stage, folder in figures.run.tuned.items():
        manifest, metrics = f"{folder}/{MANIFEST_NAME}", f"{folder}/metrics.jsonl"
        lines = figures.value(metrics)
        # The loss of the on-policy stage is about zero by its making: what it raises is the reward.
        shown, name = ("reward", "mean reward") if "reward" in lines[-1] else ("loss", "loss")
        counts = [
            (TUNING_COUNTS.get(key, key.replace("_", " ")), manifest, join("counts", key), GROUPED)
            for key, count in figures.value(manifest, "/counts").items()
            if isinstance(count, int) and (count or key not in NAMED_IF_ANY)
        ]
        tables[stage] = figures_table(
            figures,
            "",
            *counts,
            ("batch", manifest, "/config/batch_size", GROUPED),
            ("peak learning rate", manifest, "/config/optimizer/lr", "g"),
            (f"{name} of the first step", metrics, f"/0/{shown}", ".3f"),
            (f"{name} of the last step", metrics, join(len(lines) - 1, shown), ".3f"),
        )
    return tables


def hardware_table(figures: Figures, stages: dict[str, str]) -> Table | None:
    """Machines, hours and energy of each stage (its name and its folder) that has recorded them, all sessions added up;
    None where none has."""
    rows = []
    for stage, folder in stages.items():
        file = f"{folder}/{HARDWARE_FILE}"
        if not figures.has(file):
            continue
        sessions = figures.value(file, "/sessions")
        devices = dict.fromkeys(name for session in sessions for name in session["devices"])
        counts = [
            [(file, join("sessions", i, "devices", name)) for i, one in enumerate(sessions) if name in one["devices"]]
            for name in devices
        ]
        widest = [figures.derived("largest", places) for places in counts]
        times: list[Operand] = [(file, join("sessions", index, "seconds")) for index in range(len(sessions))]
        hours = figures.derived("hours", times, ".3g")
        rows.append(
            [
                Name(stage),
                Name(", ".join(f"{count} x {name}" for count, name in zip(widest, devices, strict=True))),
                hours,
                *(_kilowatt_hours(figures, file, sessions, key) for key in ("gpu_joules", "cpu_joules")),
            ]
        )
    headers = ["stage", "processes x device", "hours", "energy of the GPUs, kWh", "energy of the processors, kWh"]
    return {"headers": headers, "rows": rows, "left": [headers[1]]} if rows else None


def _kilowatt_hours(figures: Figures, file: str, sessions: list[dict[str, Any]], key: str) -> Figure | str:
    if any(session[key] is None for session in sessions):
        return NOT_MEASURED
    joules: list[Operand] = [(file, join("sessions", index, key)) for index in range(len(sessions))]
    return figures.derived("kilowatt hours", joules, ".3g")
