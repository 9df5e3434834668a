"""`yulanmini train anneal` from a checkpoint in the published layout, with and without its optimizer states."""

import json
import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from pretrain_miniature import environment, metrics, pretrain, write_text
from published_layout import RATE, SHAPE, STEP, trained, write_published, write_universal
from refusal import check_refusal
from safetensors.torch import load_file
from sft_miniature import write_llama, write_tokenizer
from transformers import AutoModelForCausalLM

from modeling_yulanmini import YuLanMiniForCausalLM
from train.curriculum.batches import StepReader
from train.model_setup.phase_edges import set_rope_theta
from train.run.inputs import RUN_KIND
from train.run.phases import phase_rows

TOKENS_PER_STEP, STEPS, CONTEXT = 256, 4, 32
FLOOR = 0.01


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints with and without states, own text and a recipe over it."""
    folder = tmp_path_factory.mktemp("anneal")
    model, optimizer = trained()
    write_published(folder / "without", model)
    write_universal(write_published(folder / "with", model), model, optimizer)
    write_text(folder / "text.jsonl", seed=1, documents=80)
    subset = {"name": "own", "tokens": STEPS * TOKENS_PER_STEP, "source": {"path": "text.jsonl"}}
    recipe = {"name": "mine", "context_length": CONTEXT, "subsets": [subset]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture
def anneal(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Run the verb from the folder of the inputs; training happens in this process."""

    def launched(script: str, arguments: list[str], *, options: list[str]) -> None:
        if code := pretrain(Path(arguments[0]), *arguments[1:]):
            sys.exit(code)

    monkeypatch.setattr("yulanmini.anneal.launch", launched)
    monkeypatch.chdir(place)

    def call(checkpoint: str, *more: str, out: str = "out", data: str = "recipe.yaml") -> SimpleNamespace:
        from yulanmini.cli import main

        words = ["train", "anneal", checkpoint, "--data", data, "--out", str(tmp_path / out), "--json"]
        words += ["--tokens-per-step", str(TOKENS_PER_STEP), "--floor", str(FLOOR), *more]
        monkeypatch.setattr(sys, "argv", ["yulanmini", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        shown = capsys.readouterr()
        code = stopped.value.code or 0
        result = json.loads(shown.out) if shown.out else None
        return SimpleNamespace(code=code, stdout=shown.out, stderr=shown.err, result=result, out=tmp_path / out)

    return call


def continued_in_plain_torch(data: Path) -> YuLanMiniForCausalLM:
    """The published run going on by itself: its own weights and moments, the base of the 4K stages, a 1-sqrt tail."""
    model, optimizer = trained()
    set_rope_theta(model, 10_000)
    reader = StepReader(SimpleNamespace(), SimpleNamespace(size=1, rank=0, device=torch.device("cpu")),
                        vocab_size=SHAPE["vocab_size"], by_lengths=False)  # fmt: skip
    phase = SimpleNamespace(**vars(phase_rows("mine", data)), packed=phase_rows("mine", data).packed)
    phase.document_mask = True
    rows = TOKENS_PER_STEP // CONTEXT
    for step in range(STEPS):
        batch = reader.read_rows(phase, step * rows, (step + 1) * rows)
        model(batch.input_ids, labels=batch.labels, **batch.document_arguments).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * group["lr_factor"] * max(1 - math.sqrt(step / STEPS), FLOOR)
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_annealing_goes_on_from_published_weights_and_moments(anneal: Any, place: Path) -> None:
    done = anneal("with")
    assert done.code == 0, done.stderr
    found = {key: done.result[key] for key in ("step", "rate", "rate_from", "warmup_steps", "moments", "rope_theta")}
    assert found == {
        "step": STEP,
        "rate": RATE,
        "rate_from": "trainer_state.json",
        "warmup_steps": 0,
        "moments": "of the checkpoint",
        "rope_theta": 10_000.0,  # not the 490,000 of the stage to come, which its config names
    }
    expected = dict(continued_in_plain_torch(done.out / "data" / "mine").named_parameters())
    annealed = AutoModelForCausalLM.from_pretrained(done.result["model"])
    for name, tensor in annealed.named_parameters():
        torch.testing.assert_close(tensor, expected[name].detach(), atol=2e-6, rtol=1e-4)
    merged = AutoModelForCausalLM.from_pretrained(done.result["merged"])
    assert merged.config.model_type == "llama"
    assert merged.config.rope_parameters["rope_theta"] == 10_000
    assert done.result["comparison"]["argmax_agreement"] > 0.9
    assert (done.out / "merged" / "merge_certificate.json").is_file()
    # Given again there is nothing to do; with another rate it is another annealing.
    before = (done.out / "merged" / "model.safetensors").stat().st_mtime_ns
    assert anneal("with").result == done.result
    assert (done.out / "merged" / "model.safetensors").stat().st_mtime_ns == before
    check_refusal(anneal("with", "--lr", "0.1"), "settings.optimizer.lr: was 0.002, is 0.1")


def test_without_states_moments_are_fresh_and_warmed_up(anneal: Any) -> None:
    done = anneal("without", "--set", "schedule.annealing.shape=linear", "--steps", "3", "--warmup-steps", "2")
    assert done.code == 0, done.stderr
    assert (done.result["moments"], done.result["steps"]) == ("fresh", 3)
    rates = [line["lr"] for line in metrics(done.out / "run")]
    assert rates == pytest.approx([RATE / 2, RATE * 2 / 3, RATE / 3])
    assert (done.out / "run" / "models" / "mine" / "config.json").is_file()  # though it ended before the phase did
    # Its result is a checkpoint to anneal from: a run's, with its own rate, base and moments.
    again = anneal(str(done.out / "run" / "checkpoints" / "step-00000003"), "--dry-run", out="again")
    assert (again.result["moments"], again.result["rope_theta_from"]) == ("of the checkpoint", "the run")
    assert again.result["rate"] == pytest.approx(RATE / 3)
    assert not again.out.exists()


def test_an_annealing_stopped_anywhere_ends_as_one_that_was_not(anneal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = anneal("with", out="whole")
    for stage in ("build", "import_optimizer", "launch", "write_merged"):

        def stopped(*arguments: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(f"yulanmini.anneal.{stage}", stopped)
            assert anneal("with", out="parts").code == 130
        if stage == "launch":
            half = anneal("with", "--max-hours", "0", out="parts")
            assert half.code == 0
            assert "comparison" not in half.result
    done = anneal("with", out="parts")
    assert done.code == 0, done.stderr
    for name in ("run/models/mine", "merged"):
        ours, theirs = (load_file(folder / name / "model.safetensors") for folder in (done.out, whole.out))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_built_phase_serves_too_and_the_same_folder_is_not_shared(anneal: Any, place: Path) -> None:
    assert anneal("without", "--prepare", out="first").code == 0
    built = str(anneal("without", "--prepare", out="first").out / "data" / "mine")
    shown = anneal("without", "--dry-run", data=built, out="second")
    assert shown.result["steps"] == STEPS
    assert anneal("without", "--prepare", "--set", "device=cuda", data=built, out="for-gpus").code == 0
    prepared = yaml.safe_load((shown.out.parent / "for-gpus" / "anneal.yaml").read_text())
    assert (prepared["precision"], prepared["compile"], prepared["micro_batch_rows"]) == ("bfloat16", True, "auto")
    check_refusal(anneal("without", "--context-length", "16", data=built, out="third"), "is built with 32 already")
    import fcntl

    with (shown.out.parent / "first" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        check_refusal(anneal("without", out="first"), "another annealing is at work there")


def changed(place: Path, tmp_path: Path, checkpoint: str = "with") -> Path:
    return Path(shutil.copytree(place / checkpoint, tmp_path / "changed"))


@pytest.mark.parametrize(
    "attack", ["merged", "tokenizer", "other step", "other weights", "missing state", "truncated", "vocabulary"]
)
def test_a_wrong_checkpoint_is_refused_before_anything_is_written(
    attack: str, anneal: Any, place: Path, tmp_path: Path
) -> None:
    checkpoint, recipe = changed(place, tmp_path), "recipe.yaml"
    universal = checkpoint / f"global_step{STEP}_universal"
    if attack == "merged":
        shutil.rmtree(checkpoint)
        named = write_llama(checkpoint) and "It is merged already"
    elif attack == "tokenizer":
        other = write_tokenizer(tmp_path / "other")
        file = other / "tokenizer.json"
        file.write_text(file.read_text().replace("<|eot_id|>", "<|end_it|>"))
        content = yaml.safe_load((place / recipe).read_text())
        content["subsets"][0]["source"]["path"] = str(place / "text.jsonl")
        recipe = str(tmp_path / "other.yaml")
        Path(recipe).write_text(yaml.safe_dump(content | {"tokenizer": str(other)}))
        named = "made for another tokenizer than the checkpoint's"
    elif attack == "other step":
        states = json.loads((checkpoint / "trainer_state.json").read_text())
        (checkpoint / "trainer_state.json").write_text(json.dumps(states | {"global_step": STEP - 250}))
        named = "states of step 243,198, but"
    elif attack == "other weights":
        file = universal / "zero" / "model.norm.weight" / "fp32.pt"
        content = torch.load(file)
        torch.save(content | {"param": content["param"] + 0.02}, file)
        named = "optimizer states of another step"
    elif attack == "missing state":
        shutil.rmtree(universal / "zero" / "model.norm.weight")
        named = "model.norm.weight"
    elif attack == "truncated":
        file = checkpoint / "model.safetensors"
        file.write_bytes(file.read_bytes()[:5000])
        named = "truncated or corrupt"
    else:
        config = json.loads((checkpoint / "config.json").read_text())
        (checkpoint / "config.json").write_text(json.dumps(config | {"vocab_size": 200}))
        named = "263 tokens"
    for more in ((), ("--dry-run",)):
        refused = anneal(str(checkpoint), *more, data=recipe)
        check_refusal(refused, named)
        assert not refused.out.exists()


@pytest.mark.slow
def test_the_verb_starts_accelerate_and_passes_its_options(place: Path, tmp_path: Path) -> None:
    import subprocess

    command = [
        sys.executable,
        "-P",
        "-m",
        "yulanmini.cli",
        "train",
        "anneal",
        "with",
        "--data",
        "recipe.yaml",
        "--json",
    ]
    command += ["--out", str(tmp_path / "out"), "--tokens-per-step", str(TOKENS_PER_STEP), "--processes", "2"]
    done = subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    trainer = json.loads((tmp_path / "out" / "run" / "checkpoints" / "step-00000004" / "trainer.json").read_text())
    assert trainer["ranks"] == 2
    assert json.loads((tmp_path / "out" / "run" / "manifest.json").read_text())["kind"] == RUN_KIND
