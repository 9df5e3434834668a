"""The Modelfile for Ollama says what the chat template says, or there is none."""

import json
import re
import shutil
from itertools import product
from pathlib import Path

import pytest
from model_folders import write_small
from transformers import AutoTokenizer

import data_recipes.tokens
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.ollama import modelfile, write_modelfile

OURS = (Path(data_recipes.tokens.__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nBe good.<|im_end|>\\n' }}{% endif %}" + CHATML
)
INST = (
    "{% for message in messages %}{% if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}"
    "{% else %}{{ message.content + eos_token }}{% endif %}{% endfor %}"
)


@pytest.fixture
def folder(tmp_path, tokenizer_dir):
    src = write_small(tmp_path / "model", vocab_size=600)
    for path in tokenizer_dir.iterdir():
        shutil.copy(path, src)
    return src


def with_template(folder, template):
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def in_go(template: str, messages: list[dict[str, str]]) -> str:
    """What Go's text/template makes of the few actions that are used: a range, a chain of ifs, the fields."""
    head, rest = template.split("{{ range .Messages }}")
    body, tail = rest.rsplit("{{ end }}", 1)
    text = head
    for message in messages:
        chain = re.search(r"{{ if eq .Role .*?{{ end }}", body, re.DOTALL)
        choices = dict(re.findall(r'if eq .Role "(\w+)" }}(.*?){{', chain[0], re.DOTALL))
        said = body.replace(chain[0], choices.get(message["role"], ""))
        text += said.replace("{{ .Content }}", message["content"])
    return text + tail


@pytest.mark.parametrize("template", [OURS, CHATML])
def test_the_go_template_says_what_the_chat_template_says(folder, template):
    words = modelfile(with_template(folder, template), "model.gguf")
    start = words.index('TEMPLATE """') + len('TEMPLATE """')
    go = words[start : words.index('"""', start)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for roles in product(("system", "user", "assistant"), repeat=3):
        messages = [{"role": role, "content": f"text {number}\nof {role}"} for number, role in enumerate(roles)]
        expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert in_go(go, messages) == expected.removeprefix("<s>")


def test_a_modelfile_names_file_stops_context_and_sampling(folder):
    with_template(folder, OURS)
    (folder / "generation_config.json").write_text(
        json.dumps({"temperature": 0.7, "top_p": None, "repetition_penalty": 1.1})
    )
    config = json.loads((folder / "config.json").read_text())
    lines = modelfile(folder, "my model.gguf").splitlines()
    assert lines[0] == "FROM ./my model.gguf"
    assert [line for line in lines if line.startswith("PARAMETER")] == [
        f"PARAMETER num_ctx {config['max_position_embeddings']}",
        'PARAMETER stop "<|eot_id|>"',
        'PARAMETER stop "</s>"',
        "PARAMETER temperature 0.7",
        "PARAMETER repeat_penalty 1.1",
    ]


def test_a_model_without_chat_template_goes_on_with_a_text(folder):
    assert 'TEMPLATE """{{ .Prompt }}"""\n' in modelfile(folder, "model.gguf")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (DEFAULT_SYSTEM, "differs for user"),
        (INST, "leaves out|differs for|before its text"),
        ("{% for m in messages %}{{ m.role + m.content }}{% endfor %}", "does not mark where an answer ends"),
        (OURS.replace("<|eot_id|>", '"""'), "means something else"),
        ("{{ raise_exception('no') }}", "refuses a plain conversation"),
        ("hello", "leaves out the text of the role system"),
    ],
)
def test_a_template_that_go_cannot_say_is_refused(folder, template, words):
    with pytest.raises(CheckpointError, match=words):
        modelfile(with_template(folder, template), "model.gguf")


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no tokenizer"):
        modelfile(write_small(tmp_path / "model"), "model.gguf")


def test_another_ones_modelfile_is_left_alone_and_ones_own_taken(folder, tmp_path):
    path = write_modelfile(folder, tmp_path / "model.gguf")
    assert write_modelfile(folder, tmp_path / "model.gguf") == path
    path.write_text("FROM llama3\n")
    with pytest.raises(CheckpointError, match="Modelfile: exists"):
        write_modelfile(folder, tmp_path / "model.gguf")
    assert path.read_text() == "FROM llama3\n"
    (tmp_path / "model.gguf").write_text("")
    with pytest.raises(CheckpointError, match=r"model\.gguf: exists"):
        write_modelfile(folder, tmp_path / "model.gguf")
