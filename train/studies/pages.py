"""The pages of the studies: templates filled from a study's result, so that no number is written by hand.

A study's command writes its page beside its result. `docs/studies` has the pages of the committed results:

    python -m train.studies.pages      # writes them again, after a result or a template has changed
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from data_recipes.files import write_whole
from train.studies.claims import ENOUGH, STAYS, SUFFICIENT, claims

TEMPLATES = Path(__file__).parent / "page_templates"
SUMMARY = "README"
"""The page about all studies together; its template sees all results, each by its name with `_` for `-`."""


def page_of(study: str, result: Mapping[str, Any], *, figure: str) -> str:
    """The page of a study with its result; `figure`: where its figure lies, seen from the page."""
    return _filled(study, {"result": result, "figure": figure})


def study_names() -> list[str]:
    """All studies that have a page."""
    return sorted(path.name.removesuffix(".md.jinja") for path in TEMPLATES.glob("*.jinja") if SUMMARY not in path.name)


def docs_pages(docs: Path) -> dict[Path, str]:
    """The pages of `docs/studies` as they should be, from the results in `docs/results`."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted((docs / "results").glob("*.json"))}
    pages = {
        docs / "studies" / f"{name}.md": page_of(name, results[name], figure=f"../figures/{name}.svg")
        for name in study_names()
        if name in results
    }
    if (tuned := docs.parent / "benchmarks" / "results" / "instruct_study.json").is_file():
        results[tuned.stem] = json.loads(tuned.read_text())
    named = {name.replace("-", "_"): result for name, result in results.items()}
    rule = {"enough": ENOUGH, "sufficient": SUFFICIENT, "stays": STAYS}
    summary = _filled(SUMMARY, {**named, **rule, "claims": claims(results)})
    return {**pages, docs / "studies" / f"{SUMMARY}.md": summary}


def _filled(name: str, values: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"fixed": fixed, "percent": percent, "between": between, "change": change, "share": share}
    environment.filters |= {"verdict": verdict, "sentence": sentence}
    return environment.get_template(f"{name}.md.jinja").render(values)


def fixed(value: float | None, digits: int = 2) -> str:
    """`0.50`; a dash where there is no value."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    """`83 %` of 0.83."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def between(interval: Mapping[str, Any], digits: int = 2) -> str:
    """`0.50 (0.40 to 0.60)` of an `Interval` as JSON; the bare value where it has no bounds."""
    shown = fixed(interval["value"], digits)
    if interval["low"] is None or interval["high"] is None:
        return shown
    return f"{shown} ({fixed(interval['low'], digits)} to {fixed(interval['high'], digits)})"


def change(interval: Mapping[str, Any], digits: int = 3) -> str:
    """`-0.012 (-0.020 to -0.004)`: as `between`, with signs."""
    values = [interval[key] for key in ("value", "low", "high")]
    shown = ["-" if value is None else f"{value:+.{digits}f}" for value in values]
    return shown[0] if "-" in shown else f"{shown[0]} ({shown[1]} to {shown[2]})"


def share(interval: Mapping[str, Any]) -> str:
    """`83 % (72 to 91 %)`: of an `Interval` of a share."""
    if interval["value"] is None or interval["low"] is None:
        return percent(interval["value"])
    return f"{100 * interval['value']:.0f} % ({100 * interval['low']:.0f} to {100 * interval['high']:.0f} %)"


def verdict(interval: Mapping[str, Any], below: str, above: str, neither: str = "not told apart") -> str:
    """One of three phrases, by where 0 lies from a change's interval."""
    if interval["high"] is not None and interval["high"] < 0:
        return below
    return above if interval["low"] is not None and interval["low"] > 0 else neither


def sentence(text: str) -> str:
    """With a capital at its beginning, names within as they are; `muP` stays."""
    return text if text[:2] == "mu" else text[:1].upper() + text[1:]


if __name__ == "__main__":
    for path, text in docs_pages(Path("docs")).items():
        write_whole(path, text)
        print(path)
