"""The report: figures that follow from a run's files, a page that stands by itself, runs that are not finished."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from synthetic_run import DOMAINS, FOLDERS, PARAMETERS, write_run

from yulanmini.errors import RunError
from yulanmini.report import collect, render, write_report
from yulanmini.report.scores import gains, samples, score_tables
from yulanmini.report.units import change, significant

VOID = {"meta", "link", "br", "hr", "img", "input"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "tiny")


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return render(collect(run))


class Outline(HTMLParser):
    """Checks that elements nest, and keeps what the tests ask about."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.identities: list[str] = []
        self.references: list[str] = []
        self.elements: list[str] = []
        self.visible = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.elements.append(tag)
        if values.get("id"):
            self.identities.append(str(values["id"]))
        self.references += [str(values[name]) for name in ("href", "src") if values.get(name)]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.visible += data


def test_headline_figures_follow_from_the_files(run: Path) -> None:
    report = collect(run)
    head = report["headline"]
    assert head["parameters"] == PARAMETERS
    assert head["steps"] == 27 * 35
    assert head["tokens"] == 27 * 35 * 3584
    assert head["phases"] == 27
    assert head["seconds"] == pytest.approx(339.1)
    assert head["finished"]
    final = [json.loads(line) for line in (run / "04-pretrain" / "heldout.jsonl").read_text().splitlines()][-6:]
    assert head["bits_per_byte"]["last"] == pytest.approx(sum(r["bits_per_byte"] for r in final) / 6, rel=1e-5)
    assert head["bits_per_byte"]["first"] > head["bits_per_byte"]["before_annealing"] > head["bits_per_byte"]["last"]


def test_problems_are_pooled_by_level_with_their_chance(run: Path) -> None:
    heldout, problems = score_tables(collect(run)["scores"])
    assert [row["name"] for row in heldout["rows"]] == list(DOMAINS)
    levels = problems["rows"]
    assert [level["name"] for level in levels] == ["level 1", "level 2"]
    assert [row["name"] for row in problems["parts"]] == [
        "comparison",
        "addition",
        "counting",
        "even or odd",
        "addition",
        "calendar",
    ]
    assert problems["none_right"] == ["sorting (level 2)"]
    assert problems["below_chance"] == ["even or odd"]
    assert problems["columns"] == ["en", "zh"]
    assert levels[0]["count"] == 200
    assert levels[0]["chance"] == pytest.approx((0.05 + 0.5 + 0.1 + 0.5) / 4)
    right = sum(round(50 * share) for share in (0.93, 0.97, 0.81, 0.2))
    assert problems["models"] == ["Base", "SFT", "DPO", "On-policy"]
    assert levels[0]["values"][1:] == [pytest.approx(right / 200)] * 3
    assert levels[0]["values"][0] < levels[0]["chance"]
    assert levels[0]["intervals"][-1][0] < right / 200 < levels[0]["intervals"][-1][1]


def test_there_is_one_held_out_figure_a_domain_and_one_loss_of_the_end(run: Path, page: str) -> None:
    report = collect(run)
    assert [table["task"] for table in score_tables(report["scores"], report["heldout"])] == ["problems"]
    for row in gains(report["heldout"], report["scores"]):
        level = DOMAINS[row["domain"]][1]
        assert list(row["tuned"]) == ["SFT", "DPO", "On-policy"]
        value, cost = row["tuned"]["DPO"]
        assert value == pytest.approx(level * 0.9)
        assert cost == change(level * 0.9 / row["last"] - 1)
    losses = [
        line["loss"] for line in map(json.loads, (run / "04-pretrain" / "metrics.jsonl").read_text().splitlines())
    ]
    final = sum(losses[-8:]) / 8
    assert report["pretraining"]["loss_end"] == pytest.approx(final, rel=1e-6)
    assert report["pretraining"]["phases"][-1]["loss_end"] == report["pretraining"]["loss_end"]
    loss = re.search(r'<figure id="figure-loss">.*?</figure>', page, flags=re.S)
    assert loss is not None
    labels = re.findall(r'class="label"[^>]*>([^<]*)<', loss[0])
    assert set(labels) == {significant(final)}
    assert "the mean of the last 8 steps" in loss[0]


def test_scores_on_other_text_do_not_stand_beside_those_of_pretraining(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", phases=2, steps_per_phase=4)
    path = run / "09-scores" / "base" / "scores.json"
    content = json.loads(path.read_text())
    content["rows"][2]["bytes"] += 1
    path.write_text(json.dumps(content))
    report = collect(run)
    assert all(row["tuned"] == {} for row in gains(report["heldout"], report["scores"]))
    assert [table["task"] for table in score_tables(report["scores"], report["heldout"])] == ["heldout", "problems"]


def test_captions_tell_of_what_was_run(tmp_path: Path, page: str) -> None:
    short = render(collect(write_run(tmp_path / "run", phases=2, steps_per_phase=6)))
    assert "this run ends before annealing" in short
    assert "Shaded: annealing" not in short
    assert "annealing from" not in short
    assert "By annealing" not in short
    assert "By annealing" in page
    assert "Shaded: annealing" in page


def test_samples_are_of_what_was_learnt_and_of_what_was_not(run: Path) -> None:
    shown = samples(collect(run)["scores"])
    assert [pair["group"] for pair in shown["right"]] == ["level 1 / addition", "level 1 / counting"]
    assert [pair["group"] for pair in shown["wrong"]] == ["level 2 / sorting"]
    assert shown["right"][0]["score"]["correct"] == round(50 * 0.93)
    assert all(pair["answers"]["On-policy"]["correct"] for pair in shown["right"])


def test_files_that_were_not_read_are_named(tmp_path: Path, page: str) -> None:
    run = write_run(tmp_path / "run", phases=1, steps_per_phase=4)
    path = run / "01-corpus" / "manifest.json"
    skipped = [{"file": "<photo>.jpg", "reason": "binary"}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"skipped": skipped}))
    shown = render(collect(run))
    assert "&lt;photo&gt;.jpg" in shown
    assert "Files that were not read" in shown
    assert "Files that were not read" not in page


def test_what_cleaning_dropped_is_shown_by_domain_and_its_absence_is_no_fault(
    run: Path, tmp_path: Path, page: str
) -> None:
    shown = Outline(page).visible
    assert "700 of 1,000 documents" in " ".join(shown.split())
    for cell in ("near-duplicates", "20.0%", "40.0%"):
        assert cell in shown
    shutil.copytree(run, tmp_path / "run")
    summary = tmp_path / "run" / FOLDERS[0] / "cleaning" / "summary.json"
    for content in (summary.read_text()[:-20], '{"documents": 5}'):
        summary.write_text(content)
        assert "What cleaning kept" not in render(collect(tmp_path / "run"))


def test_schedule_is_read_off_the_learning_rates(run: Path) -> None:
    schedule = collect(run)["pretraining"]["schedule"]
    assert (schedule["warmup_end"], schedule["annealing_start"]) == (30, 25 * 35)
    assert schedule["peak_lr"] == pytest.approx(0.004)


def test_paths_of_the_run_are_written_from_its_folder(run: Path, page: str) -> None:
    assert collect(run)["pretraining"]["config"]["data"]["dir"] == "03-data"
    assert str(run) not in page


def test_phases_cover_all_steps_and_the_26_4k_branch_is_only_in_the_mixture(run: Path) -> None:
    report = collect(run)
    phases = report["pretraining"]["phases"]
    assert [phase["phase"] for phase in phases] == [str(number) for number in range(1, 28)]
    assert [phase["first_step"] for phase in phases[1:]] == [phase["last_step"] + 1 for phase in phases[:-1]]
    mixes = report["mixture"]
    assert [mix["phase"] for mix in mixes][-4:] == ["25", "26-4k", "26", "27"]
    for mix in mixes:
        assert sum(mix["domains"].values()) == pytest.approx(1)
        assert sum(subset["share"] for subset in mix["subsets"]) == pytest.approx(1)


def test_mixture_is_compared_with_the_published_shares(run: Path) -> None:
    mixes = {mix["phase"]: mix for mix in collect(run)["mixture"]}
    # Table of the published mixes: phase 1 is 49.7 % English web text, phase 27 is 23.5 % instruction and synthetic.
    assert mixes["1"]["published"]["web-en"] == pytest.approx(0.497, abs=5e-4)
    assert mixes["27"]["published"]["instruction-synthetic"] == pytest.approx(0.235, abs=5e-4)
    assert mixes["26-4k"]["published"] != mixes["26"]["published"]
    largest = max(
        abs(mix["domains"][domain] - share) for mix in mixes.values() for domain, share in mix["published"].items()
    )
    assert f"within {100 * largest:.1f} points of the published mixes" in render(collect(run))


def test_write_report_writes_both_files_with_the_same_figures(run: Path) -> None:
    page, figures = write_report(run)
    assert json.loads(figures.read_text()) == json.loads(json.dumps(collect(run)))
    assert page.stat().st_size < 1_500_000
    assert not list(run.glob(".report*"))
    # A browser can open each card that the page links to, and come back.
    for repo in collect(run)["hub"]["repos"]:
        assert f'href="{repo["page"]}"' in page.read_text()
        card = (run / repo["page"]).read_text()
        base = re.search(r'<base href="([^"]+)">', card)[1]
        place = (run / "cards" / base).resolve()
        assert place == (run / repo["folder"]).resolve()
        assert (place / re.search(r'href="([^"]+report\.html)"', card)[1]).resolve() == page.resolve()
        assert "<h1>A card</h1>" in card
    # A second writing replaces the first, and the report does not report on itself.
    before = figures.read_text()
    write_report(run)
    assert figures.read_text() == before


def test_page_nests_and_needs_nothing_from_outside(page: str) -> None:
    outline = Outline(page)
    assert outline.problems == []
    assert outline.open == []
    assert not {"link", "img", "iframe", "object"} & set(outline.elements)
    assert not re.search(r"url\(|@import|https?://|fetch\(|XMLHttpRequest", page)
    local = {reference for reference in outline.references if not reference.startswith("#")}
    assert local == {"report.json", *(f"cards/{name}.html" for name in ("yulanmini-tiny", "yulanmini-tiny-instruct"))}


def test_identities_are_unique_and_every_link_has_its_target(page: str) -> None:
    outline = Outline(page)
    assert len(outline.identities) == len(set(outline.identities))
    targets = {reference[1:] for reference in outline.references if reference.startswith("#")}
    assert targets <= set(outline.identities)


def test_every_chart_is_xml_with_a_title_a_description_and_a_table(page: str) -> None:
    charts = re.findall(r"<svg .*?</svg>", page, flags=re.S)
    assert len(charts) == 2 * 13
    for chart in charts:
        root = ElementTree.fromstring(chart)
        title, description = root.find("title"), root.find("desc")
        assert title is not None
        assert title.text
        assert description is not None
        assert description.text
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    for figure in re.findall(r"<figure.*?</figure>", page, flags=re.S):
        assert len(re.findall(r"<tr>", figure)) > 2


def test_charts_stay_inside_their_view_box(page: str) -> None:
    for chart in re.findall(r"<svg .*?</svg>", page, flags=re.S):
        root = ElementTree.fromstring(chart)
        width, height = (float(value) for value in str(root.get("viewBox")).split()[2:])
        for line in root.iter("path"):
            numbers = [float(value) for value in re.findall(r"-?[\d.]+", str(line.get("d")))]
            assert all(-0.5 <= value <= width + 0.5 for value in numbers[::2])
            assert all(-0.5 <= value <= height + 0.5 for value in numbers[1::2])


def test_stacked_bars_fill_their_height(page: str) -> None:
    chart = re.search(r'<svg [^>]*aria-labelledby="mixture-wide.*?</svg>', page, flags=re.S)
    assert chart is not None
    stacks = list(ElementTree.fromstring(chart[0]).iter("g"))
    assert len(stacks) == 28
    for stack in stacks:
        boxes = list(stack.iter("rect"))
        top = min(float(str(box.get("y"))) for box in boxes)
        bottom = max(float(str(box.get("y"))) + float(str(box.get("height"))) for box in boxes)
        assert bottom - top == pytest.approx(260, abs=2)


def test_text_of_models_and_of_files_is_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", phases=2, steps_per_phase=4)
    evil = "<script>alert(1)</script>&\"'</title></style>"
    scores = run / "09-scores" / "on-policy" / "scores.json"
    content = json.loads(scores.read_text())
    content["samples"][0] |= {"prompt": evil, "output": evil}
    scores.write_text(json.dumps(content))
    mix = run / "03-data" / "phase-01" / "manifest.json"
    content = json.loads(mix.read_text())
    content["subsets"][0]["name"] = evil
    mix.write_text(json.dumps(content))
    page = render(collect(run))
    assert "alert(1)" in page
    assert "<script>alert" not in page
    outline = Outline(page)
    assert outline.problems == []
    assert evil in outline.visible


@pytest.mark.parametrize("missing", FOLDERS)
def test_a_stage_that_was_not_run_is_said_so(run: Path, tmp_path: Path, missing: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / missing)
    stage = dict(zip(FOLDERS, collect(run)["stages"], strict=True))[missing]["stage"]
    timings = [line for line in (copy / "timings.jsonl").read_text().splitlines() if f'"{stage}"' not in line]
    (copy / "timings.jsonl").write_text("\n".join(timings) + "\n")
    report = collect(copy)
    assert [entry["status"] for entry in report["stages"] if entry["stage"] == stage] == ["not run"]
    assert not report["headline"]["finished"]
    page = render(report)
    assert Outline(page).problems == []
    assert "not run" in page


def test_an_empty_run_gives_a_page(tmp_path: Path) -> None:
    page, figures = write_report(tmp_path)
    assert {stage["status"] for stage in json.loads(figures.read_text())["stages"]} == {"not run"}
    assert Outline(page.read_text()).problems == []


def test_a_killed_pretraining_shows_what_there_is(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", phases=3, steps_per_phase=10)
    for folder in FOLDERS[4:]:
        shutil.rmtree(run / folder)
    (run / "04-pretrain" / "manifest.json").unlink()
    metrics = run / "04-pretrain" / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    # Killed in the middle of a line; before that, a resume that took steps 16 to 18 again.
    metrics.write_text("\n".join([*lines[:18], *lines[15:18], '{"step": 19, "lo']))
    report = collect(run)
    assert report["pretraining"]["steps"] == 18
    assert report["pretraining"]["curves"]["step"] == list(range(1, 19))
    assert report["notes"] == []
    assert [entry["status"] for entry in report["stages"]][3:5] == ["interrupted", "interrupted"]
    outline = Outline(render(report))
    assert outline.problems == []
    assert "has come to phase 2" in outline.visible


def test_losses_that_are_not_finite_leave_a_gap(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", phases=1, steps_per_phase=12)
    metrics = run / "04-pretrain" / "metrics.jsonl"
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    records[5]["loss"] = float("nan")
    records[6] |= {"loss": float("inf"), "grad_norm": None}
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    page, figures = write_report(run)
    curves = json.loads(figures.read_text(), parse_constant=pytest.fail)["pretraining"]["curves"]
    assert curves["loss"][5:7] == [None, None]
    assert curves["grad_norm"][6] is None
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", page.read_text())


def test_a_damaged_file_is_named_and_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", phases=1, steps_per_phase=5)
    (run / "05-merged" / "merge_certificate.json").write_text('{"comparison": {')
    (run / "04-pretrain" / "config.yaml").write_text("model: [unclosed")
    report = collect(run)
    assert report["merge"] is None
    assert any("merge_certificate.json" in note for note in report["notes"])
    assert any("config.yaml" in note for note in report["notes"])
    assert "merge_certificate.json" in Outline(render(report)).visible


def test_long_runs_are_thinned_and_keep_their_spikes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", phases=3, steps_per_phase=2500)
    metrics = run / "04-pretrain" / "metrics.jsonl"
    records: list[dict[str, Any]] = [json.loads(line) for line in metrics.read_text().splitlines()]
    records[4321]["grad_norm"] = 777.0
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    curves = collect(run)["pretraining"]["curves"]
    assert len(curves["step"]) <= 2000
    assert curves["step"][-1] == 7500
    assert 777.0 in curves["grad_norm"]


def test_time_is_summed_over_attempts_and_memory_is_their_largest(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", phases=1, steps_per_phase=5)
    with (run / "timings.jsonl").open("a") as file:
        line = {"stage": "pretrain", "started": 9.0, "seconds": 10.0, "peak_rss_bytes": 9 * 2**30, "finished": False}
        file.write(json.dumps(line) + "\n")
    stage = collect(run)["stages"][3]
    assert stage["seconds"] == pytest.approx(241.4)
    assert stage["peak_rss_bytes"] == 9 * 2**30
    assert stage["attempts"] == 2


def test_a_run_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a folder"):
        collect(tmp_path / "absent")
