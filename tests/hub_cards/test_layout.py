"""Laying out what a command has left, by its kind, and again when that has changed: in a swap, edits refused."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from made_text import make_documents, write_jsonl
from pretrain_miniature import pretrain, write_inputs, write_run_config
from transformers import AutoModelForCausalLM

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.errors import DataError
from data_recipes.manifest import write_manifest
from data_recipes.synthesis.programs.run import ProgramsRequest, synthesize_programs
from hub_cards.checks.check import check_repo
from hub_cards.errors import HubError
from hub_cards.layout import swap
from hub_cards.layout.run_repos import run_drafts
from hub_cards.layout.sources import lay_out, would_lay_out
from hub_cards.repos.folder import open_repo
from hub_cards.repos.names import Names
from train.checkpoints.tensors import CheckpointEntries
from train.checkpoints.training_state import import_training_state
from yulanmini.merged import write_averaged, write_merged
from yulanmini.run_layout import card_files

INSTRUCT, LONGER = "me/tiny-instruct", "of a longer run"


@pytest.fixture
def run(small_run, tmp_path) -> Path:
    return Path(shutil.copytree(small_run, tmp_path / "run"))


def again(run: Path, out: Path) -> swap.LaidOut:
    """One of the run's repos, which takes the least time."""
    (draft,) = (draft for draft in run_drafts(card_files(run), out, Names("me", "tiny")) if draft.repo_id == INSTRUCT)
    return swap.lay_out_draft(out / INSTRUCT, draft)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tune_longer(run: Path) -> None:
    """The instruct model is another."""
    manifest = json.loads((run / "08-on-policy" / "manifest.json").read_text())
    (run / "08-on-policy" / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": LONGER}))


def made_from(repo: Path) -> str:
    return json.loads((repo / "manifest.json").read_text())["inputs"]["08-on-policy"]


def test_a_repo_is_replaced_where_its_run_has_changed_and_the_owners_words_stay(run, tmp_path):
    assert again(run, tmp_path / "hub").written
    repo = tmp_path / "hub" / INSTRUCT
    words, begin = "\nWhat I found out about this model.\n", "<!-- yours: begin -->\n"
    readme = repo / "README.md"
    readme.write_text(readme.read_text().replace(begin, begin + words))
    before = content(tmp_path / "hub")
    assert again(run, tmp_path / "hub") == swap.LaidOut(repo, False)
    assert content(tmp_path / "hub") == before
    tune_longer(run)
    assert again(run, tmp_path / "hub").written
    assert words in readme.read_text()
    assert made_from(repo) == LONGER
    assert [path.name for path in repo.parent.iterdir()] == ["tiny-instruct"]
    assert [finding for finding in check_repo(repo) if finding.severity == "error"] == []


def test_files_edited_by_hand_are_named_and_not_thrown_away(run, tmp_path):
    again(run, tmp_path / "hub")
    repo = tmp_path / "hub" / INSTRUCT
    (repo / "LICENSE").write_text("mine")
    (repo / "config.json").write_text((repo / "config.json").read_text() + " ")
    assert again(run, tmp_path / "hub").edited == ["LICENSE", "config.json"]
    tune_longer(run)
    before = content(repo)
    with pytest.raises(HubError, match=r"edited by hand:\n.*LICENSE.*config\.json\nNothing is replaced"):
        again(run, tmp_path / "hub")
    assert content(repo) == before


def test_another_repo_in_the_place_is_not_replaced(run, tmp_path):
    again(run, tmp_path / "hub")
    manifest = json.loads((tmp_path / "hub" / INSTRUCT / "manifest.json").read_text())
    manifest["config"]["name"] = "me/other"
    (tmp_path / "hub" / INSTRUCT / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="exists already and holds a folder of kind 'hub-repo'"):
        again(run, tmp_path / "hub")


@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_killed_while_it_is_replaced_a_repo_is_the_old_one_or_the_new_one(run, tmp_path, moment):
    again(run, tmp_path / "hub")
    repo = tmp_path / "hub" / INSTRUCT
    old = content(repo)
    tune_longer(run)
    if (child := os.fork()) == 0:
        kill_at_a_swap(repo, {"before": 0, "within": 1, "after": 2}[moment])
        again(run, tmp_path / "hub")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert repo.exists() == (moment != "within")
    if moment != "within":
        assert (content(repo) == old) == (moment == "before")
    again(run, tmp_path / "hub")
    assert made_from(repo) == LONGER
    assert [path.name for path in repo.parent.iterdir()] == ["tiny-instruct"]


def kill_at_a_swap(repo: Path, renames: int) -> None:
    """In a child: the process ends as by kill -9 when it wants to go on after so many renames of the repo."""
    rename, remove, done = Path.rename, shutil.rmtree, []

    def end() -> None:
        if len(done) == renames:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(path, target):
        if repo in (path, target):
            end()
            done.append(path)
        return rename(path, target)

    def removed(path, *args, **more):
        if done:
            end()
        return remove(path, *args, **more)

    Path.rename, shutil.rmtree = counted, removed


def test_two_processes_do_not_lay_out_in_one_place(run, tmp_path):
    place = tmp_path / "hub" / "me"
    place.mkdir(parents=True)
    with swap._only_one(place / "tiny"), pytest.raises(HubError, match="another process is laying out repos there"):
        again(run, tmp_path / "hub")
    assert list(place.iterdir()) == []


def test_weights_are_linked_and_what_is_edited_is_not(run, tmp_path):
    again(run, tmp_path / "hub")
    repo = tmp_path / "hub" / INSTRUCT
    assert (repo / "model.safetensors").samefile(run / "08-on-policy" / "model.safetensors")
    shared = [path for path in repo.rglob("*") if path.is_file() and path.stat().st_nlink > 1]
    assert {path.suffix for path in shared} == {".safetensors"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A pretraining run by itself over phases 1 and 2, six steps each."""
    inputs = write_inputs(tmp_path_factory.mktemp("inputs"))
    settings = {"data": {"dir": str(inputs / "data"), "phases": [1, 2]}, "schedule": {"warmup_steps": 4}}
    assert pretrain(write_run_config(inputs, inputs / "config.yaml", **settings)) == 0
    return inputs / "run"


def test_a_pretraining_run_by_itself_has_a_branch_a_phase_and_optimizer_states_where_asked(trained, tmp_path):
    (repo,) = lay_out(trained, tmp_path / "hub", repo_id="me/mine", optimizer=["1"])
    index = json.loads((repo.folder / "checkpoints.json").read_text())
    first, second = index["branches"]
    assert [first["phase"], first["step"], second["phase"], second["step"]] == ["1", 6, "2", 12]
    assert (first["optimizer"], second["optimizer"]) == (f"{first['revision']}-optimizer", None)
    names = [branch.name for branch in open_repo(repo.folder).branches]
    assert names == [first["revision"], first["optimizer"], second["revision"], "main"]
    state = repo.folder / "revisions" / first["optimizer"]
    weights = AutoModelForCausalLM.from_pretrained(state).state_dict()
    expected = AutoModelForCausalLM.from_pretrained(trained / "models" / "phase-01").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    import_training_state(state, tmp_path / "imported")
    own, imported = (
        CheckpointEntries(folder) for folder in (trained / "checkpoints/step-00000006", tmp_path / "imported")
    )
    assert own.tensors().keys() == imported.tensors().keys()
    some = [name for name in own.tensors() if "layers.1.self_attn.q_proj" in name]
    assert len(some) > 4
    assert all(torch.equal(own.read(name), imported.read(name)) for name in some)
    assert would_lay_out(trained, tmp_path / "hub", repo_id="me/mine", optimizer=["1"]) == [(repo.folder, "same")]
    assert would_lay_out(trained, tmp_path / "hub", repo_id="me/mine") == [(repo.folder, "older")]
    with pytest.raises(HubError, match=r"--optimizer 7: .* has no checkpoint at .* that phase\. It has those of 1, 2"):
        lay_out(trained, tmp_path / "hub", repo_id="me/mine", optimizer=["7"])


def test_a_model_with_a_manifest_is_a_repo_of_its_own(trained, tmp_path):
    (repo,) = lay_out(trained / "models" / "phase-02", tmp_path / "hub", repo_id="me/one", licence="mit")
    assert (repo.folder / "model.safetensors").samefile(trained / "models" / "phase-02" / "model.safetensors")
    assert [branch.name for branch in open_repo(repo.folder).branches] == ["main"]


def test_merged_and_averaged_models_are_repos_of_their_own(trained, tmp_path):
    first, last = (trained / "models" / name for name in ("phase-01", "phase-02"))
    write_merged(last, tmp_path / "merged")
    write_averaged([first, last], tmp_path / "averaged", weights=None)
    for name, architecture in (("merged", "LlamaForCausalLM"), ("averaged", "YuLanMiniForCausalLM")):
        (repo,) = lay_out(tmp_path / name, tmp_path / "hub", repo_id=f"me/{name}", licence="mit")
        assert [finding for finding in check_repo(repo.folder) if finding.severity == "error"] == []
        assert type(AutoModelForCausalLM.from_pretrained(repo.folder)).__name__ == architecture


def test_generated_and_cleaned_text_are_repos_that_load(tmp_path):
    synthesize_programs(ProgramsRequest(count=20), tmp_path / "problems")
    documents = make_documents("web-en", 30)
    write_jsonl(tmp_path / "web.jsonl", [*documents, *documents[:5]])
    config = checked_config({"most_lost_of_a_source": 1.0, "steps": [{"step": "exact-duplicates"}]})
    clean(config, parse_inputs([f"web={tmp_path / 'web.jsonl'}"]), tmp_path / "cleaned")
    for name, rows in (("problems", 20), ("cleaned", 30)):
        (repo,) = lay_out(tmp_path / name, tmp_path / "hub", repo_id=f"me/{name}")
        assert [finding for finding in check_repo(repo.folder) if finding.severity == "error"] == []
        assert load_dataset(str(repo.folder), split="train", cache_dir=str(tmp_path / "cache")).num_rows == rows


def test_what_cannot_be_laid_out_is_told_what_can_be(trained, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    with pytest.raises(HubError, match=r"nothing of ours\. What can be laid out: a run of `yulanmini reproduce`"):
        lay_out(tmp_path / "notes", tmp_path / "hub", repo_id="me/notes")
    model = Path(shutil.copytree(trained / "models" / "phase-02", tmp_path / "model"))
    (model / "manifest.json").unlink()
    with pytest.raises(HubError, match=r"a model without manifest\.json"):
        lay_out(model, tmp_path / "hub", repo_id="me/notes")
    write_manifest(tmp_path / "notes", kind="topic", inputs={}, config={}, counts={})
    with pytest.raises(HubError, match="a folder of kind 'topic'"):
        lay_out(tmp_path / "notes", tmp_path / "hub", repo_id="me/notes")
    with pytest.raises(HubError, match="--optimizer: means nothing for"):
        lay_out(trained / "models" / "phase-02", tmp_path / "hub", repo_id="me/one", optimizer=["1"])
    assert not (tmp_path / "hub").exists()
