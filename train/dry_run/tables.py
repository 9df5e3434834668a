"""`--dry-run`: the curriculum as a table, tokens by source, memory and time, and the sums that must come out.

Reads built phases where they are there, else the published recipes; needs neither a GPU nor weights.
"""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from data_recipes.errors import DataError
from data_recipes.recipes.recipe import load_recipe
from data_recipes.tokens.tokenizer import load_tokenizer
from modeling_yulanmini import YuLanMiniConfig
from train.config import PretrainConfig, phase_names
from train.curriculum.plan import Curriculum, Phase, PhaseRows, make_curriculum
from train.dry_run import estimates
from train.dry_run.start import check_start
from train.errors import TrainError
from train.model_setup import memory
from train.model_setup.attention import check_masks
from train.model_setup.build import model_config
from train.model_setup.recomputation import check_budget
from train.run.phases import known_phases, rows_of_recipe

PUBLISHED_VOCABULARY = 99_000
# The table fits a terminal of 100 columns.
WIDTH = 100
COLUMNS = {
    "phase": "phase",
    "context_length": "context",
    "rows_per_step": "rows/step",
    "steps": "steps",
    "end_step": "to step",
    "tokens": "tokens",
    "lr_first": "lr first",
    "lr_last": "lr last",
}
DEVICE_COLUMNS = {"micro_batch_rows": "at once", "memory_gb": "GB", "hours": "hours"}


def dry_run(
    config: PretrainConfig, *, hardware: str | None, mfu: float | None, as_json: bool, force: bool = False
) -> str:
    """What a run of `config` would do, as text or JSON. TrainError if the sums do not come out.

    Where phases are built, also for all that a run would be refused for; where none is, this is a plan for another day
    or machine, and says what a run would need.
    """
    declared, origin = declared_phases(config)
    curriculum = make_curriculum(config, declared)
    check_masks(curriculum.phases, config.attention)
    check_budget(curriculum.phases, compile=config.compile)
    proofs = prove_totals(config, curriculum)
    is_built = any(phase.built is not None for phase in declared)
    if is_built:
        check_start(config, curriculum, force=force)
    if mfu is not None and not 0 < mfu <= 1:
        raise TrainError(f"--mfu {mfu:g}: expected a share above 0 and at most 1, such as 0.4.")
    model, _ = model_config(config, vocab_size=_vocabulary(config))
    device = estimates.parse_hardware(hardware) if hardware else memory.this_machine()
    share = mfu or estimates.PUBLISHED_MFU
    rows = [_phase_row(phase, curriculum, config) for phase in curriculum.phases]
    report: dict[str, Any] = {
        "output_dir": str(config.output_dir),
        "phases_from": origin,
        "needed_first": _missing_phases(config, curriculum) if is_built else _missing(config),
        "total_steps": curriculum.total_steps,
        "total_tokens": curriculum.total_steps * config.tokens_per_step,
        "phases": rows,
        "sources": {
            phase.name: [{"name": name, "domain": domain, "tokens": tokens} for name, domain, tokens in phase.subsets]
            for phase in declared
        },
        "proofs": proofs,
    }
    if device is not None:
        for row, phase in zip(rows, curriculum.phases, strict=True):
            fitting = memory.rows_that_fit(config, model, phase, device)
            if phase.fits_rows:
                phase = replace(phase, micro_batch_rows=max(fitting, 1))
            parts = memory.memory_parts(config, model, phase, device)
            row["micro_batch_rows"] = phase.micro_batch_rows or max(phase.rows_per_step // device.count, 1)
            row["memory_gb"] = round((sum(parts.values()) + device.overhead) / 1e9, 1)
            row["memory_parts_gb"] = {name: round(value / 1e9, 2) for name, value in parts.items()}
            row["fitting_micro_batch_rows"] = fitting
            took = estimates.seconds(model, phase, tokens_per_step=config.tokens_per_step, hardware=device, mfu=share)
            row["hours"] = round(took / 3600, 2)
        report["hardware"] = {**vars(device), "mfu": share}
        report["estimates"] = estimates.provenance(device, mfu=mfu)
        report["hours"] = round(sum(row["hours"] for row in rows), 1)
    return json.dumps(report, indent=2, ensure_ascii=False) if as_json else _as_text(report, device)


def what_fits(config: PretrainConfig) -> str:
    """Advice after running out of memory: the micro-batch that should fit this machine's devices, or its host."""
    advice = "Set recomputation.mode to full, or use more ranks; the run resumes from its last checkpoint."
    device = memory.this_machine() or memory.this_host()
    declared, _ = declared_phases(config)
    model, _ = model_config(config, vocab_size=_vocabulary(config))
    rows = {
        phase.context_length: _fewer_rows_that_fit(config, model, phase, device)
        for phase in make_curriculum(config, declared).phases
    }
    fitting = ", ".join(f"{count} at context {context:,}" for context, count in rows.items() if count)
    if not fitting:
        return f"By estimate not even one row at a time fits {device.count} x {device.name}. {advice}"
    return f"By estimate these micro_batch_rows fit {device.count} x {device.name}: {fitting}. Or: {advice}"


def _fewer_rows_that_fit(config: PretrainConfig, model: YuLanMiniConfig, phase: Phase, device: memory.Hardware) -> int:
    """What fits by estimate, after a run has run out of memory: fewer rows than it had, which did not fit."""
    share = max(phase.rows_per_step // device.count, 1)
    fitting = memory.rows_that_fit(config, model, phase, device)
    tried = fitting if phase.fits_rows else phase.micro_batch_rows or share
    return max((rows for rows in range(1, tried) if share % rows == 0 and rows <= fitting), default=0)


def declared_phases(config: PretrainConfig) -> tuple[list[PhaseRows], str]:
    """The phases, and where they were read."""
    names = phase_names(config.data.phases)
    if any(config.data.dir.glob("*/manifest.json")):
        return known_phases(config), f"built phases in {config.data.dir}"
    phases = []
    for name in names:
        try:
            recipe = load_recipe(name)
        except DataError as error:
            raise TrainError(
                f"data.phases: phase '{name}' is neither built in {config.data.dir} nor a published recipe: {error}"
            ) from error
        phases.append(rows_of_recipe(name, recipe))
    return phases, f"published recipes (nothing built in {config.data.dir})"


def prove_totals(config: PretrainConfig, curriculum: Curriculum) -> list[str]:
    """The sums that hold, one sentence each; TrainError names the first that does not."""
    total = steps = left_over = 0
    for phase in curriculum.phases:
        tokens = sum(tokens for _, _, tokens in phase.subsets)
        if tokens != phase.rows * phase.context_length:
            raise TrainError(
                f"phase {phase.name}: its sources add up to {tokens:,} tokens, its rows to "
                f"{phase.rows * phase.context_length:,}. Build it again."
            )
        if phase.first_step != steps:
            raise TrainError(
                f"phase {phase.name} begins at step {phase.first_step:,}, the one before ends at {steps:,}."
            )
        steps += phase.steps
        total += tokens
        left_over += phase.rows_left_over * phase.context_length
    read = steps * config.tokens_per_step
    if read + left_over != total:
        raise TrainError(f"steps read {read:,} tokens and leave {left_over:,}, but the phases hold {total:,}.")
    return [
        f"in each of {len(curriculum.phases)} phases the sources' tokens add up to its rows",
        f"each phase begins where the one before ends; {steps:,} steps in all",
        f"{steps:,} steps x {config.tokens_per_step:,} tokens = {read:,}, + {left_over:,} in incomplete last steps "
        f"= {total:,} tokens in the phases",
    ]


def _phase_row(phase: Phase, curriculum: Curriculum, config: PretrainConfig) -> dict[str, Any]:
    return {
        "phase": phase.name,
        "context_length": phase.context_length,
        "rows_per_step": phase.rows_per_step,
        "rows": phase.rows,
        "rows_left_over": phase.rows_left_over,
        "steps": phase.steps,
        "first_step": phase.first_step,
        "end_step": phase.end_step,
        "tokens": phase.steps * config.tokens_per_step,
        "lr_first": curriculum.at(phase.first_step).lr,
        "lr_last": curriculum.at(phase.end_step - 1).lr,
        "rope_theta": phase.rope_theta,
        "document_mask": phase.document_mask,
        "rebalance": phase.rebalance,
        "recomputation": phase.recomputation.model_dump(),
    }


def _as_text(report: dict[str, Any], device: memory.Hardware | None) -> str:
    columns = COLUMNS | (DEVICE_COLUMNS if device is not None else {})
    lines = [f"Phases from {report['phases_from']}", ""]
    lines += _table(list(columns.values()), [[row[column] for column in columns] for row in report["phases"]])
    lines += ["", *_stage_lines(report["phases"]), "", *_domain_lines(report), ""]
    lines += [f"a run needs first: {missing}" for missing in report["needed_first"]]
    lines += [f"proved: {proof}" for proof in report["proofs"]]
    if device is not None:
        alike: dict[tuple[float, int], list[str]] = {}
        for row in report["phases"]:
            if row["micro_batch_rows"] > row["fitting_micro_batch_rows"]:
                alike.setdefault((row["memory_gb"], row["fitting_micro_batch_rows"]), []).append(row["phase"])
        too_large = [
            f"phase {', '.join(names)}: {memory} GB a device, but a {device.name} has {device.memory / 1e9:.0f}; "
            + (
                f"micro_batch_rows {fitting} would fit"
                if fitting
                else "no micro-batch fits: more devices, or recomputation.mode full"
            )
            for (memory, fitting), names in alike.items()
        ]
        uneven = [row["phase"] for row in report["phases"] if row["rows_per_step"] % device.count]
        if uneven:
            too_large.append(
                f"the rows of a step cannot be shared evenly by {device.count} devices in phases {', '.join(uneven)}"
            )
        lines += [f"warning: {line}" for line in too_large]
        lines.append(
            f"estimated: {report['hours']:,} h on {device.count} x {device.name} at {report['hardware']['mfu']:.0%} of "
            f"{device.peak / 1e12:.0f} TFLOP/s (PaLM's count), {report['hours'] * device.count:,.0f} device hours"
        )
        lines += [
            f"{figure.replace('_', ' ')}: {origin['basis']}, from {origin['from']}"
            for figure, origin in report["estimates"].items()
        ]
    else:
        lines.append("no time or memory estimate: give --hardware such as 8xH100")
    lines.append("--json has every phase's sources, settings and parts of the memory.")
    wrapped = textwrap.TextWrapper(WIDTH, subsequent_indent="    ")
    return "\n".join(line if len(line) <= WIDTH else wrapped.fill(line) for line in lines)


def _stage_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Settings that hold from a phase on, one line for each change."""
    lines, before = [], None
    for row in rows:
        now = (
            f"rope_theta {row['rope_theta']:,.0f}, documents {'masked' if row['document_mask'] else 'not masked'}, "
            f"recomputation {row['recomputation']['mode']}{', re-balanced at the end' if row['rebalance'] else ''}"
        )
        if now != before:
            lines.append(f"from phase {row['phase']}: {now}")
        before = now
    return lines


def _domain_lines(report: dict[str, Any]) -> list[str]:
    """Tokens of each domain over all phases; their sources are too many for a terminal."""
    tokens: dict[str, int] = {}
    sources: dict[str, set[str]] = {}
    for source in (source for phase in report["sources"].values() for source in phase):
        domain = source["domain"] or "-"
        tokens[domain] = tokens.get(domain, 0) + source["tokens"]
        sources.setdefault(domain, set()).add(source["name"])
    total = sum(tokens.values())
    rows = [[name, len(sources[name]), count, f"{count / total:.1%}"] for name, count in tokens.items()]
    return _table(["domain", "sources", "tokens", "share"], rows)


def _missing_phases(config: PretrainConfig, curriculum: Curriculum) -> list[str]:
    """What is to be built for a run that goes on beyond the phases at hand."""
    return [f"phase {name}, built in {config.data.dir}, to go on after these" for name in curriculum.unknown]


def _missing(config: PretrainConfig) -> list[str]:
    """What a run of phases that are not built yet lacks."""
    missing = [f"the phases, built in {config.data.dir} (`yulanmini data build`)"]
    paths = {"tokenizer": config.tokenizer} | ({"heldout.dir": config.heldout.dir} if config.heldout else {})
    return missing + [f"{key}: {path} is not there" for key, path in paths.items() if not path.exists()]


def _table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(headers, *texts, strict=True)]
    numeric = [all(isinstance(row[index], int | float) for row in rows) for index in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return [line(headers), *(line(cells) for cells in texts)]


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _vocabulary(config: PretrainConfig) -> int:
    """The tokenizer's size where it is there; else that of the model's config, or the published 99,000."""
    try:
        return load_tokenizer(config.tokenizer).vocab_size
    except (DataError, OSError):
        given = config.model.get("vocab_size") if isinstance(config.model, dict) else None
        return int(given or PUBLISHED_VOCABULARY)
