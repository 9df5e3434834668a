"""`model dynamics`: its numbers are those of the whole model found another way, and a stopped series goes on."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_miniature import pretrain, write_inputs, write_run_config, write_text
from safetensors.torch import load_file, save_file
from sft_miniature import write_tokenizer
from torch.nn import functional as F
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from data_recipes.errors import DataError
from data_recipes.files import only_process
from modeling_yulanmini import CheckpointError, YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini.merge import merge
from train.dynamics import checkpoints as places
from train.dynamics import series
from train.dynamics.checkpoints import open_folder, resolve
from train.dynamics.measures import matrix_sizes, measure
from train.dynamics.plots import plot_series
from train.dynamics.series import TextRows, measure_series, read_rows
from train.dynamics.streaming import StreamedModel
from train.errors import TrainError


def write_model(folder: Path, *, seed: int = 0, **settings: Any) -> Path:
    """A three-layer model with every parameter away from its initial value, and a tokenizer."""
    tokenizer = write_tokenizer(folder)
    vocabulary = json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"]
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "max_position_embeddings": 64, "hidden_states_shrink": 0.6}
    config = YuLanMiniConfig.reparametrized(**(shape | {"vocab_size": len(vocabulary) + 20} | settings))
    model = YuLanMiniForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise.abs() * 0.4 + 0.5 if name.endswith("_alpha") or "norm" in name else noise * 0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for seed, domain in enumerate(("code", "math")):
        write_text(folder / "heldout" / f"{domain}.jsonl", seed=seed, documents=12)
    (folder / "unread.txt").write_text("beside held-out text, which alone is read")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "phase-05")


def measured(folder: Path, out: Path, text: TextRows | None = None) -> dict[str, Any]:
    (row,) = measure_series([str(folder)], out, text=text)
    return row


@pytest.mark.parametrize("tied", [True, False])
def test_sizes_are_those_of_the_saved_matrices(tied: bool, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", tie_word_embeddings=tied)
    row = measured(folder, tmp_path / "out")
    saved = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}
    scales = {f"{kind}_proj": f"self_attn.{kind}_proj_alpha" for kind in "qkvo"}
    scales |= {"gate_proj": "gate_up_proj_alpha", "up_proj": "gate_up_proj_alpha", "down_proj": "down_proj_alpha"}
    for part, scale in scales.items():
        for layer in range(3):
            matrix = next(saved[name] for name in saved if name.endswith(f"{layer}.{scale_owner(part)}.{part}.weight"))
            alpha = saved[f"model.layers.{layer}.{scale}"].item()
            found = row["weights"][part.removesuffix("_proj")]
            largest = torch.linalg.svdvals(matrix)[0].item()
            assert found["rms"][layer] == pytest.approx(matrix.square().mean().sqrt().item(), rel=1e-6)
            assert found["spectral_norm"][layer] == pytest.approx(largest, rel=1e-5)
            assert found["effective_spectral_norm"][layer] == pytest.approx(largest * alpha, rel=1e-5)
            key = "gate_up" if "gate" in scale else part.removesuffix("_proj")
            assert row["alphas"][key][layer] == pytest.approx(alpha)
    head = saved["model.embed_tokens.weight" if tied else "lm_head.weight"]
    alpha = saved["lm_head_alpha"].item()
    assert row["weights"]["head"]["effective_spectral_norm"] == pytest.approx(
        [torch.linalg.matrix_norm(head, 2).item() * alpha], rel=1e-5
    )
    norm = saved["model.layers.1.post_attention_layernorm.weight"]
    assert row["norm_weights"]["mlp"]["rms"][1] == pytest.approx(norm.square().mean().sqrt().item(), rel=1e-6)
    assert row["norm_weights"]["final"]["effective_max_abs"] == pytest.approx(
        [saved["model.norm.weight"].abs().max().item() * saved["model.norm_alpha"].item()], rel=1e-6
    )
    assert row["text"] is None


def scale_owner(part: str) -> str:
    return "mlp" if part in ("gate_proj", "up_proj", "down_proj") else "self_attn"


@pytest.mark.parametrize("shape", [(3, 900), (900, 3), (40, 40)])
@pytest.mark.parametrize("size", [1e-12, 5e-5, 1e12])
def test_spectral_norms_of_tiny_and_huge_matrices(shape: tuple[int, int], size: float) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * size
    expected = torch.linalg.svdvals(matrix.double())[0].item()
    assert matrix_sizes(matrix)["spectral_norm"] == pytest.approx(expected, rel=1e-5)
    assert matrix_sizes(torch.zeros(shape)) == {"rms": 0.0, "spectral_norm": 0.0}


@pytest.mark.parametrize("form", ["yulanmini", "llama", "qwen2"])
def test_text_figures_are_those_of_the_whole_merged_model(form: str, model: Path, text: Path, tmp_path: Path) -> None:
    """The stock Llama that the model merges into, run whole, with its attention logits written out."""
    for target in ("llama", "qwen2"):
        merge(model, tmp_path / target, target=target)
    rows = TextRows(text, tokens=200, context=4096)
    row = measured(model if form == "yulanmini" else tmp_path / form, tmp_path / "out", rows)
    input_ids = rows.input_ids(open_folder(model), None)
    assert input_ids.shape == (3, 64)  # the model's context of 64, as many full rows as there is room for
    llama = AutoModelForCausalLM.from_pretrained(tmp_path / "llama", attn_implementation="eager")
    outputs, logits = [], []

    def look(layer: Any, args: Any, kwargs: Any, output: torch.Tensor) -> None:
        outputs.append(output.var().item())
        attention, states = layer.self_attn, layer.input_layernorm(args[0])
        q, k = (
            project(states).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj)
        )
        q, k = apply_rotary_pos_emb(q, k, *kwargs["position_embeddings"])
        scores = q @ k.repeat_interleave(2, dim=1).transpose(2, 3) / attention.head_dim**0.5
        logits.append(scores.masked_fill(torch.ones(64, 64).triu(1).bool(), -torch.inf).max().item())

    for layer in llama.model.layers:
        layer.register_forward_hook(look, with_kwargs=True)
    with torch.no_grad():
        predicted = llama(input_ids).logits[:, :-1].flatten(0, 1)
    assert row["text"]["loss"] == pytest.approx(F.cross_entropy(predicted, input_ids[:, 1:].flatten()).item(), rel=1e-5)
    assert row["text"]["hidden_state_variance"] == pytest.approx(outputs, rel=1e-4)
    assert row["text"]["attention_logit_max"] == pytest.approx(logits, rel=1e-4)
    assert bool(row["alphas"]) is (form == "yulanmini")


def test_one_layer_is_in_memory_at_a_time(model: Path) -> None:
    streamed = StreamedModel(open_folder(model), torch.device("cpu"))
    in_memory: list[list[int]] = []

    def on_layer(index: int, layer: Any) -> None:
        in_memory.append([at for at, other in enumerate(streamed.layers) if not other.mlp.up_proj.weight.is_meta])

    streamed.load_ends()
    ids = torch.arange(12).view(1, 12)
    streamed.forward(ids, on_layer=on_layer, on_output=lambda *_: None, on_attention=lambda *_: None)
    streamed.visit_layers(on_layer)
    assert in_memory == [[0], [1], [2]] * 2


def test_a_killed_series_goes_on_where_it_was(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(write_model(tmp_path / f"phase-{number:02d}", seed=number)) for number in (1, 2, 3)]
    rows_of = TextRows(text, tokens=128)

    def hang_at_the_third(streamed: StreamedModel, *args: Any, **options: Any) -> dict[str, Any]:
        if streamed.checkpoint.name == "phase-03":
            time.sleep(60)
        return measure(streamed, *args, **options)

    def begin() -> None:
        monkeypatch.setattr(series, "measure", hang_at_the_third)
        measure_series(folders, tmp_path / "out", text=rows_of)

    process = multiprocessing.get_context("fork").Process(target=begin)
    process.start()
    while len(read_rows(tmp_path / "out")) < 2:
        assert process.is_alive()
        time.sleep(0.02)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    first = read_rows(tmp_path / "out")
    rows = measure_series(folders, tmp_path / "out", text=rows_of)
    assert rows[:2] == first  # their seconds too: they were not measured again
    assert [row["checkpoint"] for row in rows] == ["phase-01", "phase-02", "phase-03"]
    whole = measure_series(folders, tmp_path / "whole", text=rows_of)
    assert [row | {"cost": None} for row in rows] == [row | {"cost": None} for row in whole]


def test_equal_checkpoints_are_measured_once_and_names_stay_apart(model: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "run-2" / "phase-05", seed=9)
    copy = shutil.copytree(model, tmp_path / "copy")
    rows = measure_series([str(model), str(copy), str(other)], tmp_path / "out", text=None)
    assert [row["checkpoint"] for row in rows] == ["phase-05", "run-2/phase-05"]


def test_a_folder_of_another_text_is_refused(model: Path, text: Path, tmp_path: Path) -> None:
    measure_series([str(model)], tmp_path / "out", text=None)
    with pytest.raises(DataError, match="made from something else"):
        measure_series([str(model)], tmp_path / "out", text=TextRows(text))
    with pytest.raises(DataError, match="holds other files"):
        measure_series([str(model)], model, text=None)


def test_two_processes_at_once(model: Path, tmp_path: Path) -> None:
    measure_series([str(model)], tmp_path / "out", text=None)
    with (
        only_process(tmp_path / "out" / ".lock", RuntimeError()),
        pytest.raises(DataError, match="another process is measuring"),
    ):
        measure_series([str(model)], tmp_path / "out", text=None)


def test_what_does_not_fit_is_refused(model: Path, text: Path, tmp_path: Path) -> None:
    saved = load_file(model / "model.safetensors")
    broken = shutil.copytree(model, tmp_path / "broken")

    def refused(change: dict[str, torch.Tensor], drop: str, message: str) -> None:
        tensors = {name: tensor for name, tensor in (saved | change).items() if name != drop}
        save_file(tensors, broken / "model.safetensors")
        with pytest.raises((CheckpointError, TrainError), match=message):
            measure_series([str(broken)], tmp_path / "out", text=None)
        assert read_rows(tmp_path / "out") == []

    query = "model.layers.1.self_attn.q_proj.weight"
    nan = saved[query].clone()
    nan[3, 4] = float("nan")
    refused({query: nan}, "", "q_proj.weight holds NaN or infinity")
    refused({query: saved[query][:, :-1].contiguous()}, "", r"has shape \[32, 31\] in the weights")
    refused({}, query, "q_proj.weight is not in the weights")
    refused({"extra": torch.zeros(2)}, "", "extra has shape .* is not by the config")
    refused({"lm_head.weight": saved["model.embed_tokens.weight"] + 1}, "", "differs from model.embed_tokens.weight")
    shutil.copy(model / "model.safetensors", broken)
    (broken / "tokenizer.json").unlink()
    with pytest.raises(TrainError, match=r"has no tokenizer\.json"):
        measure_series([str(broken)], tmp_path / "with-text", text=TextRows(text))
    (broken / "tokenizer.json").write_text("{")
    with pytest.raises(TrainError, match="not a usable tokenizer"):
        measure_series([str(model)], tmp_path / "other", text=TextRows(text), tokenizer=broken)
    for name, message in (("./nowhere", "no such folder"), ("nobody/nothing", "not in the Hub's cache")):
        with pytest.raises(TrainError, match=message):
            measure_series([name], tmp_path / "out", text=None)
    (broken / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="model_type is 'bert', expected one of yulanmini, llama, qwen2"):
        measure_series([str(broken)], tmp_path / "out", text=None)


def test_empty_and_unreadable_texts_are_refused(model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    (tmp_path / "words.csv").write_text("a,b\n1,2\n")
    for place, message in (
        (empty, "no text in empty"),
        (tmp_path / "none", "no such file or folder"),
        (tmp_path / "words.csv", "table"),
    ):
        with pytest.raises(DataError, match=message):
            measure_series([str(model)], tmp_path / "out", text=TextRows(place))
    with pytest.raises(TrainError, match="expected at least 2"):
        TextRows(empty, tokens=1)


def test_a_sharded_checkpoint_has_the_figures_of_its_export(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    config = write_run_config(inputs, tmp_path / "config.yaml", data={"dir": str(inputs / "data"), "phases": [1]})
    assert pretrain(config) == 0
    (sharded,) = (tmp_path / "run" / "checkpoints").glob("step-*6")
    rows = TextRows(inputs / "heldout", tokens=64)
    found = measure_series([str(sharded), str(tmp_path / "run/models/phase-01")], tmp_path / "out", text=rows)
    one, other = ({key: row[key] for key in ("step", "weights", "alphas", "norm_weights", "text")} for row in found)
    assert one == other
    assert one["step"] == 6
    with pytest.raises(TrainError, match=r"a folder of checkpoints\. Name them: .*step-00000006"):
        measure_series([str(tmp_path / "run")], tmp_path / "out", text=rows)


def test_hub_checkpoints_are_known_by_their_commit(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetched to the series' own folder, dropped once measured, and not fetched again."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    fetched: list[Path] = []

    def download(repo: str, *, local_files_only: bool = False, local_dir: Path | None = None, **_: Any) -> str:
        if local_files_only:
            raise places.LocalEntryNotFoundError("not cached")
        assert local_dir is not None
        fetched.append(local_dir)
        shutil.copytree(model, local_dir)
        return str(local_dir)

    class Api:
        def model_info(self, repo: str, revision: str | None) -> Any:
            return type("Info", (), {"sha": commit})

    monkeypatch.setattr(places, "snapshot_download", download)
    monkeypatch.setattr(places, "HfApi", Api)
    for _ in range(2):
        (row,) = measure_series(["yulan-team/phase5@main"], tmp_path / "out", text=None, drop_downloads=True)
        assert len(fetched) == 1
        assert not fetched[0].exists()
    assert row["checkpoint"] == "phase5@0123456"
    assert row["hub"] == {"repo": "yulan-team/phase5", "commit": commit}
    local = measured(model, tmp_path / "local")
    assert row["weights"] == local["weights"]


def test_a_model_in_the_hubs_cache_is_found_without_network(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Path(os.environ["HF_HOME"]) / "hub" / "models--some--body"
    commit = "f" * 40
    shutil.copytree(model, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    try:
        reference = resolve("some/body")
        assert reference.commit == commit
        with places.local_copy(reference, cache / "unused", drop=True) as folder:
            assert open_folder(folder).fingerprint == open_folder(model).fingerprint
        assert folder.is_dir()  # the user's cache is not ours to drop
    finally:
        shutil.rmtree(cache)


def test_figures_of_a_series_with_gaps(model: Path, text: Path, tmp_path: Path) -> None:
    """Merged and unmerged in one series: what one has not is left out; the same rows give the same file."""
    merge(model, tmp_path / "llama")
    rows = measure_series([str(model), str(tmp_path / "llama")], tmp_path / "out", text=TextRows(text, tokens=64))
    assert rows[1]["alphas"] == {}
    for name in ("a.svg", "b.svg"):
        plot_series(rows, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
