"""Each corruption of a repo is found by its check, at its place, in words that say what is wrong."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from spoiling import (
    FIRST,
    SECOND,
    bytes_of,
    file,
    json_of,
    put,
    removed,
    safetensors_header,
    shard,
    tensors,
    words,
)

from hub_cards.checks.check import CHECKS, check_repo, run_checks
from yulanmini.run_layout import card_files

Q0 = "model.layers.0.self_attn.q_proj.weight"
REPOS = ["tiny", "tiny-checkpoints", "tiny-instruct", "tiny-data"]
SECRET = "hf_" + "aB3" * 12
ROWS = "data/phase-01/rows-00000.arrow"


@pytest.fixture
def spoilt(published, tmp_path):
    """A copy of one of the published repos, whose files are the same ones until they are replaced."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(published / name, tmp_path / name, copy_function=os.link))

    return copy


def assert_found(repo: Path, place: str, message: str, **options) -> None:
    findings = check_repo(repo, **{"generate": False} | options)
    assert any(one.severity == "error" and one.place == place and message in one.message for one in findings), findings


@pytest.mark.parametrize("name", REPOS)
def test_a_sound_repo_has_no_finding_and_each_check_is_timed(published, small_run, name):
    report = run_checks(published / name, run=card_files(small_run))
    assert report.findings == []
    assert list(report.seconds) == [check.__name__ for check in CHECKS]


def no_weights(weights: dict[str, torch.Tensor]) -> None:
    weights[Q0][3, 1] = float("nan")


def infinity(weights: dict[str, torch.Tensor]) -> None:
    weights["model.norm.weight"][7] = float("-inf")


def overlap(content: dict) -> None:
    content[Q0]["data_offsets"] = [place - 64 for place in content[Q0]["data_offsets"]]


WEIGHTS = {
    "a NaN": ("tiny", tensors(no_weights), "model.safetensors", f"{Q0} holds NaN or infinity, first at [3, 1]"),
    "an infinity": ("tiny", tensors(infinity), "model.safetensors", "model.norm.weight holds NaN or infinity"),
    "a NaN in a branch": (
        "tiny-checkpoints",
        tensors(no_weights, f"{FIRST}/model.safetensors"),
        f"{FIRST}/model.safetensors",
        "holds NaN",
    ),
    "cut short": ("tiny", bytes_of("model.safetensors", lambda data: data[:-1]), "model.safetensors", "truncated: "),
    "cut in a branch": (
        "tiny-checkpoints",
        bytes_of(f"{SECOND}/model.safetensors", lambda data: data[:100]),
        f"{SECOND}/model.safetensors",
        "do not hold its header",
    ),
    "no safetensors": (
        "tiny",
        file("model.safetensors", b"\x08" + bytes(7) + b"notjson!"),
        "model.safetensors",
        "this is no safetensors file",
    ),
    "bytes behind": (
        "tiny",
        bytes_of("model.safetensors", lambda data: data + b"more"),
        "model.safetensors",
        "something was added behind its tensors",
    ),
    "overlapping": ("tiny", safetensors_header(overlap), "model.safetensors", " overlap"),
    "out of range": (
        "tiny",
        safetensors_header(lambda content: content[Q0].update(data_offsets=[-64, 64])),
        "model.safetensors",
        "no safetensors file",
    ),
    "a size that does not fit": (
        "tiny",
        safetensors_header(lambda content: content[Q0].update(shape=[999, 32])),
        "model.safetensors",
        "bytes for BF16 [999, 32]",
    ),
    "a tensor less": ("tiny", tensors(lambda all: all.pop(Q0)), "model.safetensors", f"lacks {Q0}"),
    "a tensor more": (
        "tiny",
        tensors(lambda all: all.update(extra=torch.ones(2))),
        "model.safetensors",
        "holds extra, which the config does not call for",
    ),
    "another shape": (
        "tiny",
        tensors(lambda all: all.update({"model.norm.weight": torch.ones(31, dtype=torch.bfloat16)})),
        "model.safetensors",
        "model.norm.weight is [31], the config calls for [32]",
    ),
    "another dtype": (
        "tiny",
        tensors(lambda all: all.update({Q0: all[Q0].float()})),
        "model.safetensors",
        "1 of F32; the config says bfloat16",
    ),
    "a changed hidden size": (
        "tiny",
        json_of("config.json", hidden_size=48),
        "config.json",
        "hidden_size is 48, the weights are of 32",
    ),
    "more layers": (
        "tiny",
        json_of("config.json", num_hidden_layers=10**9),
        "config.json",
        "num_hidden_layers is 1000000000, the weights are of 2",
    ),
    "a tied head of its own": (
        "tiny-checkpoints",
        tensors(lambda all: all.update({"lm_head.weight": all["model.embed_tokens.weight"] + 1})),
        "model.safetensors",
        "lm_head.weight differs from the embedding that it is tied to",
    ),
    "no weights": ("tiny", removed("model.safetensors"), "model.safetensors", "missing"),
    "a shard that is not there": (
        "tiny",
        shard(lambda repo, index: (repo / "model-00002-of-00002.safetensors").unlink()),
        "model-00002-of-00002.safetensors",
        "missing, though model.safetensors.index.json names it",
    ),
    "a tensor in no shard": (
        "tiny",
        shard(lambda repo, index: index["weight_map"].update(ghost="model-00001-of-00002.safetensors")),
        "model.safetensors.index.json",
        "ghost is in no shard",
    ),
    "a tensor not in the index": (
        "tiny",
        shard(lambda repo, index: index["weight_map"].pop(Q0)),
        "model.safetensors.index.json",
        f"{Q0} is in model-0000",
    ),
    "a wrong total": (
        "tiny",
        shard(lambda repo, index: index["metadata"].update(total_size=1)),
        "model.safetensors.index.json",
        "total_size 1, the shards hold",
    ),
    "shards over a single file": (
        "tiny",
        shard(lambda repo, index: put(repo / "model.safetensors", b"old")),
        "model.safetensors",
        "from_pretrained would load this one",
    ),
}
CODE = {
    "altered remote code": (
        "tiny-checkpoints",
        bytes_of("modeling_yulanmini.py", lambda code: code + b"\nprint('mine')\n"),
        "modeling_yulanmini.py",
        "not the installed package's file",
    ),
    "altered in a branch": (
        "tiny-checkpoints",
        bytes_of(f"{FIRST}/configuration_yulanmini.py", lambda code: b"import os\n" + code),
        f"{FIRST}/configuration_yulanmini.py",
        "not the installed package's file",
    ),
    "code of another": (
        "tiny",
        json_of("config.json", auto_map={"AutoModel": "other/repo--modeling_x.X"}),
        "config.json",
        "takes code from another repo",
    ),
    "code that is not there": (
        "tiny",
        json_of("config.json", auto_map={"AutoModel": "modeling_gone.X"}),
        "config.json",
        "no file modeling_gone.py",
    ),
    "an internal key": (
        "tiny",
        json_of("config.json", _attn_implementation_internal="some/kernel"),
        "config.json",
        "is an internal key that loads code",
    ),
    "a nested internal key": (
        "tiny",
        json_of("config.json", rope_parameters={"rope_type": "default", "x_internal": 1}),
        "config.json",
        "'x_internal' is an internal key",
    ),
    "trust": (
        "tiny",
        json_of("config.json", trust_remote_code=True),
        "config.json",
        "'trust_remote_code' has no place",
    ),
    "code of a tokenizer": (
        "tiny",
        json_of("tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}),
        "tokenizer_config.json",
        "'auto_map' loads or trusts code",
    ),
    "two dtypes": (
        "tiny",
        json_of("config.json", torch_dtype="float16"),
        "config.json",
        "says both bfloat16 and float16",
    ),
    "a generation config that is none": (
        "tiny",
        json_of("generation_config.json", max_new_tokens=-5),
        "generation_config.json",
        "transformers does not take it",
    ),
    "no JSON": ("tiny", file("config.json", "{"), "config.json", "not valid JSON"),
    "a key twice": (
        "tiny",
        file("generation_config.json", '{"a": 1, "a": 2}'),
        "generation_config.json",
        "there twice",
    ),
}


def more_tokens(repo: Path) -> None:
    content = json.loads((repo / "tokenizer.json").read_text())
    known = content["added_tokens"][0]
    for number in range(260, 289):
        content["added_tokens"].append({**known, "id": number, "content": f"<extra {number}>", "special": False})
    put(repo / "tokenizer.json", json.dumps(content))


TOKENIZERS = {
    "larger than the vocabulary": ("tiny", more_tokens, "tokenizer.json", "gives the id 288 ('<extra 288>')"),
    "not there": ("tiny-instruct", removed("tokenizer.json"), "tokenizer.json", "missing"),
    "broken": ("tiny", file("tokenizer.json", "{}"), "tokenizer.json", "cannot be loaded"),
    "another end": (
        "tiny",
        json_of("config.json", eos_token_id=7),
        "config.json",
        "eos_token_id 7, the tokenizer's is 2 ('</s>')",
    ),
    "an end outside": (
        "tiny",
        json_of("generation_config.json", eos_token_id=[2, 288]),
        "generation_config.json",
        "eos_token_id 288 is no id of the vocabulary",
    ),
    "a broken template": (
        "tiny-instruct",
        file("chat_template.jinja", "{% for message in messages %}{{ message"),
        "chat_template.jinja",
        "the chat template does not render 1 message(s)",
    ),
    "a template that raises": (
        "tiny-instruct",
        words(
            "chat_template.jinja",
            "{% for",
            "{% if messages | length > 1 %}{{ raise_exception('no') }}{% endif %}{% for",
        ),
        "chat_template.jinja",
        "does not render 4 message(s) (no)",
    ),
    "two templates": (
        "tiny-instruct",
        json_of("tokenizer_config.json", chat_template="{{ messages }}"),
        "tokenizer_config.json",
        "its chat_template is not that of chat_template.jinja",
    ),
    "an unsafe template": (
        "tiny-instruct",
        file("chat_template.jinja", "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        "chat_template.jinja",
        "the chat template does not render",
    ),
    "a template that leaves words out": (
        "tiny-instruct",
        words("chat_template.jinja", "message['content']", "message['role']"),
        "chat_template.jinja",
        "the chat template leaves out 'What is 3 + 4?'",
    ),
    "a template without a prompt": (
        "tiny-instruct",
        words("chat_template.jinja", "<|assistant|>", ""),
        "chat_template.jinja",
        "adds nothing for add_generation_prompt",
    ),
    "another in one branch": (
        "tiny-checkpoints",
        words(f"{SECOND}/tokenizer.json", '"<unk>"', '"<odd>"'),
        f"{SECOND}/tokenizer.json",
        "differs from that of",
    ),
}


def another_phase(repo: Path) -> None:
    put(repo / SECOND / "model.safetensors", (repo / FIRST / "model.safetensors").read_bytes())


def swapped(repo: Path) -> None:
    one, other = ((repo / place / "model.safetensors").read_bytes() for place in (FIRST, SECOND))
    put(repo / FIRST / "model.safetensors", other)
    put(repo / SECOND / "model.safetensors", one)


def entry_changed(**changes) -> None:
    def spoil(repo: Path) -> None:
        index = json.loads((repo / "checkpoints.json").read_text())
        index["branches"][0] |= changes
        put(repo / "checkpoints.json", json.dumps(index))

    return spoil


BRANCHES = {
    "weights of another phase": (
        "tiny-checkpoints",
        another_phase,
        SECOND,
        f"has the weights of {FIRST.partition('/')[2]}: one of the two shows another phase's",
    ),
    "main of another phase": (
        "tiny-checkpoints",
        lambda repo: put(repo / "model.safetensors", (repo / FIRST / "model.safetensors").read_bytes()),
        "checkpoints.json",
        "the weights of main are not those of that branch",
    ),
    "no index": (
        "tiny-checkpoints",
        removed("checkpoints.json"),
        "checkpoints.json",
        "missing, and there are 4 branches",
    ),
    "a branch that is not there": (
        "tiny-checkpoints",
        lambda repo: shutil.rmtree(repo / FIRST),
        "checkpoints.json",
        f"names the branch {FIRST.partition('/')[2]}, which has no folder",
    ),
    "a branch of another name": (
        "tiny-checkpoints",
        lambda repo: (repo / FIRST).rename(repo / "revisions" / "step35"),
        "checkpoints.json",
        "revision 'step35': expected a name like",
    ),
    "another step": ("tiny-checkpoints", entry_changed(step=36), "checkpoints.json", "its name says 35"),
    "other tokens": ("tiny-checkpoints", entry_changed(tokens=1), "checkpoints.json", "its name says otherwise"),
    "another context": ("tiny-checkpoints", entry_changed(context=32), "checkpoints.json", "its config says 64"),
    "another architecture": (
        "tiny-checkpoints",
        json_of(f"{SECOND}/config.json", rms_norm_eps=1e-3),
        f"{SECOND}/config.json",
        "rms_norm_eps is 0.001, in",
    ),
    "a certificate of other weights": (
        "tiny",
        tensors(lambda all: all[Q0].mul_(2)),
        "merge_certificate.json",
        "is of another model.safetensors",
    ),
}
CORRUPTIONS = {
    f"{subject}: {name}": row
    for subject, table in (("weights", WEIGHTS), ("code", CODE), ("tokenizer", TOKENIZERS), ("branches", BRANCHES))
    for name, row in table.items()
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corrupted_model_is_found(spoilt, corruption):
    name, spoil, place, message = CORRUPTIONS[corruption]
    repo = spoilt(name)
    spoil(repo)
    assert_found(repo, place, message)


def test_weights_that_two_branches_have_swapped_are_found_with_the_run(spoilt, small_run):
    repo = spoilt("tiny-checkpoints")
    swapped(repo)
    assert_found(repo, f"{FIRST}/model.safetensors", "not the file that the run's", run=card_files(small_run))


def test_a_model_that_cannot_be_asked_is_found_by_asking_it(spoilt):
    repo = spoilt("tiny")
    tensors(lambda weights: weights["model.norm.weight"].fill_(3e38))(repo)
    assert_found(repo, "config.json", "gives NaN or infinity for 'The tide comes in'", generate=True)
    [said] = [one for one in check_repo(repo, generate=False) if "generate" in one.message]
    assert (said.severity, said.message) == ("warning", "no model was asked to generate (--skip-generation)")


def test_a_check_that_a_file_breaks_is_an_error_and_the_others_go_on(spoilt, monkeypatch):
    def headers(repo):
        raise RecursionError("deep")

    monkeypatch.setattr("hub_cards.checks.check.CHECKS", (headers, *CHECKS[:2]))
    repo = spoilt("tiny")
    put(repo / "optimizer.pt", b"x")
    assert_found(repo, ".", "the check 'headers' could not be finished (RecursionError: deep)")
    assert_found(repo, "optimizer.pt", "not on the list of files of a model repo")
