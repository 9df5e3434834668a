"""What each kind of card says: licences that follow from the text, machines, energy, models and data by themselves."""

import json
import re
import shutil

import pytest
import yaml
from made_text import make_documents, write_jsonl
from small_run import card_of, without_weights

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.synthesis.programs.run import ProgramsRequest, synthesize_programs
from hub_cards.cards.card import trace, write_card
from hub_cards.cards.licences import weights_licence
from hub_cards.cards.model_card import behind
from hub_cards.cards.settings import CardSettings
from hub_cards.checks.header import headers
from hub_cards.checks.subject import open_subject
from hub_cards.errors import HubError
from hub_cards.repos.run_files import RunFiles
from modeling_yulanmini.merge import merge


def header(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def text_of(*licences: str | None) -> list[dict]:
    return [{"name": f"text {number}", "licence": licence} for number, licence in enumerate(licences)]


@pytest.mark.parametrize(
    ("licences", "asked", "keys", "sentence"),
    [
        (("mit", "odc-by", "cc-by-sa-4.0"), None, "mit", "every source of the training text has an open licence"),
        (("mit",), "apache-2.0", "apache-2.0", "offers the weights under `apache-2.0`"),
        (("mit", "cc-by-nc-4.0"), None, "other", "carry the conditions .* text 1 \\(cc-by-nc-4.0\\)"),
        (("mit", "llama3.1"), None, "other", "text 1 \\(llama3.1\\)"),
        (("nvidia-license",), None, "other", "text 0 \\(nvidia-license\\)"),
        (("mit", None), None, "other", "none is known of some of the text: text 1\\."),
        (("mit", None), "mit", "mit", "No licence is known of text 1"),
        (("mit", "cc-by-nc-4.0"), "cc-by-nc-4.0", "cc-by-nc-4.0", "offers the weights under"),
        ((), None, "other", "No licence of the weights is known"),
        ((), "mit", "mit", "offers the weights under"),
        ((None,) * 9, None, "other", ", text 4 and others\\."),
    ],
)
def test_the_licence_of_weights_follows_from_that_of_the_text(licences, asked, keys, sentence):
    found = weights_licence(text_of(*licences), asked=asked)
    assert found.keys["license"] == keys
    assert re.search(sentence, found.sentences)
    assert (found.file is None) == (keys != "other")


@pytest.mark.parametrize(
    ("licences", "asked"),
    [
        (("cc-by-nc-4.0",), "mit"),
        (("cc-by-nc-nd-4.0",), "cc-by-nc-4.0"),
        (("llama3",), "apache-2.0"),
        (("cc-by-nc-4.0", "gemma"), "cc-by-nc-4.0"),
        (("mit",), "mitt"),
    ],
)
def test_no_licence_is_given_that_the_text_forbids(licences, asked):
    with pytest.raises(HubError, match=f"^licence '{asked}': "):
        weights_licence(text_of(*licences), asked=asked)


def test_weights_over_non_commercial_text_are_never_mit(small_run, tmp_path):
    run = without_weights(small_run, tmp_path / "run")
    for path in (run / "03-data").glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["sources"][0]["licence"] = "cc-by-nc-4.0"
        path.write_text(json.dumps(manifest))
    card = card_of(run, "base", tmp_path / "card")
    assert header(card)["license"] == "other"
    assert header(card)["license_link"] == "LICENSE"
    assert "web (cc-by-nc-4.0)" in card
    assert "web: cc-by-nc-4.0\n" in (tmp_path / "card" / "LICENSE").read_text()


def test_a_checkpoint_is_judged_by_what_it_had_read(small_run, tmp_path):
    run = without_weights(small_run, tmp_path / "run")
    path = run / "03-data" / "phase-02" / "manifest.json"
    path.write_text(
        path.read_text().replace('"licence": null', '"licence": "cc-by-nc-4.0"').replace("fedcba", "abcdef")
    )
    assert behind(["1", "2", "26-4k", "26"], "26") == ["1", "2", "26"]
    assert behind(["1", "2", "26-4k"], None) == ["1", "2", "26-4k"]
    for phase, found in (("1", False), ("2", True), ("26", True)):
        card = card_of(run, "checkpoint", tmp_path / phase, phase=phase, revision=f"phase{phase}")
        assert ("cc-by-nc-4.0" in card) == found


def test_sessions_of_a_run_add_up_on_its_card_and_what_was_not_measured_is_said(small_run, tmp_path):
    card = card_of(small_run, "base", tmp_path / "card")
    assert "| pretraining | 2 x Some CPU | 1 | not measured | 0.5 |" in card
    run = without_weights(small_run, tmp_path / "run")
    (run / "04-pretrain" / "hardware.json").unlink()
    assert "## Machines, time and energy\n\nNot measured." in card_of(run, "base", tmp_path / "other")


def test_a_model_by_itself_has_a_card_of_what_is_known_of_it(small_run, tmp_path):
    merge(small_run / "04-pretrain" / "models" / "phase-26", tmp_path / "merged", dtype="float32")
    folder = tmp_path / "repo"
    folder.mkdir()
    write_card(folder, CardSettings("model", "me/mine", licence="mit"), RunFiles(tmp_path, merged="merged"))
    card = (folder / "README.md").read_text()
    assert header(card)["license"] == "mit"
    assert "a merged model" in card
    assert "as stored, rounded: same most likely token | 100.00% |" in card
    assert trace(folder) == []
    (tmp_path / "merged" / "manifest.json").write_text('{"kind": "on-policy"}')
    write_card(folder, CardSettings("model", "me/mine"), RunFiles(tmp_path, merged="merged"))
    assert "a model tuned on its own answers." in (folder / "README.md").read_text()


def dataset(folder, source, pattern, kind, **more) -> str:
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("work", "manifest.json", "summary.json"))
    settings = CardSettings(kind, "me/mine", configs={"default": pattern}, **more)
    write_card(folder, settings, RunFiles(source, data="."))
    assert trace(folder) == []
    assert list(headers(open_subject(folder, repo_type="dataset"))) == []
    return (folder / "README.md").read_text()


def test_computed_problems_say_how_they_were_made(tmp_path):
    synthesize_programs(ProgramsRequest(count=30), tmp_path / "made")
    card = dataset(tmp_path / "repo", tmp_path / "made", "samples/*.parquet", "synthetic")
    assert "| accepted | 30 | 100.0% |" in card
    assert "nothing in them was written by a\nperson or by a model" in card
    assert header(card)["dataset_info"]["splits"][0]["num_examples"] == 30


def test_generated_documents_name_model_prompts_and_what_was_rejected(tmp_path):
    made = tmp_path / "made"
    synthesize_programs(ProgramsRequest(count=10), made)
    manifest, summary = (json.loads((made / name).read_text()) for name in ("manifest.json", "summary.json"))
    manifest["config"] = {"kind": "math-cot", "model": "some/Model-7B", "prompts": "0123456789abcdef01"}
    manifest["config"]["settings"] = {"temperature": 0.7, "max_tokens": 2048}
    manifest["inputs"] = {"web": "f" * 64}
    summary |= {"kind": "math-cot", "verdicts": {"accepted": 6, "rejected": 3, "failed": 1}}
    summary["reasons"] = [{"verdict": "rejected", "reason": "another answer than 7", "seeds": 3}]
    summary["examples"] = [{"text": "a private seed"}]
    del summary["levels"], summary["languages"]
    (made / "manifest.json").write_text(json.dumps(manifest))
    (made / "summary.json").write_text(json.dumps(summary))
    card = dataset(tmp_path / "repo", made, "samples/*.parquet", "synthetic", licence="cc-by-4.0")
    assert "written by the model some/Model-7B" in card
    assert "Prompts: `0123456789abcdef`" in card
    assert "| rejected | 3 | 30.0% |" in card
    assert "| rejected | another answer than 7 | 3 |" in card
    assert "| max tokens | 2048 |" in card
    assert "private seed" not in (tmp_path / "repo" / "provenance" / "summary.json").read_text()


def test_cleaned_text_says_what_was_dropped(tmp_path):
    documents = make_documents("web-en", 40)
    write_jsonl(tmp_path / "web.jsonl", [*documents, *documents[:10]])
    config = checked_config({"most_lost_of_a_source": 1.0, "steps": [{"step": "exact-duplicates"}]})
    clean(config, parse_inputs([f"web={tmp_path / 'web.jsonl'}"]), tmp_path / "cleaned")
    card = dataset(tmp_path / "repo", tmp_path / "cleaned", "kept/*.parquet", "cleaned")
    assert "of 50 documents 40 were kept (80.0%)" in card
    assert "| exact-duplicates | 50 | 10 | 40 |" in card
    assert "No step looked for passages of benchmarks" in card
