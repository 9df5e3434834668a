"""Runs side by side: what was measured in another way stands apart, and published scores beside measured ones."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from score_files import EIGHT, benchmark, own_row, write_benchmarks, write_scores

from eval.comparison import compare, reason
from eval.published_table import comparison_sheets, phase_of, published_sheets
from eval.score_page import markdown, page
from eval.score_plots import draw_figure_1, figure_1_points, figures, needle_grids, published_points
from eval.suites import run_suite
from yulanmini import cli

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "benchmarks"


def change(folder: Path, **changes: Any) -> None:
    """Change keys of a score file's provenance."""
    path = folder / "scores.json"
    scores = json.loads(path.read_text())
    scores["provenance"] |= changes
    path.write_text(json.dumps(scores))


@pytest.mark.parametrize(
    ("changed", "about", "expected"),
    [
        ({}, {}, {}),
        ({"value": 0.9}, {}, {}),
        ({"protocol": "windows of 256 tokens"}, {}, {"protocol": ["windows of 128 tokens", "windows of 256 tokens"]}),
        ({"count": 50}, {}, {"count": [100, 50]}),
        ({"chance": 0.5}, {}, {"chance": [None, 0.5]}),
        ({}, {"data": {"fingerprint": "b" * 64}}, {"data": ["a" * 64, "b" * 64]}),
        ({}, {"settings": {"start": "none"}}, {"start": ["eos", "none"]}),
        ({}, {"settings": {"start": "eos", "batch_size": 3, "suite": "heldout"}}, {}),
    ],
)
def test_rows_of_own_tasks_are_compared_by_how_they_were_measured(
    changed: dict[str, Any], about: dict[str, Any], expected: dict[str, list[Any]], tmp_path: Path
) -> None:
    row = own_row("heldout", "bits per byte", "code", 1.5)
    folders = [
        write_scores(tmp_path / "a", "one", [row]),
        write_scores(tmp_path / "b", "two", [row | changed], **about),
    ]
    found = compare(folders)
    (entry,) = found.entries
    assert entry["differences"] == expected
    assert found.as_dict()["rows"] == ([] if expected else [entry])
    assert found.as_dict()["not_comparable"] == ([entry] if expected else [])


@pytest.mark.parametrize(
    ("changes", "chat", "expected"),
    [
        ({}, False, []),
        ({"documents": "e" * 64}, False, ["documents"]),
        ({"prompts": "e" * 64}, False, ["prompts"]),
        # A chat model's prompts are its own template's.
        ({"prompts": "e" * 64}, True, []),
        ({"settings": {"prompt": "chat", "limit": None}}, False, ["prompts"]),
    ],
)
def test_benchmarks_are_compared_by_documents_and_prompts(
    changes: dict[str, Any], chat: bool, expected: list[str], tmp_path: Path
) -> None:
    one = write_benchmarks(tmp_path / "a", "one", {"mmlu": 0.5}, chat=chat)
    other = write_benchmarks(tmp_path / "b", "two", {"mmlu": 0.6}, chat=chat, **changes)
    (entry,) = compare([one, other]).entries
    assert list(entry["differences"]) == expected


def test_only_what_differs_stands_apart(tmp_path: Path) -> None:
    rows = [own_row("heldout", "bits per byte", domain, 1.5) for domain in ("code", "math")]
    other = [rows[0], rows[1] | {"count": 7}]
    third = [own_row("problems", "exact match", "level 1", 0.2)]
    folders = [
        write_scores(tmp_path / name, name, found) for name, found in zip("abc", (rows, other, third), strict=True)
    ]
    found = compare(folders)
    assert [entry["group"] for entry in found.comparable] == ["code", "level 1"]
    (apart,) = found.apart
    assert reason(apart["differences"]) == "count: 100, 7, -"
    measured, not_comparable = comparison_sheets(found)
    assert measured.rows[0] == ["heldout", "bits per byte", "code", "1.500", "1.500", ""]
    assert not_comparable.rows == [["heldout", "bits per byte", "math", "1.500", "1.500", "", "count: 100, 7, -"]]


def test_unfinished_runs_and_forms_of_asking_are_noted(tmp_path: Path) -> None:
    base = write_scores(tmp_path / "base", "m", [own_row("problems", "exact match", "level 1", 0.1)])
    chat = write_scores(tmp_path / "chat", "m", [own_row("problems", "exact match", "level 1", 0.2)])
    change(chat, settings={"start": "eos", "prompt": "chat"})
    scores = json.loads((base / "scores.json").read_text()) | {"missing": ["heldout"]}
    (base / "scores.json").write_text(json.dumps(scores))
    found = compare([base, chat])
    assert found.notes == [
        "base: not finished; heldout still to be run.",
        "Questions were asked in different forms (base: question, chat: chat).",
    ]
    assert found.apart == []


def test_published_rows_stand_beside_measured_ones(tmp_path: Path) -> None:
    base = write_benchmarks(tmp_path / "a", "phase-26", {"gsm8k": 0.6612, "lambada": 0.5, "mmlu": 0.4})
    later = write_benchmarks(tmp_path / "b", "YuLan-Mini-Phase5", {"gsm8k": 0.03, "mmlu": 0.41}, documents="e" * 64)
    base_sheet, phases = published_sheets(compare([base, later]))
    assert base_sheet.headings == ["model", "GSM8K", "LAMBADA", "MMLU"]
    rows = {row[0]: row[1:] for row in base_sheet.rows}
    assert rows["YuLan-Mini-4K"] == ["66.65", "64.72", "51.79"]
    assert rows["Qwen2-1.54B"] == ["46.90*", "64.68", "55.90"]
    assert rows["Llama3.2-3.21B"][0] == ""
    assert rows["phase-26"] == ["66.12 ± 1.23†", "50.00 ± 1.23", "40.00 ± 1.23†"]
    assert rows["YuLan-Mini-Phase5"][1] == ""
    assert [name for name, own in zip(rows, base_sheet.measured, strict=True) if own] == [
        "phase-26",
        "YuLan-Mini-Phase5",
    ]
    notes = "\n".join(base_sheet.notes)
    assert "† GSM8K: not comparable between the runs (documents: dddddddd, eeeeeeee)" in notes
    assert "LAMBADA: lambada-task, accuracy, 5-shot; n = 100; not public, so ours: metric." in notes
    assert "* quoted in the report" in notes
    assert phases.headings == ["model", "GSM8K", "LAMBADA"]
    assert {"phase 5", "phase 27", "phase-26", "YuLan-Mini-Phase5"} <= {row[0] for row in phases.rows}


def test_instruct_models_have_a_sheet_of_their_own_with_both_sources(tmp_path: Path) -> None:
    instruct = write_benchmarks(tmp_path / "a", "mine", {"gsm8k_8shot": 0.8, "humaneval": 0.66}, chat=True)
    plain = write_benchmarks(tmp_path / "b", "base", {"humaneval": 0.5})
    base_sheet, sheet = published_sheets(compare([instruct, plain]))
    assert [row[0] for row in sheet.rows if row[0] in ("mine", "base")] == ["mine"]
    rows = {row[0]: row[1:] for row in sheet.rows}
    assert rows["YuLan-Mini-Instruct"] == ["67.7", "81.8 / 82.3"]
    assert any("81.8 (model card" in note and "82.3 (README" in note for note in sheet.notes)
    assert [row[0] for row in base_sheet.rows][-1] == "base"


def test_a_second_measure_and_a_second_benchmark_find_their_columns(tmp_path: Path) -> None:
    rows = [own_row("he", "pass@1", "all", 0.6), own_row("he", "pass@10", "all", 0.8)]
    rows += [own_row("arc", "accuracy", "all", 0.5), own_row("arc", "accuracy by length", "all", 0.4)]
    rows += [own_row("arc-letter", "accuracy", "all", 0.3), own_row("arc", "accuracy", "all / part", 0.1)]
    described = {"he": benchmark("humaneval", chat=True)}
    described |= {name: benchmark("arc_easy") for name in ("arc", "arc-letter")}
    base_sheet, sheet = published_sheets(compare([write_scores(tmp_path / "a", "m", rows, benchmarks=described)]))
    assert sheet.headings == ["model", "HumanEval", "HumanEval pass@10"]
    assert sheet.rows[-1] == ["m", "60.00", "80.00"]
    assert base_sheet.headings == ["model", "ARC-e (arc)", "ARC-e (arc-letter)"]
    assert base_sheet.rows[-1] == ["m", "50.00", "30.00"]


def test_names_of_anyones_making_stay_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|`x` *y*"
    folder = write_benchmarks(tmp_path / "a", evil, {"mmlu": 0.5})
    beside, rows = published_sheets(found := compare([folder])), comparison_sheets(found)
    html = page(beside, rows, {evil: "<svg></svg>"})
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") >= 3
    text = markdown(beside)
    assert r"\<script\>alert(1)\</script\>\|\`x\` \*y\*" in text
    assert len({line.count("|") - line.count(r"\|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_figure_1_has_the_runs_with_all_eight_and_known_tokens(tmp_path: Path) -> None:
    whole = write_benchmarks(tmp_path / "a", "whole", dict.fromkeys(EIGHT, 0.5))
    part = write_benchmarks(tmp_path / "b", "part", dict.fromkeys(EIGHT[1:], 0.5))
    found = compare([whole, part])
    from eval.published_table import measured_scores

    points = figure_1_points(found, measured_scores(found), [1e12, 1e12])
    assert points == [("whole", 6 * 2_424_267_648 * 1e12, pytest.approx(50.0))]
    assert figure_1_points(found, measured_scores(found), []) == []
    theirs = {name: (flops, mean) for name, flops, mean in published_points()}
    assert theirs.keys() == {
        "MiniCPM-2.71B",
        "Qwen2-1.54B",
        "Qwen2.5-0.49B",
        "Qwen2.5-1.54B",
        "Gemma2-2.61B",
        "YuLan-Mini-4K",
        "YuLan-Mini-28K",
    }  # the others lack one of the eight
    flops, mean = theirs["YuLan-Mini-28K"]
    assert flops == pytest.approx(6 * 2.42e9 * 1.08e12)
    assert mean == pytest.approx((37.80 + 68.46 + 64.00 + 65.90 + 49.10 + 48.23 + 67.22 + 49.32) / 8)
    drawing = draw_figure_1(points)
    assert ">whole<" in drawing
    assert drawing == draw_figure_1(points)


def test_needles_and_phases_are_drawn_where_they_were_measured(tmp_path: Path) -> None:
    rows = [
        own_row("needle-grid-4k", "recall", f"all / {length} / {depth} %", depth / 100)
        for length in (1024, 4096)
        for depth in (0, 12.5, 100)
    ]
    rows += [own_row("needle-grid-4k", "recall", "all", 0.5), own_row("needle-grid-4k", "recall", "all / 1024", 0.5)]
    plain = write_scores(tmp_path / "a", "m", rows, benchmarks={"needle-grid-4k": benchmark(None)})
    found = compare([plain, write_benchmarks(tmp_path / "b", "phase-05", {"lambada": 0.3})])
    (grid,) = needle_grids(found.runs[0]).values()
    assert grid == {(length, depth): depth / 100 for length in (1024, 4096) for depth in (0, 12.5, 100)}
    drawn = figures(found)
    assert list(drawn) == ["Scores over the phases", "Needles found: m, needle-grid-4k"]
    assert (
        ">12%<" in drawn["Needles found: m, needle-grid-4k"] or ">12.5%<" in drawn["Needles found: m, needle-grid-4k"]
    )
    assert [phase_of(name) for name in ("phase-05", "YuLan-Mini-Phase20", "phase_26-4k", "model")] == [5, 20, 26, None]


def test_a_scored_benchmark_stands_in_its_column(roomy_model: Path, tmp_path: Path) -> None:
    """What `eval run` writes, not what the tests above make up."""
    for limit in (2, 3):
        run_suite(roomy_model, data=FIXTURES, suite="arc-easy", settings={"limit": limit}, out=tmp_path / str(limit))
    found = compare([tmp_path / "2", tmp_path / "3"])
    (sheet,) = published_sheets(found)
    assert sheet.headings == ["model", "ARC-e"]
    assert [row[0] for row in sheet.rows[-3:]] == ["YuLan-Mini-28K", "2", "3"]
    assert sheet.rows[-1][1].endswith("†")
    assert any("only the first 3 documents" in note for note in sheet.notes)
    assert found.comparable == []
    assert found.apart[0]["differences"]["count"] == [2, 3]
    assert {"documents", "prompts"} <= found.apart[0]["differences"].keys()
    assert compare([tmp_path / "2", tmp_path / "2"]).apart == []


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["yulanmini", "eval", "compare", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


def test_the_command_writes_page_table_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_benchmarks(tmp_path / "a", "phase-26", dict.fromkeys(EIGHT, 0.5))
    options = (run, "--published", "--tokens", "1e12")
    assert call(monkeypatch, *options, "--out", tmp_path / "x.html", "--dry-run") == 0
    assert not (tmp_path / "x.html").exists()
    assert call(monkeypatch, *options, "--out", tmp_path / "x.html", "--plots", tmp_path / "plots") == 0
    assert call(monkeypatch, *options, "--out", tmp_path / "x.md") == 0
    assert len(list((tmp_path / "plots").glob("*.svg"))) == 2
    html = (tmp_path / "x.html").read_text()
    assert html.count("<svg") == 2
    assert "http" not in html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert "| YuLan-Mini-28K |" in (tmp_path / "x.md").read_text()
    capsys.readouterr()
    assert call(monkeypatch, *options, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["published"][0]["title"] == "Base models, beside Tables 6 and 7"
    bad = write_benchmarks(tmp_path / "bad", "m", {"mmlu": 0.5})
    scores = json.loads((bad / "scores.json").read_text())
    del scores["rows"][0]["count"]
    (bad / "scores.json").write_text(json.dumps(scores))
    (tmp_path / "worse").mkdir()
    (tmp_path / "worse" / "scores.json").write_text(json.dumps(scores | {"rows": [], "provenance": {}}))
    for wrong, message in (
        ((run, "--out", tmp_path / "x.pdf"), "expected .html, .md"),
        ((tmp_path,), "no such file"),
        ((bad,), "row 0 has no 'count'"),
        ((tmp_path / "worse",), "no 'provenance.model'"),
        ((run, run, "--published", "--tokens", "1e12", "--out", tmp_path / "y.html"), "given for 1 of 2 runs"),
    ):
        assert call(monkeypatch, *wrong) == 2
        assert message in capsys.readouterr().err
