"""The studies of annealing and averaging: rows, tails that go on from checkpoints, comparisons, means, pages."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pretrain_miniature import REPOSITORY, SHAPE, write_text
from safetensors.torch import load_file
from sft_miniature import write_tokenizer

from data_recipes.manifest import MANIFEST_NAME, read_manifest, write_manifest
from data_recipes.recipes.recipe import DOMAINS
from data_recipes.rows.reader import PackedRows
from train.errors import TrainError
from train.studies.annealing import BASE, HELD, Cell, Study
from train.studies.annealing_results import annealing_result, figures_of, values_of
from train.studies.annealing_rows import RICHER, USUAL, Budget, shares_of, write_passages
from train.studies.averaging import Averages, average_all, averaging_result
from train.studies.intervals import rounded
from train.studies.pages import page_of
from train.studies.trials import run_job


@dataclass(frozen=True)
class Norms:
    """Scores that a test can follow: the size of the embedding, and a problem for each seed that was right."""

    corpus: str = "made up"
    bytes_per_domain: int = 100
    context: int = 32

    @property
    def settings(self) -> dict[str, Any]:
        return vars(self)

    def __call__(self, model: Path) -> dict[str, Any]:
        first = float(embedding(model)[0, 0])
        return {"heldout": {"code": first, "math": 2 * first}, "solved": 1, "problems": 4, "chance": 0.25}


def embedding(model: Path) -> torch.Tensor:
    return load_file(model / "model.safetensors")["model.embed_tokens.weight"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A budget of 25 steps of two rows, whose held run and one tail are trained."""
    place = tmp_path_factory.mktemp("annealing")
    for seed, domain in enumerate(DOMAINS):
        write_text(place / "corpus" / "train" / f"{domain}.jsonl", seed=seed, documents=300)
    write_manifest(place / "corpus", kind="corpus", inputs={}, config={}, counts={})
    tokenizer = write_tokenizer(place / "tokenizer")
    config = yaml.safe_load(BASE.read_text()) | {"tokens_per_step": 256, "model": SHAPE}
    config["schedule"]["warmup_steps"] = 2
    base = place / "base.yaml"
    base.write_text(yaml.safe_dump(config))
    made = Study(place / "corpus", tokenizer, place / "out", Norms(), 25, 1, base=base, kept=3)
    made.begin_seed(0)
    return made


@pytest.fixture(scope="module")
def held(study: Study) -> Path:
    """The run at a constant rate to the end of the budget."""
    job = study.job(0, study.cells[HELD])
    run_job(job)
    return job.folder


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


def test_every_way_to_end_a_budget_has_its_steps_and_its_rows(study: Study) -> None:
    for tail, steps in ((4, 1), (8, 2), (16, 4)):
        rows = [len(PackedRows(study.rows(0) / name)) for name in study.budget.usual_phases(tail)]
        assert sum(rows) == 2 * steps
        assert len(PackedRows(study.rows(0) / f"richer-{tail}")) == 2 * steps
    assert sum(len(PackedRows(study.rows(0) / name)) for name in study.budget.usual_phases()) == 50
    assert sum(len(PackedRows(study.rows(0) / name)) for name in ("spread-start", "spread-8")) == 50
    # A richer tail goes on where the rows before it stopped; what is spread begins anew.
    for tail, before in ((16, "start"), (8, "last-16"), (4, "last-8")):
        richer, usual = (read_manifest(study.rows(0) / name) for name in (f"richer-{tail}", before))
        assert richer["config"]["ledger_in"] == usual["ledger_out"]
    assert not read_manifest(study.rows(0) / "spread-start")["config"]["ledger_in"]


def test_passages_are_all_of_the_text_in_another_order_for_each_seed(study: Study, tmp_path: Path) -> None:
    def passages(folder: Path) -> list[str]:
        return [json.loads(line)["text"] for line in (folder / "train" / "math.jsonl").read_text().splitlines()]

    corpus = tmp_path / "corpus"
    shutil.copytree(study.corpus, corpus)
    long = "".join(f"Satz {number} 一二三 " for number in range(400))
    with (corpus / "train" / "math.jsonl").open("a") as file:
        file.write(json.dumps({"text": long}) + "\n")
    write_manifest(corpus, kind="corpus", inputs={}, config={}, counts={})
    texts = passages(corpus)
    for seed in (0, 1):
        write_passages(corpus, tmp_path / str(seed), seed=seed)
    first, second = passages(tmp_path / "0"), passages(tmp_path / "1")
    assert first != second
    assert sorted(first) == sorted(second)
    assert sum(map(len, first)) == sum(map(len, texts))
    assert max(map(len, first)) <= 600
    assert set(texts[:-1]) < set(first)  # what is short stays whole
    assert all(passage.strip() in long for passage in first if "Satz" in passage)

    changed = (tmp_path / "0" / "manifest.json").stat().st_mtime_ns
    write_passages(corpus, tmp_path / "0", seed=0)
    assert (tmp_path / "0" / "manifest.json").stat().st_mtime_ns == changed
    with (corpus / "train" / "math.jsonl").open("a") as file:
        file.write(json.dumps({"text": "new"}) + "\n")
    write_manifest(corpus, kind="corpus", inputs={}, config={}, counts={})
    write_passages(corpus, tmp_path / "0", seed=0)
    assert "new" in passages(tmp_path / "0")


def test_spread_rows_are_in_all_those_of_a_run_with_the_richer_tail(study: Study) -> None:
    budget = Budget(10_000, 1_024, (4, 8, 16), 8)
    (kept, spread) = budget.recipes(study.corpus)

    def tokens(*names: str) -> dict[str, int]:
        some = [recipe for recipe in (*kept, *spread) if recipe.name in names]
        return {d: sum(s.tokens for r in some for s in r.subsets if s.domain == d) for d in DOMAINS}

    in_the_tail = tokens("start", "last-16", "richer-8")
    assert sum(in_the_tail.values()) == sum(tokens("spread-start", "spread-8").values()) == 10_000 * 1_024
    for domain, count in tokens("spread-start", "spread-8").items():
        assert count == pytest.approx(in_the_tail[domain], abs=10)
    assert shares_of(RICHER)["instruction-synthetic"] > 2 * shares_of(USUAL)["instruction-synthetic"]


def test_a_budget_too_small_for_its_tails_is_refused() -> None:
    with pytest.raises(TrainError, match=r"--steps 10: too few for tails of 4, 8, 16 %"):
        Budget(10, 256, (4, 8, 16), 8)


def test_a_tail_at_the_held_rate_is_what_the_held_run_goes_on_to(study: Study, held: Path) -> None:
    again = run_job(study.job(0, Cell(None, 8)))
    assert [record["loss"] for record in again.records] == losses(held)[-2:]
    annealed = run_job(study.job(0, Cell("linear", 8)))
    assert [record["lr"] for record in annealed.records] == [pytest.approx(1e-2), pytest.approx(5e-3)]
    assert annealed.losses[0] == losses(held)[-2]
    assert (annealed.found["heldout"]["code"]) != again.found["heldout"]["code"]


def test_a_lower_rate_has_a_held_run_of_its_own_which_its_tails_go_on_from(study: Study) -> None:
    cells = [cell for cell in study.cells.values() if cell.rate]
    assert {(cell.shape, cell.tail) for cell in cells} == {(None, None), *product(study.shapes, study.tails)}
    whole, tail = study.job(0, Cell(None, rate=2.5e-3)), study.job(0, Cell("linear", 8, rate=2.5e-3))
    assert tail.settings["init"]["path"] == str(whole.folder / "run/checkpoints/step-00000023")
    run_job(whole)
    trained = run_job(tail)
    assert [record["lr"] for record in trained.records] == [pytest.approx(2.5e-3), pytest.approx(1.25e-3)]
    assert trained.losses[0] == losses(whole.folder)[-2]
    assert not (whole.folder / "run" / "models").exists()


def test_a_tail_is_trained_anew_when_the_run_that_it_begins_with_is_another(study: Study) -> None:
    text = study.base.read_text()
    before = study.job(0, Cell("linear", 8)).identity
    other = study.base.with_name("other.yaml")
    other.write_text(text.replace("warmup_steps: 2", "warmup_steps: 3"))
    assert replace(study, base=other).job(0, Cell("linear", 8)).identity != before
    # By what the held run was trained with alone, as the tail's own settings are the same.
    assert yaml.safe_load(replace(study, base=other).job(0, Cell("linear", 8)).identity) == yaml.safe_load(before)
    assert replace(study, score=Norms("other text")).job(0, Cell("linear", 8)).identity != before


def made_up(study: Study) -> dict[str, dict[str, Any]]:
    """Trials of three seeds that differ by 1 nat: annealing takes 0.3 off, the richer tail 0.2 of instructions where
    the rate is held and 0.5 where it falls; linear is worse than 1-sqrt by 0.01, cosine by no more than noise. At the
    lower rate annealing takes 0.1 off, and linear is better."""
    found = {}
    for seed in range(3):
        noise = 0.001 * (seed - 1)
        for name, cell in study.cells.items():
            sign = -1 if cell.rate else 1
            fall = (0.1 if cell.rate else 0.3) if cell.shape else 0.0
            shapes = {"linear": sign * 0.01 + noise / 10, "cosine": 2 * noise}
            loss = 4 + seed - fall + shapes.get(cell.shape or "", 0.0)
            instructions = loss - {"usual": 0.0, "richer": 0.5 if cell.shape else 0.2, "spread": 0.1}[cell.mixture]
            heldout = dict.fromkeys(DOMAINS, loss) | {"instruction-synthetic": instructions}
            found[f"seed-{seed}/{name}"] = {"heldout": heldout, "solved": seed, "problems": 10, "chance": 0.3}
    return found


def test_cells_are_compared_within_seeds(study: Study) -> None:
    study = replace(study, seeds=3)
    result = annealing_result(study, made_up(study))
    linear, cosine = (result["rates"]["0.01"]["shapes"]["8"][shape]["loss"] for shape in ("linear", "cosine"))
    assert linear["value"] == pytest.approx(0.01)
    assert linear["low"] > 0
    assert cosine["low"] < 0 < cosine["high"]
    assert result["rates"]["0.01"]["gains"]["16"]["1-sqrt"]["code"] == pytest.approx(
        {"value": -0.3, "low": -0.3, "high": -0.3, "count": 3}
    )
    target = {kind: found["instruction-synthetic"]["value"] for kind, found in result["richer"]["8"].items()}
    assert target == pytest.approx({"annealed": -0.5, "held": -0.2, "annealed_over_held": -0.3})
    assert result["in_the_tail_over_spread"]["instruction-synthetic"]["value"] == pytest.approx(-0.4)
    assert result["cells"][HELD]["mean"]["solved"]["value"] == pytest.approx(0.1)
    # Two steps, at the full rate and at 1 - sqrt(1/2) of it.
    assert result["settings"]["last_rate"] == pytest.approx(1 - 0.5**0.5, abs=1e-6)
    assert set(result["rates"]["0.01"]["longer"]) == {"8 after 4", "16 after 8"}
    # At the lower rate annealing brings a third, and linear is the better shape.
    lower = result["rates"]["0.0025"]
    assert lower["gains"]["8"]["1-sqrt"]["loss"]["value"] == pytest.approx(-0.1)
    page = page_of("annealing", result, figure="annealing.svg")
    for line in (
        "At 0.01, 1-sqrt against linear: better at 3, worse at 0 and not told apart at 0 of the 3 lengths",
        "At 0.01, 1-sqrt against cosine: better at 0, worse at 0 and not told apart at 3 of the 3 lengths",
        "At 0.0025, 1-sqrt against linear: better at 0, worse at 3 and not told apart at 0 of the 3 lengths",
        "1-sqrt beats linear and cosine in 3 of 12 comparisons and loses 3",
        "**Length at 0.0025.** A tail of 8 % takes 0.100 nats off",
    ):
        assert line in page


@pytest.fixture(scope="module")
def annealed(study: Study, held: Path) -> Path:
    """The folder of a study that has its result."""
    run_job(study.job(0, study.cells["1-sqrt-8"]))
    result = annealing_result(replace(study, seeds=3), made_up(study))
    # One seed was trained, whose scores know two domains.
    result["settings"] |= {"seeds": 1, "domains": {"code": "code", "math": "mathematics"}}
    for name in ("seed-0/held", "seed-0/1-sqrt-8"):
        found = json.loads((study.out / "trials" / name / "done.json").read_text())["found"]
        result["trials"][name] = rounded(figures_of(found))
    (study.out / "annealing.json").write_text(json.dumps(result))
    return study.out


def test_means_are_of_the_last_models_and_are_kept(annealed: Path, study: Study, tmp_path: Path) -> None:
    averages = Averages(annealed, tmp_path, Norms(), 1, (2,))
    averages.check()
    models = averages.models(0, "stable")
    assert [model.name for model in models] == [f"step-{step:08d}" for step in range(23, 26)]
    found = average_all(averages, averages.names, say=print)
    expected = (embedding(models[-1]).double() + embedding(models[-2]).double())[0, 0] / 2
    assert found["seed-0/stable-2"]["heldout"]["code"] == pytest.approx(float(expected), rel=1e-6)
    assert not list(tmp_path.rglob("model.safetensors"))

    kept = tmp_path / "means" / "seed-0" / "stable-2.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"found": {"heldout": {}, "kept": True}}))
    assert averages.run("seed-0/stable-2")["kept"]
    changed = tmp_path / "annealing"
    shutil.copytree(annealed, changed)
    model = replace(averages, annealing=changed).models(0, "stable")[-2]
    manifest = json.loads((model / MANIFEST_NAME).read_text())
    (model / MANIFEST_NAME).write_text(json.dumps(manifest | {"fingerprint": "of another model"}))
    assert "kept" not in replace(averages, annealing=changed).run("seed-0/stable-2")
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    kept.unlink()
    with pytest.raises(TrainError, match=r"model\.safetensors"):
        replace(averages, annealing=changed).run("seed-0/stable-2")
    done = changed / "trials" / "seed-0" / "held" / "done.json"
    done.write_text(done.read_text().replace('"solved": 1', '"solved": 2'))
    with pytest.raises(TrainError, match=r"held: not the trial that annealing\.json there is made from"):
        replace(averages, annealing=changed).check()

    result = averaging_result(averages, found)
    stable = result["series"]["stable"]
    assert stable["1"]["against_last"]["loss"]["value"] == 0
    assert stable["1"]["mean"]["code"]["value"] == pytest.approx(float(embedding(models[-1])[0, 0]), abs=1e-6)
    assert result["series"]["annealed"]["1"]["against_annealed"]["loss"]["value"] == 0
    assert result["settings"]["spacing"] == {"stable": 1, "annealed": 1}
    assert "Mean of 2: at the held rate" in page_of("averaging", result, figure="averaging.svg")


def test_what_is_not_there_to_be_averaged_is_refused(annealed: Path, tmp_path: Path) -> None:
    fine = Averages(annealed, tmp_path, Norms(), 1, (2,))
    with pytest.raises(TrainError, match=r"held: 3 models kept, 4 are to be averaged"):
        replace(fine, counts=(2, 4)).check()
    with pytest.raises(TrainError, match="another corpus"):
        replace(fine, score=Norms("other")).check()
    with pytest.raises(TrainError, match="--seeds 2"):
        replace(fine, seeds=2).check()
    with pytest.raises(TrainError, match="annealing-study"):
        replace(fine, annealing=tmp_path).check()
    (tmp_path / "annealing.json").write_text('{"study": "stability"}')
    with pytest.raises(TrainError, match="--counts 1"):
        replace(fine, counts=(1, 2)).check()
    with pytest.raises(TrainError, match="'stability'"):
        replace(fine, annealing=tmp_path).check()
    with pytest.raises(TrainError, match=r"no mean 'seed-0/stabel-2'\. Did you mean 'seed-0/stable-2'"):
        fine.run("seed-0/stabel-2")


def test_measures_are_means_over_domains_and_shares_of_problems() -> None:
    trial = {"heldout": {"code": 1.0, "math": 3.0}, "solved": 3, "problems": 4}
    assert values_of([trial]) == {"loss": [2.0], "solved": [0.75], "code": [1.0], "math": [3.0]}


@pytest.mark.slow
def test_quick_studies_go_from_the_command_to_the_page_and_a_cell_can_be_repeated(
    smoke_run: Path, tmp_path: Path
) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}

    def yulanmini(*arguments: str) -> Any:
        command = [sys.executable, "-m", "yulanmini.cli", "train", *arguments, "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    run = ("--run", str(smoke_run))
    result = yulanmini("annealing-study", *run, "--quick", "--out", "annealing")
    assert len(result["trials"]) == 2 * len(result["cells"])
    for ending in ("json", "svg", "md"):
        assert (tmp_path / "annealing" / f"annealing.{ending}").is_file()
    name = "seed-1/linear-8"
    beside = ("--only", name, "--against", "annealing/annealing.json")
    again = yulanmini("annealing-study", *run, "--quick", "--out", "again", *beside)["repeated"][name]
    assert again["now"]["heldout"] == pytest.approx(again["result"]["heldout"], abs=1e-4)
    assert not (tmp_path / "again" / "trials" / "seed-0").exists()
    command = [sys.executable, "-m", "yulanmini.cli", "train", "annealing-study", *run, "--out", "again", *beside]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, "of 50 steps, not 1500" in done.stderr) == (2, True)

    averaged = yulanmini("averaging-study", *run, "--quick", "--annealing", "annealing", "--out", "averaging")
    assert set(averaged["series"]["stable"]) == {"1", "2", "4"}
    assert "Mean of 4" in (tmp_path / "averaging" / "averaging.md").read_text()
