"""The end of a run in the terminal: what came out, where the time went, and what to type next."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eval.demonstration import demonstration, was_right_nowhere
from eval.scores import SEPARATOR, is_share, side_by_side
from yulanmini.report import units
from yulanmini.run_layout import MODELS, PRETRAIN, last_model


def closing(report: Mapping[str, Any], out: Path) -> str:
    """A page of text from the figures of the report (yulanmini/report/collect.py)."""
    lines = [*_times(report, out), *_heldout(report), *_scores(report), *_example(report), *_next(report, out)]
    return "\n".join(lines).replace(units.THIN, " ")


def _times(report: Mapping[str, Any], out: Path) -> Iterator[str]:
    head = report["headline"]
    yield f"\n{out}: {units.duration(head['seconds'])} in all, peak memory {units.size(head['peak_rss_bytes'])}"
    parts = [f"{stage['stage']} {units.duration(stage['seconds'])}" for stage in report["stages"] if stage["seconds"]]
    yield f"  {', '.join(parts)}"


def _heldout(report: Mapping[str, Any]) -> Iterator[str]:
    bits = report["headline"]["bits_per_byte"]
    if bits:
        first, last = units.significant(bits["first"]), units.significant(bits["last"])
        yield f"\nHeld-out text: {last} bits per byte, mean of the domains; {first} before training"


def _scores(report: Mapping[str, Any]) -> Iterator[str]:
    scored = report["scores"] or {}
    rows = [
        entry for entry in side_by_side(list(scored.values())) if is_share(entry) and SEPARATOR not in entry["group"]
    ]
    if not rows:
        return
    names = "".join(f"{MODELS[model][1]:>11}" for model in scored)
    yield f"\nUnseen problems answered right{names}  chance   of"
    for row in rows:
        values = "".join(f"{units.percent(value):>11}" for value in row["values"])
        chance = units.percent(row["chance"])
        yield f"  {row['group']:<28}{values} {chance:>7} {row['count']:>4,}"


def _example(report: Mapping[str, Any]) -> Iterator[str]:
    """One answer of the instruct model: of the kind that it does best, one that was right."""
    scored = report["scores"] or {}
    instruct = scored.get(last_model(scored) or "")
    if not instruct:
        return
    shown = demonstration(instruct)
    if shown is None:
        if was_right_nowhere(instruct):
            yield "\nIt answered none of the questions right: expect no right answer from it."
        return
    row = instruct["rows"][shown["row"]]
    yield f"\nIt does best at {row['group']}: {row['correct']:,} of {row['count']:,} right. One of these:"
    yield from (
        f"  you> {line}" if at == 0 else f"       {line}" for at, line in enumerate(shown["prompt"].split("\n"))
    )
    yield f"  it>  {shown['output']}"


def _next(report: Mapping[str, Any], out: Path) -> Iterator[str]:
    done = {stage["stage"] for stage in report["stages"] if stage["status"] == "done"}
    yield f"\nLook at {out / 'report.html'}. Next:"
    instruct = last_model(done)
    shown = demonstration((report["scores"] or {}).get(instruct or "") or {"rows": [], "samples": []})
    if instruct:
        folder = shlex.quote(str(out / MODELS[instruct][0]))
        asked = f" --prompt {shlex.quote(shown['prompt'])}" if shown and "\n" not in shown["prompt"] else ""
        yield f"  yulanmini chat {folder}{asked}"
    if "pretrain" in done:
        config = shlex.quote(str(out / PRETRAIN / "config.yaml"))
        yield f"  yulanmini train pretrain {config} --set output_dir=runs/again max_steps=100"
    yield "  yulanmini reproduce --corpus FOLDER --out runs/mine      # on your own text"
