"""Whole runs of instruction tuning on a Llama of 30k parameters."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from sft_miniature import write_sft_config
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_recipes.errors import DataError
from data_recipes.manifest import read_manifest, verify_files
from train.config_file import load_config
from train.errors import TrainError
from train.launch.stop import explain
from train.sft import run
from train.tuning.config import SftConfig
from train.tuning.data import ordered_rows
from train.tuning.run import Interrupted

SCRIPT = Path(__file__).parents[3] / "train" / "sft.py"


def metrics_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses_of(folder: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in metrics_of(folder)]


def tune(folder: Path, **changes) -> Path:
    return run(load_config(SftConfig, write_sft_config(folder, **changes)))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    return tune(tmp_path_factory.mktemp("undisturbed"), epochs=8, checkpoint={"every_steps": 8})


def wait_until(condition, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_run_leaves_one_whole_folder_that_loads_and_stops_at_the_end_of_a_turn(undisturbed):
    assert verify_files(undisturbed) == []
    manifest = read_manifest(undisturbed, kind="sft")
    assert manifest["counts"]["steps"] == 64
    assert manifest["counts"]["dialogues"] == 64
    tokenizer = AutoTokenizer.from_pretrained(undisturbed)
    model = AutoModelForCausalLM.from_pretrained(undisturbed)
    assert set(model.generation_config.eos_token_id) == {
        tokenizer.convert_tokens_to_ids("<|eot_id|>"),
        tokenizer.eos_token_id,
    }
    assert not undisturbed.with_name("out.work").exists()


def test_the_loss_falls_and_every_step_has_a_line_of_metrics(undisturbed):
    lines = metrics_of(undisturbed)
    assert [line["step"] for line in lines] == list(range(1, 65))
    assert {"step", "loss", "lr", "grad_norm", "tokens", "seconds"} <= lines[0].keys()
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]


def test_kill_9_and_again_gives_the_weights_of_an_undisturbed_run(undisturbed, tmp_path):
    folder = undisturbed.parent
    config = write_sft_config(folder, epochs=8, checkpoint={"every_steps": 8}, output_dir=str(tmp_path / "killed"))
    command = [sys.executable, str(SCRIPT), str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    work = tmp_path / "killed.work"
    wait_until(lambda: (work / "checkpoint-16" / "seal.json").exists())
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed").exists()
    (work / "checkpoint-24").mkdir(exist_ok=True)  # what a kill while saving leaves
    (work / "checkpoint-24" / "model.safetensors").write_bytes(b"half")
    resumed = run(load_config(SftConfig, config))
    assert (resumed / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    assert losses_of(resumed) == losses_of(undisturbed)


def test_sigterm_leaves_a_checkpoint_and_the_same_command_goes_on(undisturbed, tmp_path):
    config = load_config(
        SftConfig,
        write_sft_config(
            undisturbed.parent, epochs=8, checkpoint={"every_steps": 1000}, output_dir=str(tmp_path / "stopped")
        ),
    )
    metrics = tmp_path / "stopped.work" / "metrics.jsonl"

    def send_sigterm() -> None:
        wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 3)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send_sigterm)
    sender.start()
    with pytest.raises(Interrupted, match="stopped after step"):
        run(config)
    sender.join()
    resumed = run(config)
    assert (resumed / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()


def test_a_run_killed_while_it_writes_the_model_trains_no_step_again(undisturbed, tmp_path, monkeypatch):
    config = load_config(
        SftConfig,
        write_sft_config(
            undisturbed.parent, epochs=8, checkpoint={"every_steps": 8}, output_dir=str(tmp_path / "late")
        ),
    )

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("train.tuning.run.save_model", stop)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert not (tmp_path / "late").exists()
    before = (tmp_path / "late.work" / "metrics.jsonl").read_bytes()
    finished = run(config)
    assert (finished / "metrics.jsonl").read_bytes() == before
    assert (finished / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file"),
    ],
)
def test_a_full_disk_is_bad_input(error, capsys):
    assert explain(error, memory_advice=str, folder=lambda: Path("runs/mine")) == 2
    assert "error: runs/mine: no space left on the disk. Make room" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        explain(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), memory_advice=str, folder=Path)


def test_a_finished_run_is_not_done_again_and_not_overwritten_by_another(undisturbed):
    before = (undisturbed / "model.safetensors").stat().st_mtime_ns
    config = write_sft_config(undisturbed.parent, epochs=8, checkpoint={"every_steps": 8})
    assert run(load_config(SftConfig, config)) == undisturbed
    assert (undisturbed / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(DataError, match=r"config\.epochs: was 8\.0, is 9\.0"):
        run(load_config(SftConfig, config, ["epochs=9"]))


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_z_loss_is_in_the_loss_exactly_when_the_config_says_so(tmp_path, z_loss):
    path = write_sft_config(tmp_path, z_loss=z_loss, max_steps=1)
    out = run(load_config(SftConfig, path))
    rows, _, _ = ordered_rows(load_config(SftConfig, path), write_rows_again(path, tmp_path))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    nll, z, tokens = 0.0, 0.0, 0
    for row in rows.select(range(8)):
        labels = torch.tensor(row["labels"])[1:]
        logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1][labels != -100]
        labels = labels[labels != -100]
        nll += F.cross_entropy(logits, labels, reduction="sum").item()
        z += logits.logsumexp(-1).square().sum().item()
        tokens += len(labels)
    assert metrics_of(out)[0]["loss"] == pytest.approx((nll + z_loss * z) / tokens, rel=1e-5)


def write_rows_again(config: Path, folder: Path) -> Path:
    from train.tuning.data import write_rows

    rows = folder / "again.arrow"
    loaded = load_config(SftConfig, config)
    write_rows(Path(loaded.dialogues), rows, tokenizer=Path(loaded.tokenizer), max_length=loaded.max_length, workers=1)
    return rows


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_dialogues_give_the_loss_and_gradient_of_separate_ones(tmp_path, attention):
    common = {"epochs": 1, "attention": attention, "max_length": 200}
    separate = tune(tmp_path, **common, batch_size=64, micro_batch_size=64)
    with pytest.raises(TrainError, match=r"^\d+ rows x 1 epochs do not fill one batch") as too_few:
        tune(tmp_path, **common, packing="bfd", batch_size=64, micro_batch_size=64, output_dir=str(tmp_path / "packed"))
    rows = int(str(too_few.value).split()[0])
    assert rows < 32
    packed = tune(
        tmp_path, **common, packing="bfd", batch_size=rows, micro_batch_size=rows, output_dir=str(tmp_path / "packed")
    )
    alone, together = metrics_of(separate)[0], metrics_of(packed)[0]
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert together["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-4)
    assert together["tokens"] == alone["tokens"]


def test_lora_merges_into_the_folder_and_leaves_its_adapter_beside(tmp_path):
    from peft import PeftModel

    out = tune(tmp_path, lora={"rank": 4, "alpha": 8}, max_steps=4)
    merged = AutoModelForCausalLM.from_pretrained(out)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = torch.arange(10, 40)[None]
    with torch.no_grad():
        before = base(ids).logits
        adapted = PeftModel.from_pretrained(base, out / "adapter")(ids).logits
        after = merged(ids).logits
    assert (after - adapted).abs().max() < 1e-4
    assert (after - before).abs().max() > 1e-3


def test_micro_batches_change_the_speed_and_not_the_result(tmp_path):
    whole = tune(tmp_path, max_steps=2, micro_batch_size=8)
    parts = tune(tmp_path, max_steps=2, micro_batch_size=2, output_dir=str(tmp_path / "parts"))
    for one, other in zip(metrics_of(whole), metrics_of(parts), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path):
    alone = tune(tmp_path, max_steps=3)
    config = write_sft_config(tmp_path, max_steps=3, output_dir=str(tmp_path / "two"))
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run([*launcher, str(SCRIPT), str(config)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    for one, other in zip(metrics_of(alone), metrics_of(tmp_path / "two"), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    weights = AutoModelForCausalLM.from_pretrained(alone).state_dict()
    for name, value in AutoModelForCausalLM.from_pretrained(tmp_path / "two").state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-3)


def test_a_truncated_model_is_bad_input(tmp_path):
    path = write_sft_config(tmp_path)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(TrainError, match=r"cannot load the model"):
        run(load_config(SftConfig, path))


def test_a_model_with_another_vocabulary_is_refused(tmp_path):
    path = write_sft_config(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    model.resize_token_embeddings(100)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(TrainError, match="263 tokens, the model"):
        run(load_config(SftConfig, path))


def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    path = write_sft_config(tmp_path)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(path), "--set", "batch_sise=4"], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 2
    assert "batch_sise" in done.stderr
    assert "batch_size" in done.stderr
    assert "Traceback" not in done.stderr
