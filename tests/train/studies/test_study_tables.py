"""The pages about the older studies are written by hand; the figures of their tables are those of the results."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[3] / "docs"
PARAMETRIZATION = (DOCS / "parametrization.md").read_text()
STABILITY = (DOCS / "stability.md").read_text()
COLUMNS = {
    "standard": "SI",
    "cerebras-gpt": "CerebrasGPT (muP)",
    "yulanmini": "YuLan-Mini as in Table 3",
    "yulanmini-corrected": "YuLan-Mini, width-corrected",
}


def result(name: str) -> dict[str, Any]:
    return json.loads((DOCS / "results" / f"{name}.json").read_text())


def row_of(text: str, header: str, name: str) -> list[str]:
    """The cells of the row `name` of the table whose header row holds `header`."""
    lines = text[text.index(header) :].split("\n\n")[0].splitlines()
    line = next(line for line in lines if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def same(shown: str, value: float) -> bool:
    """Whether a figure on a page is the value, rounded to as many digits as it shows."""
    if "e" in shown:
        return f"{value:.0e}" == f"{float(shown):.0e}"
    return round(value, len(shown.partition(".")[2])) == float(shown)


@pytest.mark.parametrize("column", COLUMNS)
def test_the_slopes_are_those_of_the_coordinate_check(column: str) -> None:
    slopes = result("coordinate-check")["columns"][column]["slope"]
    shown = row_of(PARAMETRIZATION, "| | layer 0 | layer 1 |", COLUMNS[column])
    assert [float(cell) for cell in shown] == [round(slope, 2) for slope in slopes.values()]


@pytest.mark.parametrize("column", COLUMNS)
def test_the_best_rates_are_those_of_the_transfer_study(column: str) -> None:
    found = result("lr-transfer")["columns"][column]
    *rates, ratio, losses = row_of(PARAMETRIZATION, "256 over 64", COLUMNS[column])
    for cell, width in zip(rates, found["best_lr"], strict=True):
        figures = [found["best_lr"][width], *found["best_lr_interval"][width]]
        assert all(same(*pair) for pair in zip(re.findall(r"[\d.]+", cell), figures, strict=True)), cell
    figures = [found["widest_over_narrowest"], *found["widest_over_narrowest_interval"]]
    assert all(same(*pair) for pair in zip(re.findall(r"[\d.]+", ratio), figures, strict=True)), ratio
    assert all(same(*pair) for pair in zip(losses.split(", "), found["best_loss"].values(), strict=True)), losses


@pytest.mark.parametrize("row", result("stability")["rows"])
def test_the_cells_are_those_of_the_stability_study(row: str) -> None:
    found = result("stability")["rows"][row]
    *cells, step_time = row_of(STABILITY, "| | rate 0.002 |", row)
    assert same(step_time, found["step_time"])
    for cell, runs in zip(cells, found["runs"].values(), strict=True):
        states, _, figures = re.match(r"((\w+(?: / )?)+) (.*)", cell).groups()  # type: ignore[union-attr]
        assert set(states.split(" / ")) == {run["state"] for run in runs}, cell
        keys = ("final_loss", "last_hidden_state_variance", "last_attention_logit")
        for part, key in zip(figures.split("; "), keys, strict=True):
            assert all(same(*pair) for pair in zip(part.split(", "), [run[key] for run in runs], strict=True)), (
                f"{row}: {part} of {cell}, {key}: {[run[key] for run in runs]}"
            )
