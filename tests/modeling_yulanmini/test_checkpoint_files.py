"""Bad model folders are refused with a message that names file and tensor, and leave no result behind."""

import json
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from model_folders import SMALL, random_tensors, write_folder, write_small
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer, models

from modeling_yulanmini.averaging import average
from modeling_yulanmini.checkpoint_reader import ModelFolder
from modeling_yulanmini.checkpoint_writer import TensorToWrite, new_folder, write_model
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.merge import merge
from modeling_yulanmini.rebalance import rebalance

UP = "model.layers.1.mlp.up_proj.weight"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that fills up: no file may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_refused(src: Path, *words: str) -> None:
    """Merging `src` fails with one `CheckpointError` that holds all `words`, and leaves no folder."""
    dst = src.parent / "result"
    with pytest.raises(CheckpointError) as caught:
        merge(src, dst, compare_logits=False)
    for word in words:
        assert word in str(caught.value)
    assert sorted(path.name for path in src.parent.iterdir()) == [src.name]


def test_truncated_weights(tmp_path):
    src = write_small(tmp_path / "src")
    weights = src / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert_refused(src, str(weights), "truncated")


def test_empty_weights(tmp_path):
    src = write_small(tmp_path / "src")
    (src / "model.safetensors").write_bytes(b"")
    assert_refused(src, "model.safetensors", "0 bytes")


def test_corrupt_header(tmp_path):
    src = write_small(tmp_path / "src")
    weights = src / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[20:40] = b"\xff" * 20
    weights.write_bytes(data)
    assert_refused(src, str(weights), "corrupt")


def test_missing_shard_and_shard_outside_the_folder(tmp_path):
    src = write_small(tmp_path / "src", shards=3)
    index = src / "model.safetensors.index.json"
    good = index.read_text()
    index.write_text(good.replace("model-00002-of-00003.safetensors", "../elsewhere.safetensors"))
    assert_refused(src, "../elsewhere.safetensors")
    index.write_text(good)
    (src / "model-00002-of-00003.safetensors").unlink()
    assert_refused(src, "model-00002-of-00003.safetensors", "missing")


def test_index_that_puts_a_tensor_into_another_shard(tmp_path):
    src = write_small(tmp_path / "src", shards=2)
    index = src / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    first, second = sorted(set(content["weight_map"].values()))
    content["weight_map"][UP] = second if content["weight_map"][UP] == first else first
    index.write_text(json.dumps(content))
    assert_refused(src, UP)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_or_infinity_in_a_weight_is_placed(tmp_path, value):
    tensors = random_tensors(SMALL)
    tensors[UP][7, 3] = value
    src = write_folder(tmp_path / "src", SMALL, tensors)
    assert_refused(src, UP, "model.safetensors", "[7, 3]")


def test_nan_in_a_scale(tmp_path):
    tensors = random_tensors(SMALL)
    tensors["model.layers.0.down_proj_alpha"].fill_(float("nan"))
    assert_refused(write_folder(tmp_path / "src", SMALL, tensors), "model.layers.0.down_proj_alpha")


def test_a_scale_of_two_numbers(tmp_path):
    tensors = random_tensors(SMALL) | {"lm_head_alpha": torch.ones(2)}
    assert_refused(write_folder(tmp_path / "src", SMALL, tensors), "lm_head_alpha", "[2]")


def test_wrong_shape(tmp_path):
    tensors = random_tensors(SMALL) | {UP: torch.zeros(120, 47)}
    assert_refused(write_folder(tmp_path / "src", SMALL, tensors), UP, "[120, 47]", "[120, 48]")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"num_hidden_layers": 4}, "model.layers.3."),
        ({"num_hidden_layers": 2}, "model.layers.2."),
        ({"vocab_size": 140}, "model.embed_tokens.weight"),
        ({"wesar_weights": False}, "alpha"),
        ({"use_norm_alpha": False}, "norm_alpha"),
        ({"attention_bias": False}, "proj.bias"),
        ({"tie_word_embeddings": False}, "lm_head.weight"),
        ({"num_key_value_heads": 3}, "k_proj"),
    ],
)
def test_config_that_contradicts_the_weights(tmp_path, overrides, named):
    src = write_folder(tmp_path / "src", SMALL | overrides, random_tensors(SMALL))
    assert_refused(src, str(src), named)


def test_a_second_copy_of_the_tied_head_must_be_a_copy(tmp_path):
    tensors = random_tensors(SMALL)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    merge(write_folder(tmp_path / "copy", SMALL, tensors), tmp_path / "merged", compare_logits=False)
    tensors["lm_head.weight"][0, 0] += 1
    other = tmp_path / "other"
    other.mkdir()
    assert_refused(write_folder(other / "src", SMALL, tensors), "lm_head.weight", "tie_word_embeddings")


def test_tokenizer_with_more_tokens_than_the_embedding_has_rows(tmp_path):
    src = write_small(tmp_path / "src")
    tokenizer = Tokenizer(models.BPE(vocab={f"t{i}": i for i in range(131)}, merges=[]))
    tokenizer.save(str(src / "tokenizer.json"))
    merge(src, tmp_path / "fits", compare_logits=False)
    tokenizer.add_tokens(["one more"])
    other = write_small(tmp_path / "other" / "src")
    tokenizer.save(str(other / "tokenizer.json"))
    assert_refused(other, "tokenizer.json", "131", "vocab_size")


def test_config_missing_or_no_json(tmp_path):
    src = write_small(tmp_path / "src")
    config = (src / "config.json").read_text()
    (src / "config.json").write_text(config[:-1] + ",}")
    assert_refused(src, "config.json", "not valid JSON")
    (src / "config.json").unlink()
    assert_refused(src, "config.json", "missing")


@pytest.mark.parametrize(
    "key",
    [
        {"auto_map": {"AutoModel": "someone/else--modeling.Model"}},
        {"_attn_implementation_internal": "someone/kernels"},
    ],
)
def test_config_that_would_run_code_from_elsewhere(tmp_path, key):
    assert_refused(write_small(tmp_path / "src", **key), "config.json", next(iter(key)))


def test_only_pickled_weights(tmp_path):
    src = write_small(tmp_path / "src")
    (src / "model.safetensors").rename(src / "pytorch_model.bin")
    assert_refused(src, "safetensors")


@pytest.mark.parametrize(
    "convert",
    [
        lambda src, dst: merge(src, dst, compare_logits=False),
        lambda src, dst: rebalance(src, dst, rms=0.02),
        lambda src, dst: average([src, src], dst),
    ],
    ids=["merge", "rebalance", "average"],
)
def test_destination_is_absent_or_complete(tmp_path, convert):
    src, dst = write_small(tmp_path / "src"), tmp_path / "dst"
    dst.mkdir()
    (dst / "precious").write_text("kept")
    with pytest.raises(CheckpointError, match="not empty"):
        convert(src, dst)
    assert [path.name for path in dst.iterdir()] == ["precious"]
    (dst / "precious").unlink()

    with (
        files_of_at_most(50_000),
        pytest.raises(OSError, match=r"model\.safetensors: tensors .* to .* cannot be written"),
    ):
        convert(src, dst)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dst", "src"]
    assert not any(dst.iterdir())
    convert(src, dst)
    assert ModelFolder(dst).tensors


def test_what_a_killed_run_left_is_replaced(tmp_path):
    (tmp_path / ".dst.partial").mkdir()
    (tmp_path / ".dst.partial" / "model.safetensors").write_bytes(b"half")
    with new_folder(tmp_path / "dst") as out:
        (out / "file").write_text("whole")
    assert [path.name for path in tmp_path.rglob("*")] == ["dst", "file"]


def test_interrupt_leaves_nothing(tmp_path):
    def interrupted():
        with new_folder(tmp_path / "dst") as out:
            (out / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not any(tmp_path.iterdir())


def test_written_file_is_what_safetensors_reads(tmp_path):
    values = {
        "matrix": torch.randn(37, 5),
        "scalar": torch.tensor(0.25),
        "half": torch.randn(3).bfloat16(),
        "empty": torch.empty(0, 4),
    }
    tensors = [
        TensorToWrite(name, tuple(value.shape), value.dtype, lambda value=value: iter([value]))
        for name, value in values.items()
    ]
    write_model(tmp_path, {}, tensors)
    path = tmp_path / "model.safetensors"
    for name, value in load_file(path).items():
        assert torch.equal(value, values[name])
        assert value.dtype == values[name].dtype
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert length % 8 == 0


def test_a_full_disk_names_file_and_tensors(tmp_path):
    tensors = [TensorToWrite(name, (800,), torch.float32, lambda: iter([torch.zeros(800)])) for name in ("a", "b")]
    with files_of_at_most(4096), pytest.raises(OSError, match="tensors a to b cannot be written") as caught:
        write_model(tmp_path, {}, tensors)
    assert str(tmp_path / "model.safetensors") in str(caught.value)
    assert "os error 27" in str(caught.value) or "File too large" in str(caught.value)


def test_a_producer_of_too_few_rows_is_caught(tmp_path):
    short = TensorToWrite("w", (4, 2), torch.float32, lambda: iter([torch.zeros(3, 2)]))
    with pytest.raises(CheckpointError, match=r"tensor w: 6 values for a tensor of shape \[4, 2\]"):
        write_model(tmp_path, {}, [short])


def test_reading_in_blocks_gives_the_whole(tmp_path, monkeypatch):
    import modeling_yulanmini.checkpoint_reader as module

    src = write_small(tmp_path / "src")
    whole = load_file(src / "model.safetensors")
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 500)
    folder = ModelFolder(src)
    assert len(list(folder.blocks(UP))) == 12
    for name, tensor in whole.items():
        assert torch.equal(folder.read(name), tensor)
