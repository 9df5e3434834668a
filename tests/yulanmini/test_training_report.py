"""The page of a bare training run is drawn from the log alone: also from one cut short, with gaps, or of any length."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from data_recipes.errors import DataError
from yulanmini.cli import run as run_command
from yulanmini.errors import RunError
from yulanmini.report import collect_training, write_training_report
from yulanmini.report.training_curves import MONITOR_POINTS, MOST_POINTS


def write_log(folder: Path, steps: int, **more: Any) -> Path:
    """A log with every kind of figure; a spike at step 7, measured at every second step."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for step in range(1, steps + 1):
        record: dict[str, Any] = {
            "step": step,
            "phase": str(1 + step * 3 // (steps + 1)),
            "loss": None if step == 7 else 8 - step / steps,
            "z_loss": 0.01,
            "lr": 0.01,
            "grad_norm": None if step == 7 else 1.5,
            "tokens": 100,
            "seconds": 0.5,
        }
        if step % 2 == 0:
            record |= {
                "hidden_state_variance": [0.1 * step, 0.2 * step, None],
                "norm_output_variance": [1.0, 1.1, 0.9],
                "attention_logit_max": [2.0, 3.0, 4.0],
                "grad_rms": {"matrices": 1e-3, "scales": 1e-2},
                "alphas": {"q_proj_alpha": [0.5, 0.6, 0.7]},
                "loss_by_domain": {"code": 3.0} if step % 4 else {"math": 2.0, "code": 3.1},
                "tokens_per_second": 200.0,
                "variance_growth": 1.5,
            }
        lines.append(json.dumps(record | more) + "\n")
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


def charts(page: str) -> int:
    return page.count('class="chart wide"')


def test_the_page_holds_a_chart_for_each_monitor_and_fetches_nothing(tmp_path: Path) -> None:
    page = write_training_report(write_log(tmp_path / "run", 60)).read_text()
    assert charts(page) == 11
    for title in (
        "Hidden-state variance by layer",
        "Largest attention logit",
        "Gradient norm",
        "Training loss by domain",
    ):
        assert title in page
    assert re.findall(r"""(?:href|src|url)\s*[=(]\s*["']?(?!#)[^"'>)]+""", page) == []


def test_a_panel_without_its_monitor_is_left_out(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    record = {"phase": "1", "loss": 5.0, "lr": 0.1, "grad_norm": 1.0, "tokens": 10, "seconds": 1.0}
    (run / "metrics.jsonl").write_text("".join(json.dumps({"step": step} | record) + "\n" for step in (1, 2, 3)))
    assert charts(write_training_report(run).read_text()) == 4  # loss, rate, gradient norm, speed


def test_the_page_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    run = write_log(tmp_path / "run", 20)
    first = write_training_report(run, tmp_path / "a.html").read_bytes()
    assert first == write_training_report(run, tmp_path / "b.html").read_bytes()


def test_a_long_run_is_thinned_and_keeps_its_last_step(tmp_path: Path) -> None:
    run = write_log(tmp_path / "run", 3 * MOST_POINTS)
    assert write_training_report(run).stat().st_size < 3_000_000
    figures = collect_training(run)["pretraining"]
    for steps, most in (
        (figures["curves"]["step"], MOST_POINTS),
        (figures["monitors"]["alphas"]["step"], MONITOR_POINTS),
    ):
        assert most * 0.8 <= len(steps) <= most
        assert steps[-1] == 3 * MOST_POINTS


def test_the_figures_count_the_steps_that_were_not_finite(tmp_path: Path) -> None:
    figures = collect_training(write_log(tmp_path / "run", 40))["pretraining"]
    assert figures["spikes"] == 1
    assert figures["steps"] == 40
    assert figures["tokens_per_second"] == 200
    assert [phase["phase"] for phase in figures["phases"]] == ["1", "2", "3"]
    assert figures["largest_variance_growth"] == 1.5


def test_a_monitor_has_a_line_for_each_layer_or_name(tmp_path: Path) -> None:
    monitors = collect_training(write_log(tmp_path / "run", 8))["pretraining"]["monitors"]
    assert monitors["hidden_state_variance"] == {
        "step": [2, 4, 6, 8],
        "lines": {
            "layer 0": pytest.approx([0.2, 0.4, 0.6, 0.8]),
            "layer 1": pytest.approx([0.4, 0.8, 1.2, 1.6]),
            "layer 2": [None] * 4,
        },
    }
    assert monitors["loss_by_domain"]["lines"] == {"code": [3.0, 3.1, 3.0, 3.1], "math": [None, 2.0, None, 2.0]}
    assert monitors["alphas"]["lines"] == {"q_proj_alpha": [[0.5, 0.6, 0.7]] * 4}
    assert list(monitors["z_loss"]["lines"]) == [""]


def test_repeated_steps_count_once_and_half_a_last_line_is_ignored(tmp_path: Path) -> None:
    path = write_log(tmp_path / "run", 10) / "metrics.jsonl"
    again = json.loads(path.read_text().splitlines()[-1]) | {"loss": 1.25}
    path.write_text(path.read_text() + json.dumps(again) + '\n{"step": 11, "lo')
    curves = collect_training(tmp_path / "run")["pretraining"]["curves"]
    assert curves["step"] == list(range(1, 11))
    assert curves["loss"][-1] == 1.25


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "no steps yet"),
        ("loss: 3\n", "line 1 is not valid JSON"),
        ("[1]\n", "no steps yet"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(RunError, match=message):
        write_training_report(tmp_path)


def test_the_command_prints_figures_and_names_an_unknown_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_log(tmp_path / "run", 12)
    with pytest.raises(SystemExit) as done:
        run_command(["train", "report", str(run), "--json"])
    assert not done.value.code
    assert json.loads(capsys.readouterr().out)["pretraining"]["steps"] == 12
    assert (run / "report.html").is_file()
    with pytest.raises(DataError, match=r"expected \.html"):
        run_command(["train", "report", str(run), "--out", str(tmp_path / "figure.bmp")])


def test_where_a_report_cannot_be_written_is_said_before_it_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "folder.html", tmp_path / "file" / "x.html"):
        with pytest.raises(DataError, match="is a f"):
            run_command(["train", "report", str(tmp_path / "no-run"), "--out", str(out)])
