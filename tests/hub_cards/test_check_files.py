"""What the check finds in files, cards, scores, numbers and rows, each corruption by itself."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file, save_file
from spoiling import bytes_of, file, first_number_changed, header, json_of, put, removed, words
from test_check import SECRET, assert_found, spoilt

from hub_cards.checks.check import check_repo
from hub_cards.errors import HubError

__all__ = ["spoilt"]
ROWS = "data/phase-01/rows-00000.arrow"
PARQUET = "data/phase-01/train-00000-of-00001.parquet"


def with_rows(*tables: pa.Table, end: bool = True, name: str = ROWS):
    """A file of Arrow batches instead of the rows."""

    def spoil(repo: Path) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table)
        content = sink.getvalue().to_pybytes()
        put(repo / name, content if end else content[:-8])

    return spoil


def table(rows: int = 4, **columns) -> pa.Table:
    ids = pa.FixedSizeListArray.from_arrays(pa.array(range(8 * rows), pa.int32()), 8)
    return pa.table({"input_ids": ids, "subset": pa.array([0] * rows, pa.int32()), **columns})


def secret_in_weights(repo: Path) -> None:
    weights = load_file(repo / "model.safetensors")
    (repo / "model.safetensors").unlink()
    save_file(weights, repo / "model.safetensors", metadata={"format": "pt", "note": SECRET})


def as_parquet(repo: Path) -> None:
    (repo / ROWS).unlink()
    pq.write_table(table(text=pa.array(["a", f"my key is {SECRET}", "b", None])), repo / "data/phase-01/rows.parquet")


def as_arrow(repo: Path) -> None:
    """The rows of a phase as `data build` leaves them, which a data set may hold too."""
    rows = pq.read_table(repo / PARQUET)
    (repo / PARQUET).unlink()
    with pa.OSFile(str(repo / ROWS), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)


FILES = {
    "a pickle by name": ("tiny", file("optimizer.pt", b"x"), "optimizer.pt", "can run code when it is loaded"),
    "a pickle by content": ("tiny", file("metrics.jsonl", pickle.dumps([1])), "metrics.jsonl", "a pickle, which runs"),
    "an old pickle": (
        "tiny",
        file("metrics.jsonl", pickle.dumps(os.system, 0)),
        "metrics.jsonl",
        "a pickle, which runs",
    ),
    "what torch.save writes": (
        "tiny",
        file("model.safetensors", b"PK\x03\x04data.pkl"),
        "model.safetensors",
        "a zip archive",
    ),
    "a program": ("tiny", file("scores.json", b"\x7fELF\x02"), "scores.json", "a program, whatever its name says"),
    "not on the list": ("tiny", file("deep/config.json", "{}"), "deep/config.json", "not on the list of files"),
    "stray beside branches": ("tiny", file("revisions/stray.json", "{}"), "revisions/stray.json", "not on the list"),
    "hidden": ("tiny", file(".netrc", "x"), ".netrc", "a hidden file"),
    "hidden among evidence": ("tiny", file("provenance/.x/a.json", "{}"), "provenance/.x/a.json", "a hidden file"),
    "by case only": ("tiny", file("Config.json", "{}"), "config.json", "differs from Config.json by case only"),
    "a long name": (
        "tiny",
        file(f"provenance/{'x' * 160}.json", "{}"),
        f"provenance/{'x' * 160}.json",
        "a name of 176",
    ),
    "a strange name": (
        "tiny",
        file("provenance/a:b.json", "{}"),
        "provenance/a:b.json",
        "cannot be held by every file",
    ),
    "changed since": (
        "tiny",
        bytes_of("metrics.jsonl", lambda text: text.replace(b"5.0", b"4.0")),
        "metrics.jsonl",
        "not the bytes that were recorded",
    ),
    "gone": ("tiny", removed("metrics.jsonl"), "metrics.jsonl", "missing, though manifest.json records it"),
    "added": ("tiny", file("LICENSE.md", "mine"), "LICENSE.md", "not recorded in manifest.json"),
    "an edited manifest": (
        "tiny",
        json_of("manifest.json", inputs={}),
        "manifest.json",
        "edited since it was written",
    ),
    "no manifest": ("tiny", removed("manifest.json"), "manifest.json", "missing or not to be read"),
    "a secret": (
        "tiny",
        file("training_config.yaml", f"name: x\ntoken: {SECRET}\n"),
        "training_config.yaml",
        "line 2 holds a Hugging Face token",
    ),
    "a secret in weights": ("tiny", secret_in_weights, "model.safetensors", "holds a Hugging Face token"),
    "a secret in the evidence": (
        "tiny",
        file("provenance/04-pretrain/x.json", json.dumps({"key": "AKIA" + "Q" * 16})),
        "provenance/04-pretrain/x.json",
        "holds an AWS key",
    ),
    "a secret in rows": (
        "tiny-data",
        with_rows(table(text=pa.array(["a", SECRET, "", "b"]))),
        ROWS,
        "holds a Hugging Face token",
    ),
    "a secret in nested rows": (
        "tiny-data",
        with_rows(table(documents=pa.array([[{"file": SECRET}]] * 4))),
        ROWS,
        "holds a Hugging Face token",
    ),
    "a secret in Parquet": ("tiny-data", as_parquet, "data/phase-01/rows.parquet", "holds a Hugging Face token"),
    "a secret in a schema": (
        "tiny-data",
        with_rows(table().replace_schema_metadata({"note": SECRET})),
        ROWS,
        "holds a Hugging Face token",
    ),
    "a folder of a machine": (
        "tiny",
        file("training_config.yaml", "dir: /home/alice/corpus\n"),
        "training_config.yaml",
        "mentions a folder of a machine: /home/alice/",
    ),
    "a folder in a config": (
        "tiny",
        json_of("generation_config.json", _from="/corpora/mine"),
        "generation_config.json",
        "names a folder of a machine: /corpora/mine",
    ),
    "a secret in a name": ("tiny", file(f"{SECRET}.json", "{}"), f"{SECRET}.json", "holds a Hugging Face token"),
    "evidence of no number": (
        "tiny",
        file("provenance/04-pretrain/more.json", "{}"),
        "provenance/04-pretrain/more.json",
        "no number is from it",
    ),
    "tokens without a word": (
        "tiny-data",
        with_rows(table(40)),
        ROWS,
        "holds the tokens 0 to 319, the tokenizer has 260",
    ),
    "a folder in rows": (
        "tiny-data",
        with_rows(table(documents=pa.array([[{"file": "/data/mine/a.jsonl"}]] * 4))),
        ROWS,
        "the column file names a folder of a machine: /data/mine/a.jsonl",
    ),
    "truncated Arrow": ("tiny-data", bytes_of(ROWS, lambda data: data[:-100]), ROWS, "cannot be read past row"),
    "Arrow cut between batches": ("tiny-data", with_rows(table(), end=False), ROWS, "no end marker"),
    "Arrow with more behind": ("tiny-data", bytes_of(ROWS, lambda data: data + b"more"), ROWS, "no end marker"),
    "fewer rows": (
        "tiny-data",
        with_rows(table(3)),
        "data/phase-01/manifest.json",
        "promises 4 rows, the files beside it hold 3",
    ),
    "other rows": (
        "tiny-data",
        with_rows(table(2), table(2)),
        ROWS,
        "not the bytes that data/phase-01/manifest.json records",
    ),
    "broken JSONL": ("tiny", file("metrics.jsonl", '{"a": 1}\n{"a": \n'), "metrics.jsonl", "cannot be read"),
}
CARDS = {
    "no card": (removed("README.md"), "missing; a repo needs a card"),
    "no metadata": (file("README.md", "# tiny\n"), "no metadata"),
    "a key twice": (words("README.md", "license: ", "license: mit\nlicense: "), "is there twice"),
    "a licence nearly": (header(license="apache2.0"), "the Hub does not know 'apache2.0'. Did you mean 'apache-2.0'?"),
    "other without a name": (header(license_name=None), "license: other needs 'license_name'"),
    "no licence": (header(license=None), "no 'license'"),
    "a link to another file": (
        header(license="other", license_name="mine", license_link="README.md"),
        "license_link 'README.md': expected LICENSE, LICENSE.md or a URL",
    ),
    "a link to no file": (
        header(license="other", license_name="mine", license_link="LICENSE.md"),
        "license_link: the repo has no file LICENSE.md",
    ),
    "a list of links": (
        header(license="other", license_name="mine", license_link=["LICENSE"]),
        "license_link ['LICENSE']: expected LICENSE",
    ),
    "a link for a licence that the Hub knows": (
        header(license="mit", license_link="https://example.org"),
        "license_link is for `license: other`",
    ),
    "a name of several words": (
        header(license="other", license_name="My Licence", license_link="https://example.org"),
        "license_name 'My Licence'; expected a word",
    ),
    "a language": (header(language=["en", "chinese"]), "language: the Hub does not know 'chinese'. Known: aa, ab,"),
    "a pipeline": (header(pipeline_tag="text_generation"), "Did you mean 'text-generation'?"),
    "a library": (header(library_name="transformer"), "Did you mean 'transformers'?"),
    "a relation": (header(base_model_relation="fine-tune"), "Did you mean 'finetune'?"),
    "a base without a namespace": (header(base_model="tiny"), "base_model: 'tiny' has no namespace"),
    "itself as its base": (
        header(base_model="someone/tiny-instruct"),
        "base_model someone/tiny-instruct is this repo itself",
    ),
    "an id that is none": (header(datasets=["a/b/c"]), "datasets: "),
    "a misspelt key": (header(pipline_tag="x"), "unknown key 'pipline_tag'. Did you mean 'pipeline_tag'?"),
    "old scores": (header(**{"model-index": []}), "is the Hub's old form of scores"),
    "an invented number": (first_number_changed, "99,345"),
    "an invented sentence": (words("README.md", "\n## ", "\nIt scores 97.3% on everything.\n\n## "), "97.3%"),
    "a number left out": (words("README.md", "12,345", ""), "12,345"),
}
NUMBERS = ("an invented number", "a number left out")
CONFIGS = {
    "of no file": ({"config_name": "x", "data_files": "data/phase-1/*.arrow"}, "no file matches data/phase-1/*.arrow"),
    "out of the repo": ({"config_name": "x", "data_files": "../secret.json"}, "leads out of the repo"),
    "a strange name": ({"config_name": "x y", "data_files": "README.md"}, "config_name 'x y'"),
    "without files": ({"config_name": "x"}, "no data_files"),
    "twice": ({"config_name": "phase-01", "data_files": "README.md"}, "'phase-01' is there twice"),
    "two defaults": ({"config_name": "x", "data_files": "README.md", "default": True}, "more than one default"),
    "rows twice": (
        {"config_name": "x", "data_files": PARQUET},
        f"{PARQUET} is in the configs 'phase-01' and 'x'",
    ),
    "rows in two splits": (
        {"config_name": "x", "data_files": [{"split": name, "path": PARQUET} for name in ("train", "test")]},
        "is in the splits train and test",
    ),
}


@pytest.mark.parametrize("corruption", FILES)
def test_a_corrupted_file_is_found(spoilt, corruption):
    name, spoil, place, message = FILES[corruption]
    repo = spoilt(name)
    if name == "tiny-data":
        as_arrow(repo)
    spoil(repo)
    assert_found(repo, place, message)
    assert not any(SECRET in finding.message for finding in check_repo(repo, generate=False))


@pytest.mark.parametrize("corruption", CARDS)
def test_a_wrong_card_is_found(spoilt, corruption):
    spoil, message = CARDS[corruption]
    repo = spoilt("tiny" if corruption in NUMBERS else "tiny-instruct")
    spoil(repo)
    assert_found(repo, "README.md", message)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_wrong_config_of_a_dataset_is_found(spoilt, config):
    entry, message = CONFIGS[config]
    repo = spoilt("tiny-data")
    configs = yaml.safe_load((repo / "README.md").read_text().split("---\n")[1])["configs"]
    header(configs=[*configs, entry])(repo)
    assert_found(repo, "README.md", message)


def test_rows_that_no_config_has_and_counts_that_are_not_theirs_are_found(spoilt):
    repo = spoilt("tiny-data")
    metadata = yaml.safe_load((repo / "README.md").read_text().split("---\n")[1])
    header(configs=metadata["configs"][1:])(repo)
    assert_found(repo, "README.md", f"no config has {PARQUET}: load_dataset would leave it out")
    header(configs=metadata["configs"], size_categories=["1M<n<10M"])(repo)
    assert_found(repo, "README.md", "size_categories: 1M<n<10M, but the files hold 16 rows")
    split = {"name": "train", "num_examples": 5, "num_bytes": 1}
    info = [{"config_name": "phase-01", "splits": [split], "download_size": 7}]
    header(**{**metadata, "dataset_info": info})(repo)
    assert_found(repo, "README.md", "dataset_info 'phase-01': train has num_examples 5, not 4")
    assert_found(repo, "README.md", "dataset_info 'phase-01': download_size 7, not")


def test_numbers_without_an_origin_and_scores_that_were_edited_are_found(spoilt, small_run):
    repo = spoilt("tiny")
    scores = json.loads((repo / "scores.json").read_text())
    scores["rows"][0]["value"] = 0.99
    put(repo / "scores.json", json.dumps(scores))
    assert_found(repo, "scores.json", "is none of the scores that the card is made from")
    put(repo / "provenance/09-scores/base/scores.json", json.dumps(scores))
    assert_found(repo, "README.md", "is not what the files in provenance/ give")
    shutil.rmtree(repo / "provenance")
    assert_found(repo, "provenance.json", "")
    (repo / "provenance.json").unlink()
    assert_found(repo, "provenance.json", "missing: nothing says where the numbers of the card are from")


def test_ones_own_token_is_found_whatever_its_form_and_in_any_file(spoilt, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "unusual-token-value")
    repo = spoilt("tiny-data")
    put(repo / "recipes" / "phase-01.yaml", "password: unusual-token-value\n")
    with_rows(table(text=pa.array(["a", "unusual-token-value", "b", "c"])))(repo)
    assert_found(repo, "recipes/phase-01.yaml", "holds your own access token")
    assert_found(repo, ROWS, "holds your own access token")


def test_the_account_and_the_machine_are_found_and_the_name_on_the_hub_is_not(spoilt, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "someone")
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-box-7")
    repo = spoilt("tiny")
    assert not any("account" in one.message for one in check_repo(repo, generate=False))
    put(repo / "training_config.yaml", "user: someone\n")
    assert_found(repo, "training_config.yaml", "holds the name of your account")
    put(repo / "training_config.yaml", "ran_on: gpu-box-7\n")
    assert_found(repo, "training_config.yaml", "holds the name of this machine")


def test_links_and_strange_files_are_found(spoilt):
    repo = spoilt("tiny")
    os.symlink("/etc/hostname", repo / "LICENSE.md")
    os.symlink("/etc", repo / "revisions")
    os.mkfifo(repo / "scores.yaml")
    assert_found(repo, "LICENSE.md", "a symbolic link")
    assert_found(repo, "revisions", "a symbolic link")
    assert_found(repo, "scores.yaml", "neither file nor folder")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dataset": {"id": "a/b", "task_id": "c"}, "value": "94 %"}, "the value '94 %' is not a number"),
        ({"dataset": {"id": "a/b"}, "value": 1}, "no dataset.task_id"),
        ({"datasets": {"id": "a/b", "task_id": "c"}, "value": 1}, "unknown key 'datasets'. Did you mean 'dataset'?"),
        ({"dataset": {"id": "a/b", "task_id": "c"}, "value": 1, "source": {"name": "x"}}, "a source needs its url"),
        ({"dataset": {"id": "a/b", "task_id": "c"}, "value": 1}, "the Hub has registered no benchmark a/b"),
        ({"dataset": {"id": "openai/gsm8k", "task_id": "gsm8k"}, "value": 1}, "of no score in scores.json"),
    ],
)
def test_results_that_the_hub_would_not_show_or_that_are_no_scores_are_found(spoilt, content, message):
    repo = spoilt("tiny")
    put(repo / ".eval_results" / "more.yaml", yaml.safe_dump([content]))
    assert_found(repo, ".eval_results/more.yaml", message)


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(HubError, match="no such folder"):
        check_repo(tmp_path / "gone")
