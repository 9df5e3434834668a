"""A run's repos: they load, say what they are, and hold nothing of the machine."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from datasets import load_dataset
from small_run import MIXES, PHASE_STEPS, card_of, write_small_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from hub_cards.cards.eval_results import write_eval_results
from hub_cards.cards.evidence import load
from hub_cards.errors import HubError
from hub_cards.layout.run_repos import publish_local
from hub_cards.repos.names import parse_revision, revision_name, short_count
from yulanmini.run_layout import card_files

REPOS = ("tiny-checkpoints", "tiny", "tiny-instruct", "tiny-data")


def test_main_and_every_revision_load_and_main_is_the_last_phase(published):
    repo = published / "tiny-checkpoints"
    index = json.loads((repo / "checkpoints.json").read_text())
    assert [parse_revision(entry["revision"]) for entry in index["branches"]] == list(PHASE_STEPS.items())
    assert [entry["tag"] for entry in index["branches"]] == ["phase01", "phase02", "phase26-4k", "phase26"]
    main = AutoModelForCausalLM.from_pretrained(repo).state_dict()
    ids = torch.arange(10)[None]
    for entry in index["branches"]:
        model = AutoModelForCausalLM.from_pretrained(repo / "revisions" / entry["revision"])
        assert model.config.model_type == "yulanmini"
        assert torch.isfinite(model(ids).logits).all()
        same = all(torch.equal(value, main[key]) for key, value in model.state_dict().items())
        assert same == (entry["revision"] == index["main"])


def test_the_merged_repo_generates_where_our_package_cannot_be_imported(published):
    program = (
        "import sys; sys.modules['modeling_yulanmini'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(published / 'tiny')!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(published / 'tiny')!r})\n"
        "import torch; print(model.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False).shape[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-1000:]
    assert 3 <= int(done.stdout) <= 5


def test_the_instruct_repo_has_model_tokenizer_and_scores_in_the_hubs_form(published):
    repo = published / "tiny-instruct"
    AutoModelForCausalLM.from_pretrained(repo)
    AutoTokenizer.from_pretrained(repo)
    assert json.loads((repo / "scores.json").read_text())["model"] == "on-policy"
    # Its own tasks are registered nowhere as benchmarks: the tables of the card have them.
    assert not (repo / ".eval_results").exists()


def test_scores_of_registered_benchmarks_go_to_the_page_of_the_model(tmp_path):
    whole = {
        "group": "all",
        "measure": "exact match",
        "value": 0.5625,
        "better": "higher",
        "count": 1319,
        "chance": None,
    }
    rows = [
        {"task": "gsm8k-7shot-cot", **whole, "protocol": "7 shots"},
        {"task": "gsm8k-5shot-pal", **whole, "count": 100},  # some of the questions only
        {"task": "gpqa", **whole},  # of GPQA another part is registered
        {"task": "problems", **whole},
    ]
    (tmp_path / "scores.json").write_text(json.dumps({"rows": rows}))
    write_eval_results(tmp_path / "scores.json", tmp_path, source_url="https://huggingface.co/a/b")
    [path] = (tmp_path / ".eval_results").iterdir()
    [entry] = yaml.safe_load(path.read_text())
    assert (path.name, entry["value"]) == ("gsm8k-7shot-cot.yaml", 56.25)
    assert entry["dataset"] == {"id": "openai/gsm8k", "task_id": "gsm8k"}
    assert entry["notes"].startswith("exact match in percent, 7 shots, count 1319; scores.json sha256 ")
    assert entry["source"]["url"] == "https://huggingface.co/a/b"


@pytest.mark.parametrize("parent", ["tiny", "tiny-checkpoints"])
def test_the_instruct_card_names_the_model_that_was_tuned(tmp_path, parent):
    run = write_small_run(tmp_path / "run")
    merged = {"schema_version": 1, "kind": "merged-model", "fingerprint": "of the merged model"}
    (run / "05-merged" / "manifest.json").write_text(json.dumps(merged))
    manifest = json.loads((run / "06-sft" / "manifest.json").read_text())
    manifest["inputs"]["model"] = merged["fingerprint"] if parent == "tiny" else "of another"
    (run / "06-sft" / "manifest.json").write_text(json.dumps(manifest))
    card = card_of(run, "instruct", tmp_path / "card")
    assert f"base_model: someone/{parent}\n" in card


def test_an_adapter_names_the_repo_it_belongs_to_instead_of_a_folder(tmp_path):
    run = write_small_run(tmp_path / "run")
    (run / "06-sft" / "adapter").mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "/somewhere/else/05-merged"}
    (run / "06-sft" / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    tuned_once = replace(card_files(run), tuned={"sft": "06-sft"})
    publish_local(tuned_once, tmp_path / "hub", namespace="someone", name="tiny")
    published_config = load(tmp_path / "hub" / "someone" / "tiny-instruct" / "adapter" / "adapter_config.json")
    assert published_config == {"peft_type": "LORA", "base_model_name_or_path": "someone/tiny-checkpoints"}


@pytest.mark.parametrize("mix", MIXES)
def test_each_mix_is_a_config_of_the_dataset(published, mix, tmp_path):
    rows = load_dataset(str(published / "tiny-data"), mix, split="train", cache_dir=str(tmp_path))
    assert rows["input_ids"][3] == list(range(24, 32))


def test_no_file_names_the_folder_of_the_run(published, small_run):
    for path in published.rglob("*"):
        if path.is_file() and path.suffix not in (".safetensors", ".parquet", ".png"):
            assert str(small_run) not in path.read_text(), path
    config = yaml.safe_load((published / "tiny" / "training_config.yaml").read_text())
    assert config["data"]["dir"] == "./03-data"


def test_a_held_out_figure_stands_once_on_the_base_card_and_tuning_s_cost_on_the_instruct_card(published):
    base, instruct = ((published / name / "README.md").read_text() for name in ("tiny", "tiny-instruct"))
    assert base.count("| mathematics | 3.000 |") == 1
    assert "Bits per byte on held-out text went up most on mathematics: from 1.200 to\n1.700" in instruct


def test_the_example_of_a_card_is_a_question_answered_right_with_the_score_of_its_kind(published, tmp_path):
    base, instruct = ((published / name / "README.md").read_text() for name in ("tiny", "tiny-instruct"))
    assert r'"content": "3 + \"4\"?"' in instruct
    assert "answered\n47 of 50 right; guessing gets 5.0%" in instruct
    assert r'tokenizer("Question: 3 + \"4\"?\nAnswer:\n", add_special_tokens=False' in base
    assert "answered\n3 of 50 right" in base
    run = write_small_run(tmp_path / "run")
    path = run / "09-scores" / "on-policy" / "scores.json"
    scores = json.loads(path.read_text())
    scores["samples"][0]["correct"] = False
    for row in scores["rows"]:
        row["value"] *= row["better"] == "lower"
    path.write_text(json.dumps(scores))
    card = card_of(run, "instruct", tmp_path / "card")
    assert "It answered none of the questions below right" in card
    path.unlink()
    card = card_of(run, "instruct", tmp_path / "card")
    assert "answered" not in card


def test_a_missing_stage_is_named_and_leaves_no_half_repo(tmp_path):
    run = write_small_run(tmp_path / "run")
    (run / "08-on-policy" / "config.json").unlink()
    with pytest.raises(HubError, match="08-on-policy: no model there"):
        publish_local(card_files(run), tmp_path / "hub", namespace="someone", name="tiny")
    assert not (tmp_path / "hub").exists()


def test_a_model_cut_short_is_not_published(tmp_path):
    run = write_small_run(tmp_path / "run")
    weights = run / "05-merged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(HubError, match=r"model\.safetensors: truncated"):
        publish_local(card_files(run), tmp_path / "hub", namespace="someone", name="tiny")


def test_a_models_answer_cannot_break_out_of_its_block(published):
    card = (published / "tiny-instruct" / "README.md").read_text()
    assert '````text\nuser: 3 + "4"?\nassistant: 7 ``` so\n````' in card


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (125_440, "125K"),
        (3_386_880, "3.39M"),
        (1_084_890_000_000, "1.08T"),
        (999_999, "1M"),
        (500, "500"),
        (40e9, "40B"),
    ],
)
def test_revision_names_have_one_form_from_a_laptop_to_a_cluster(tokens, text):
    assert short_count(tokens) == text
    for phase in ("7", "26-4k", "27"):
        assert parse_revision(revision_name(phase, 68_166, tokens)) == (phase, 68_166)


@pytest.mark.parametrize(
    "name", ["step3000", "phase7-step000001-tokens1K", "phase07-step1-tokens1K", "phase07-step000001"]
)
def test_other_forms_of_revision_names_are_refused(name):
    with pytest.raises(HubError, match="expected a name like phase07-step000245-tokens878K"):
        parse_revision(name)
