"""A checkpoint published as safetensors and JSON: training on from it is training on from the checkpoint itself."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_miniature import metrics, pretrain, write_inputs, write_run_config
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_recipes.machine import peak_memory
from modeling_yulanmini import checkpoint_writer
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from train.annealing.start import read_start
from train.checkpoints.tensors import CheckpointEntries
from train.checkpoints.training_state import import_training_state, read_training_state, write_training_state
from train.errors import TrainError
from train.run.imported import import_as_run

PICKLED = (".pt", ".pth", ".bin", ".pkl", ".distcp", ".metadata")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a finished run of 12 steps; its phase 1 ended at step 6."""
    config = run_config(inputs, tmp_path_factory.mktemp("whole"))
    assert pretrain(config) == 0
    return config


def run_config(inputs: Path, place: Path, **changes: Any) -> Path:
    """Of a run over phases 1 and 2, in `place`/run."""
    settings = {"data": {"dir": str(inputs / "data"), "phases": [1, 2]}, "schedule": {"warmup_steps": 4}}
    return write_run_config(inputs, place / "config.yaml", **settings, heldout=None, **changes)


def checkpoint(config: Path) -> Path:
    """That at the end of phase 1."""
    return config.parent / "run" / "checkpoints" / "step-00000006"


def models(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.parent.name: load_file(path) for path in sorted(run.glob("models/*/model.safetensors"))}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert not [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])]


@pytest.fixture(scope="module")
def published(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state at step 6, in shards; not to be changed."""
    folder = tmp_path_factory.mktemp("published") / "state"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_writer, "MAX_SHARD_BYTES", 40_000)
        write_training_state(checkpoint(whole), folder)
    return folder


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))


def test_a_run_goes_on_from_it_bit_by_bit(inputs: Path, whole: Path, published: Path, tmp_path: Path) -> None:
    import_as_run(published, tmp_path / "run")
    assert pretrain(run_config(inputs, tmp_path)) == 0
    before = whole.parent / "run"
    found, expected = models(tmp_path / "run"), models(before)
    for phase in ("phase-01", "phase-02"):
        assert_same(found[phase], expected[phase])
    assert metrics(tmp_path / "run") == metrics(before)[6:]
    with pytest.raises(TrainError, match="holds a run that has begun"):
        import_as_run(published, tmp_path / "run")


def test_another_run_begins_with_its_moments_bit_by_bit(inputs: Path, whole: Path, published: Path, tmp_path: Path):
    import_training_state(published, tmp_path / "imported")
    runs = {"own": checkpoint(whole), "published": tmp_path / "imported", "fresh": tmp_path / "imported"}
    for name, start in runs.items():
        init = {"path": str(start), "optimizer": name != "fresh"}
        assert pretrain(run_config(inputs, tmp_path / name, init=init, max_steps=2)) == 0
    ends = {name: CheckpointEntries(tmp_path / name / "run" / "checkpoints" / "step-00000002") for name in runs}
    names = [name for name in ends["own"].tensors() if name.startswith("model.")]
    own, published, fresh = ({name: ends[run].read(name) for name in names} for run in runs)
    assert_same(published, own)
    with pytest.raises(AssertionError):  # the moments tell
        assert_same(fresh, own)


def test_it_is_a_model_folder_without_anything_pickled(whole: Path, published: Path) -> None:
    names = [path.relative_to(published).as_posix() for path in published.rglob("*")]
    assert not [name for name in names if name.endswith(PICKLED)]
    assert len([name for name in names if name.startswith("optimizer/state-")]) > 2
    entries = CheckpointEntries(checkpoint(whole))
    model = AutoModelForCausalLM.from_pretrained(published)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, entries.read(f"model.{name}")), name
    AutoTokenizer.from_pretrained(published)
    state = read_training_state(published)
    assert state["step"] == 6
    assert state["position"] == {"phase": "2", "next_row": 0, "rows": 72}
    assert str(whole.parent) not in (published / "training_state.json").read_text()


def test_annealing_starts_from_it_with_its_rate_and_moments(whole: Path, published: Path) -> None:
    start = read_start(published)
    own = read_start(checkpoint(whole))
    assert start.has_states
    assert (start.step, start.rate, start.sections, start.model) == (6, own.rate, own.sections, own.model)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["model-00001-of-*.safetensors", "optimizer/state-00002-of-*.safetensors", "config.json"]
)
def test_a_flipped_byte_is_found(copy: Path, tmp_path: Path, name: str) -> None:
    (path,) = copy.glob(name)
    flip(path)
    with pytest.raises(TrainError, match=rf"{path.name}: damaged"):
        import_training_state(copy, tmp_path / "imported")
    assert not (tmp_path / "imported").exists()


def rewrite(folder: Path, change) -> None:
    """Change the tensors of one file of the optimizer, and make the checksums fit, as a hostile folder would."""
    from train.checkpoints.sharded import content_of

    path = sorted(folder.glob("optimizer/state-*.safetensors"))[0]
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    index = folder / "optimizer" / "state.safetensors.index.json"
    content = json.loads(index.read_text())
    places = {name: file for name, file in content["weight_map"].items() if file != path.name}
    index.write_text(json.dumps({**content, "weight_map": places | dict.fromkeys(tensors, path.name)}))
    state = json.loads((folder / "training_state.json").read_text())
    state["files"] |= {f"optimizer/{file.name}": content_of(file) for file in (path, index)}
    (folder / "training_state.json").write_text(json.dumps(state))


def lose_the_counter(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[next(name for name in tensors if name.endswith(".step"))]


def add_a_stranger(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.foreign.exp_avg"] = torch.zeros(2)


def spoil(tensors: dict[str, torch.Tensor]) -> None:
    next(value for name, value in tensors.items() if name.endswith("exp_avg")).view(-1)[0] = torch.nan


def reshape(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in tensors if name.endswith("exp_avg"))
    tensors[name] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lose_the_counter, r"no tensor .*\.step"),
        (add_a_stranger, "belongs to no parameter"),
        (spoil, "holds NaN or infinity"),
        (reshape, r"has shape \[3\]"),
    ],
)
def test_a_state_that_is_not_of_the_model_is_refused(copy: Path, tmp_path: Path, change, message: str) -> None:
    rewrite(copy, change)
    with pytest.raises((TrainError, CheckpointError), match=message):
        import_training_state(copy, tmp_path / "imported")
    assert not (tmp_path / "imported").exists()


def test_a_name_that_leads_out_of_the_folder_is_refused(copy: Path, tmp_path: Path) -> None:
    state = json.loads((copy / "training_state.json").read_text())
    for change, message in (
        ({"files": {"../elsewhere": {"bytes": 1, "xxh3": ""}}}, "no file of this folder"),
        ({"random_state": {"../elsewhere": {}}}, "cannot be read"),
    ):
        (copy / "training_state.json").write_text(json.dumps(state | change))
        with pytest.raises(TrainError, match=message):
            import_training_state(copy, tmp_path / "imported")


@pytest.mark.slow
def test_memory_stays_at_a_shard(tmp_path: Path) -> None:
    """A model of 60 million parameters has 720 MB of state; writing it takes a fraction of that."""
    import multiprocessing

    for step in (make_checkpoint, write_and_measure):  # the memory that making it takes must not hide the other's
        process = multiprocessing.get_context("spawn").Process(target=step, args=(tmp_path,))
        process.start()
        process.join(300)
        assert process.exitcode == 0
    peaks = json.loads((tmp_path / "peaks.json").read_text())
    assert peaks["after"] - peaks["before"] < 350_000_000, peaks


def make_checkpoint(place: Path) -> None:
    from sft_miniature import write_tokenizer

    from modeling_yulanmini import YuLanMiniConfig
    from modeling_yulanmini.create import empty_model
    from train.checkpoints.tensors import LazyTensor, write_checkpoint

    shape = {"hidden_size": 512, "intermediate_size": 1280, "num_hidden_layers": 20, "num_attention_heads": 8}
    config = YuLanMiniConfig.reparametrized(base_width=64, vocab_size=4000, num_key_value_heads=8, **shape)
    tokenizer = write_tokenizer(place / "tokenizer")

    def lazy(size: tuple[int, ...]) -> LazyTensor:
        return LazyTensor(size, torch.float32, lambda: torch.full(size, 0.5))

    shapes = {name: tuple(parameter.shape) for name, parameter in empty_model(config).named_parameters()}
    weights = {name: lazy(size) for name, size in shapes.items()}
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    moments = {
        name: {"exp_avg": lazy(size), "exp_avg_sq": lazy(size), "step": torch.tensor(3.0)}
        for name, size in shapes.items()
    }
    checkpoint = place / "step-00000003"
    checkpoint.mkdir()
    trainer = {"step": 3, "model_config": config.to_dict(), "tokenizer": str(tokenizer), "fingerprint": "f"}
    write_checkpoint(checkpoint, {"model": weights, "optimizer": {"state": moments, "param_groups": []}}, trainer)


def write_and_measure(place: Path) -> None:
    """Peak memory before and after a state is written, in bytes."""
    checkpoint_writer.MAX_SHARD_BYTES = 100_000_000
    peak = peak_memory()
    write_training_state(place / "step-00000003", place / "state")
    after = peak_memory()
    size = sum(path.stat().st_size for path in (place / "state").rglob("*") if path.is_file())
    (place / "peaks.json").write_text(json.dumps({"before": peak, "after": after, "bytes": size}))
