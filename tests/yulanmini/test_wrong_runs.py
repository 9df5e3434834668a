"""What a training run refuses at its start its dry run refuses in the same words; what is typed is never asked for."""

import importlib
import shlex

import pytest
from refusal import check_refusal

from data_recipes.errors import DataError
from data_recipes.places import local_folder

ROWS = [
    ("pretrain", "pretrain.yaml --set tokenizer=nodir", "tokenizer"),
    ("pretrain", "pretrain.yaml --set data.phases=99", "phase-01"),
    ("pretrain", "pretrain.yaml --set heldout.dir=nodir", "nodir"),
    ("pretrain", "pretrain.yaml --set init.path=nodir output_dir={new}", "init.path"),
    ("pretrain", "pretrain.yaml --set output_dir=run seed=7", "config.seed: was 3, is 7"),
    ("pretrain", "pretrain.yaml --set output_dir=folder", "folder"),
    ("pretrain", "pretrain.yaml --set model.hidden_size=33", "model"),
    ("sft", "sft.yaml --set model=nodir", "nodir"),
    ("sft", "sft.yaml --set tokenizer=folder", "tokenizer.json"),
    ("sft", "sft.yaml --set dialogues=empty.jsonl output_dir={new}", "empty.jsonl"),
    ("sft", "sft.yaml --set output_dir=folder", "folder"),
    ("dpo", "dpo.yaml --set pairs=nowhere.jsonl", "nowhere.jsonl"),
    ("dpo", "dpo.yaml --set pairs=dialogues.jsonl output_dir={new}", "line 1"),
    ("dpo", "dpo.yaml --set output_dir=folder", "folder"),
    ("on_policy", "on-policy.yaml --set prompts=nowhere.jsonl", "nowhere.jsonl"),
    ("on_policy", "on-policy.yaml --set prompts=dialogues.jsonl", "line 1"),
    ("on_policy", "on-policy.yaml --set rewards.reward_model.model=folder", "config.json"),
    ("on_policy", "on-policy.yaml --set max_prompt_length=3", "max_prompt_length"),
]


@pytest.mark.parametrize(("script", "arguments", "named"), ROWS)
def test_a_dry_run_refuses_what_the_run_refuses(script, arguments, named, place, script_run, tmp_path) -> None:
    main = importlib.import_module(f"train.{script}").main
    run, dry_run = (
        script_run(main, [*shlex.split(arguments.format(new=tmp_path / "new")), *more]) for more in ([], ["--dry-run"])
    )
    check_refusal(run, named)
    assert dry_run.stderr.splitlines()[-1] == run.stderr.splitlines()[-1]
    assert dry_run.code == 2


def test_a_dry_run_of_pretraining_fits_a_terminal(place, script_run) -> None:
    from train.pretrain import main

    for config in ("pretrain.yaml", "yulanmini-2.4b"):
        shown = script_run(main, [config, "--dry-run", "--hardware", "8xH100"])
        assert shown.code == 0, shown.stderr
        assert max(map(len, shown.stdout.splitlines())) <= 100
    assert "a run needs first: the phases" in shown.stdout


def test_a_mistyped_folder_is_told_from_a_hub_id(tmp_path, monkeypatch) -> None:
    (tmp_path / "models" / "phase-27").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert local_folder("models/phase-27", "folder") is not None
    assert local_folder("owner/name", "folder") is None
    for typed, said in (
        ("model", "Did you mean 'models'?"),
        ("models/phase-72", "Did you mean 'models/phase-27'?"),
        ("./models/phase-72", "Did you mean 'models/phase-27'?"),
        ("gpt2", "`hf download gpt2` first"),
        ("models/other", "`hf download models/other`"),
        ("a/b/c", "no such folder"),
    ):
        with pytest.raises(DataError) as refused:
            local_folder(typed, "folder")
        assert said in str(refused.value)
    (tmp_path / "cache" / "models--gpt2" / "snapshots").mkdir(parents=True)
    assert local_folder("gpt2", "folder") is None
