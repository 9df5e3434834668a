"""Which checkpoint a tuning run resumes from, and which it refuses."""

from pathlib import Path

import pytest

from data_recipes.errors import DataError
from train.errors import TrainError
from train.tuning.checkpoints import claim_work_folder, latest_checkpoint, seal


def write_checkpoint(work: Path, step: int, *, sealed: bool = True) -> Path:
    checkpoint = work / f"checkpoint-{step}"
    (checkpoint / "rng").mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(bytes(range(200)))
    (checkpoint / "rng" / "state").write_bytes(b"state")
    if sealed:
        seal(checkpoint)
    return checkpoint


def test_the_newest_whole_checkpoint_wins_by_number_and_an_unsealed_one_is_removed(tmp_path):
    write_checkpoint(tmp_path, 90)
    newest = write_checkpoint(tmp_path, 100)
    half = write_checkpoint(tmp_path, 110, sealed=False)
    assert latest_checkpoint(tmp_path) == newest
    assert not half.exists()


def test_without_a_checkpoint_a_run_starts_afresh(tmp_path):
    write_checkpoint(tmp_path, 5, sealed=False)
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "199 bytes, expected 200"),
        (lambda path: path.write_bytes(bytes(200)), "content differs"),
        (lambda path: path.unlink(), "missing"),
    ],
)
def test_a_damaged_checkpoint_names_the_file_and_the_way_on(tmp_path, damage, named):
    older = write_checkpoint(tmp_path, 10)
    newest = write_checkpoint(tmp_path, 20)
    damage(newest / "model.safetensors")
    with pytest.raises(TrainError, match=named) as error:
        latest_checkpoint(tmp_path)
    assert f"Delete {newest} to resume from {older}" in str(error.value)


def test_another_config_may_not_go_on_from_a_checkpoint(tmp_path):
    work = tmp_path / "out.work"
    claim_work_folder(work, {"config": {"optimizer": {"lr": 0.1}, "seed": 0}}, kind="unfinished-sft")
    write_checkpoint(work, 10)
    claim_work_folder(work, {"config": {"optimizer": {"lr": 0.1}, "seed": 0}}, kind="unfinished-sft")
    with pytest.raises(DataError, match=r"config\.optimizer\.lr: was 0\.1, is 0\.2") as error:
        claim_work_folder(work, {"config": {"optimizer": {"lr": 0.2}, "seed": 0}}, kind="unfinished-sft")
    assert "seed" not in str(error.value)


def test_another_config_may_take_a_folder_without_progress(tmp_path):
    work = tmp_path / "out.work"
    claim_work_folder(work, {"config": {"seed": 0}}, kind="unfinished-sft")
    (work / "rows.arrow").write_bytes(b"rows of the old config")
    claim_work_folder(work, {"config": {"seed": 1}}, kind="unfinished-sft")
    assert not (work / "rows.arrow").exists()
