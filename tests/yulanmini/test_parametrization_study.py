"""The study of parametrizations from its command to its page, in small, and single trials of it again."""

import json
import re

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_study_writes_its_page_goes_on_where_it_was_and_repeats_a_cell(smoke_run, tmp_path, typed):
    out = tmp_path / "out"
    command = f"train parametrization-study --run {smoke_run} --quick --columns standard,yulanmini,yulanmini-corrected"
    result = json.loads(typed(f"{command} --out {out} --json").stdout)
    assert list(result["widths"]) == ["64", "128"]
    assert json.loads((out / "parametrizations.json").read_text()) == result
    assert (out / "parametrizations.svg").stat().st_size > 5000
    page = (out / "parametrizations.md").read_text()
    shown = result["widths"]["128"]["equal_steps"]["heldout"]["over_standard"]["yulanmini"]["value"]
    assert f"{shown:+.3f}" in page
    narrow = result["widths"]["64"]["equal_steps"]["heldout"]["pairs"]["yulanmini - yulanmini-corrected"]
    assert (narrow["value"], narrow["low"], narrow["high"]) == (0, 0, 0), "m_width is 1: the same training"

    done = {path: path.stat().st_mtime_ns for path in out.glob("*/*/done.json")}
    (out / "parametrizations.json").unlink()
    again = json.loads(typed(f"{command} --out {out} --json").stdout)
    assert again == result
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*/done.json")} == done

    name = next(name for name in result["trials"] if re.match(r"yulanmini-128-\d+steps", name))
    options = f"--only {name} --against {out / 'parametrizations.json'} --out {tmp_path / 'elsewhere'}"
    cell = json.loads(typed(f"{command} {options} --json").stdout)["repeated"][name]
    assert cell["now"]["heldout"] == pytest.approx(cell["result"]["heldout"], rel=1e-5)
    assert "yulanmini-128" in typed(f"{command} {options}").stdout
