"""No stage of any room writes to a folder that holds something else: refused at once, every file left as it was."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_recipes.corpus.build import build_corpus
from data_recipes.errors import DataError
from data_recipes.manifest import claim_folder, folder_state, whole_folder, write_manifest
from data_recipes.packing.build import PHASES_KIND, STORE_KIND, build_phases
from data_recipes.recipes.recipe import Recipe
from data_recipes.tokens.train import train_tokenizer
from eval.suites import run_suite
from hub_cards.layout.run_repos import publish_local
from hub_cards.layout.sources import phases_repo
from modeling_yulanmini.averaging import average
from modeling_yulanmini.create import create_model
from modeling_yulanmini.merge import merge
from modeling_yulanmini.rebalance import rebalance
from train.checkpoints.export import export_checkpoint
from train.checkpoints.import_deepspeed import import_optimizer
from train.checkpoints.rebalance import rebalance_checkpoint
from train.pretrain import main as pretrain
from train.run.inputs import RUN_KIND
from train.sft import run as tune
from train.tuning.checkpoints import work_kind
from train.tuning.config import SftConfig
from yulanmini.cli import run as run_command
from yulanmini.reproduce.driver import KIND as REPRODUCTION_KIND
from yulanmini.reproduce.driver import reproduce
from yulanmini.reproduce.settings import load_settings
from yulanmini.reproduce.stages import Run
from yulanmini.run_layout import card_files

FINISHED = ("corpus", "tokenizer", "packed-rows", "data", RUN_KIND, "model", "merged-model", "sft", "hub-repo")
CLAIMED = (PHASES_KIND, STORE_KIND, RUN_KIND, work_kind("sft"), REPRODUCTION_KIND, "scores", "lr-transfer")
STRANGE = {
    "thesis.txt": "mine",
    "manifest.json": '{"name": "An app of the web", "icons": []}',
    "claim.json": '{"kind": ',
}


def write_foreign(folder: Path, what: str) -> Path:
    """A folder of a kind, finished or only begun, or one with a strange file."""
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "rows.bin").write_bytes(bytes(range(256)))
    state, _, kind = what.partition(" ")
    if state == "finished":
        write_manifest(folder, kind=kind, inputs={"text": "0" * 64}, config={"a": 1}, counts={})
    elif state == "begun":
        (folder / "claim.json").write_text(json.dumps({"kind": kind, "made_from": {"a": 1}}))
    else:
        (folder / what).write_text(STRANGE[what])
    return folder


FOREIGN = [*(f"finished {kind}" for kind in FINISHED), *(f"begun {kind}" for kind in CLAIMED), *STRANGE]


def content(folder: Path) -> dict[str, Any]:
    """Every path below a folder with its bytes and the time it was last changed."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [folder, *folder.rglob("*")]
    }


def recipe() -> Recipe:
    subset = {"name": "text", "tokens": 64, "source": {"path": "text.jsonl"}}
    return Recipe.model_validate({"name": "mine", "context_length": 32, "subsets": [subset]})


def build(out: Path, store: Path, inputs: Path) -> None:
    build_phases([recipe()], out, tokenizer=inputs / "tokenizer", store=store, progress=False)


def run_pretrain(out: Path, inputs: Path, *arguments: str) -> None:
    """With a config whose every other file is absent: the folder is judged before anything is read."""
    config = {"output_dir": str(out), "model": {}, "tokenizer": "absent", "data": {"dir": "absent"}}
    (inputs / "run.yaml").write_text(yaml.safe_dump(config | {"tokens_per_step": 64}))
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        code = pretrain([str(inputs / "run.yaml"), *arguments])
    assert code == 2
    raise DataError(error.getvalue())


def run_tuning(out: Path, inputs: Path) -> None:
    tune(
        SftConfig.model_validate(
            {
                "model": str(inputs / "model"),
                "tokenizer": str(inputs / "tokenizer"),
                "dialogues": str(inputs / "dialogues.jsonl"),
                "output_dir": str(out),
                "max_length": 128,
                "batch_size": 8,
                "micro_batch_size": 4,
                "epochs": 1,
                "optimizer": {"lr": 0.01},
                "checkpoint": {"every_steps": 4},
            }
        )
    )


def run_reproduction(out: Path, inputs: Path) -> None:
    settings = load_settings("smoke")
    run = Run(out=out, scale="smoke", settings=settings, corpus=None, phases=[1], seed=0, threads=1)
    reproduce(run, stages=[])


def lay_out(out: Path, inputs: Path) -> None:
    """The folder is one of the repos."""
    publish_local(card_files(inputs), out.parent.parent, namespace=out.parent.name, name=out.name.removesuffix("-data"))


STAGES: dict[str, tuple[tuple[str, ...], Callable[[Path, Path], Any]]] = {
    # What runs, the kinds that are its own, and how it is called.
    "data build": ((f"begun {PHASES_KIND}",), lambda out, inputs: build(out, inputs / "store", inputs)),
    "data build, store": ((f"begun {STORE_KIND}",), lambda out, inputs: build(inputs / "built", out, inputs)),
    "data build, phase": ((), lambda out, inputs: build(out.parent, inputs / "store", inputs)),
    "corpus": ((), lambda out, inputs: build_corpus(out, corpus=inputs)),
    "data tokenizer": ((), lambda out, inputs: train_tokenizer(inputs, out)),
    "data publish": ((), lambda out, inputs: phases_repo(inputs, out)),
    "pretrain": ((f"finished {RUN_KIND}", f"begun {RUN_KIND}"), run_pretrain),
    "pretrain --dry-run": (
        (f"finished {RUN_KIND}", f"begun {RUN_KIND}"),
        lambda out, inputs: run_pretrain(out, inputs, "--dry-run"),
    ),
    "pretrain --force": (
        (f"finished {RUN_KIND}", f"begun {RUN_KIND}"),
        lambda out, inputs: run_pretrain(out, inputs, "--force"),
    ),
    "sft": ((), run_tuning),
    "sft, work folder": ((f"begun {work_kind('sft')}",), lambda out, inputs: run_tuning(out.with_suffix(""), inputs)),
    "eval run": (("begun scores",), lambda out, inputs: run_suite("absent", data=inputs / "absent", out=out)),
    "hub layout": ((), lay_out),
    "reproduce": ((), run_reproduction),
    "train export": ((), lambda out, inputs: export_checkpoint(inputs / "absent", out)),
    "train lr-transfer": (
        ("begun lr-transfer",),
        lambda out, inputs: run_command(["train", "lr-transfer", "--run", str(inputs), "--out", str(out)]),
    ),
    "train annealing-study": (
        (),
        lambda out, inputs: run_command(["train", "annealing-study", "--run", str(inputs), "--out", str(out)]),
    ),
    "train averaging-study": (
        (),
        lambda out, inputs: run_command(["train", "averaging-study", "--annealing", str(inputs), "--out", str(out)]),
    ),
    "train stability-study": (
        (),
        lambda out, inputs: run_command(["train", "stability-study", "--run", str(inputs), "--out", str(out)]),
    ),
    "train coordinate-check": (
        (),
        lambda out, inputs: run_command(["train", "coordinate-check", "--run", str(inputs), "--out", str(out)]),
    ),
    "model import-optimizer": (
        (),
        lambda out, inputs: import_optimizer(inputs, out, config=None, tokenizer=inputs),  # type: ignore[arg-type]
    ),
    "model rebalance of a checkpoint": ((), lambda out, inputs: rebalance_checkpoint(inputs / "absent", out)),
    "model rebalance": ((), lambda out, inputs: rebalance(inputs / "absent", out)),
    "model merge": ((), lambda out, inputs: merge(inputs / "absent", out)),
    "model average": ((), lambda out, inputs: average([inputs / "absent"] * 2, out)),
    "model create": ((), lambda out, inputs: create_model(out, None)),  # type: ignore[arg-type]
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As little as each stage reads before it looks at where it is to write."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("inputs")
    tokenizer = Tokenizer(models.WordLevel({f"t{number}": number for number in range(64)}, unk_token="t0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="t2").save_pretrained(folder / "tokenizer")
    (folder / "model").mkdir()
    for name in ("model/config.json", "dialogues.jsonl"):
        (folder / name).write_text("{}")
    (folder / "text.jsonl").write_text(json.dumps({"text": "t5 t6 t7 " * 40}) + "\n")
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_refuses_every_folder_but_its_own(
    stage: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, call = STAGES[stage]
    monkeypatch.chdir(inputs)
    for number, what in enumerate(what for what in FOREIGN if what not in own):
        # Named so that each stage finds the folder where it is about to write.
        name = {"data build, phase": "mine", "sft, work folder": "out.work", "hub layout": "tiny-data"}
        place = tmp_path / str(number)
        if stage == "data build, phase":
            claim_folder(place, kind=PHASES_KIND)
        folder = write_foreign(place / name.get(stage, "folder"), what)
        if stage == "data build, phase" and what == "finished packed-rows":
            continue  # of the same kind: tests/data_recipes/packing/test_build.py compares what it was built from
        before = content(folder)
        with pytest.raises(ValueError, match="Choose another") as refusal:
            call(folder, inputs)
        assert type(refusal.value).__module__.split(".")[0] in ("data_recipes", "modeling_yulanmini"), what
        assert content(folder) == before, what


def test_a_folder_of_the_same_kind_made_from_something_else_is_refused_with_what_differs(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    made_from = {"inputs": {"text": "1"}, "seed": 0}
    assert claim_folder(folder, kind="corpus", made_from=made_from) == "new"
    assert claim_folder(folder, kind="corpus", made_from=made_from) == "begun"
    with pytest.raises(DataError, match=r"seed: was 0, is 1"):
        claim_folder(folder, kind="corpus", made_from=made_from | {"seed": 1})
    write_manifest(folder, kind="corpus", inputs={"text": "1"}, config={}, counts={}, seed=0)
    assert folder_state(folder, kind="corpus", made_from=made_from) == "finished"
    with pytest.raises(DataError, match=r"inputs\.text: was '1', is '2'"):
        folder_state(folder, kind="corpus", made_from={"inputs": {"text": "2"}})


def test_of_two_stages_that_claim_a_folder_at_once_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    link = os.link

    def slow_link(source: Path, destination: Path) -> None:
        destination.write_text(json.dumps({"kind": "scores", "made_from": {}}))  # the other process, in between
        link(source, destination)

    monkeypatch.setattr(os, "link", slow_link)
    with pytest.raises(DataError, match="holds a folder of kind 'scores'"):
        claim_folder(tmp_path / "folder", kind="corpus")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["claim.json"]


def test_what_a_kill_leaves_of_a_claim_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".claim.json.123.partial").write_text('{"ki')
    assert claim_folder(tmp_path / "folder", kind="corpus") == "new"
    assert claim_folder(tmp_path / "folder", kind="corpus") == "begun"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["claim.json"]


def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place in ("file", "file/below", "link"):
        with pytest.raises(DataError, match="Choose another place"):
            folder_state(tmp_path / place, kind="corpus")
    (tmp_path / "real").mkdir()
    (tmp_path / "other").symlink_to(tmp_path / "real")
    with whole_folder(tmp_path / "other") as partial:
        (partial / "file").write_text("written")
    assert (tmp_path / "real" / "file").read_text() == "written"
