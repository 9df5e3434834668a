"""llama.cpp itself, in the prebuilt binding, beside transformers: the chat template and the model of the miniature.

The template is rendered by transformers, by plain Jinja in the sandbox and with the settings that vLLM and SGLang
compile templates with, and by llama.cpp's own engine.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import jinja2
import jinja2.ext
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import AutoModelForCausalLM, AutoTokenizer

from modeling_yulanmini.gguf_export import export_gguf

xllamacpp = pytest.importorskip("xllamacpp")
MODEL = "06-sft"
ROLES = ("system", "user", "assistant", "tool")
PIECES = [
    *(" ", "\n", "\t", "\r", "\v", "\x1c", "\x85", "\xa0", "\u3000", "\u2028", "\ufeff", "\x00"),
    *("a", "Bé", "2", "你好", "，", "🦉", "👩‍👩‍👧", "e\u0301", "\u202e", "'", '"', "\\", "\\n"),
    *(
        "<s>",
        "</s>",
        "<|eot_id|>",
        "<|start_header_id|>system<|end_header_id|>",
        "{{ messages }}",
        "{% endfor %}",
        "{#",
    ),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=8).map("".join)
MESSAGES = st.lists(
    st.builds(lambda role, content: {"role": role, "content": content}, st.sampled_from(ROLES), TEXTS),
    min_size=1,
    max_size=5,
)


class LlamaCpp:
    """llama.cpp's server, in this process, asked over HTTP."""

    def __init__(self, model: Path) -> None:
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel = str(model), 512, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # its threads wait by spinning
        # By default keys and values are kept in float16, which alone moves log-probabilities by 0.003.
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.use_jinja, params.prefill_assistant, params.verbosity = True, False, -1
        self.server = xllamacpp.Server(params)

    def post(self, path: str, **body: object) -> dict:
        message = Request(self.server.listening_address + path, json.dumps(body).encode())
        with urlopen(message) as answer:
            return json.load(answer)

    def render(self, messages: list[dict], add_generation_prompt: bool) -> str:
        """The prompt, with the token that its tokenizer puts in front."""
        try:
            prompt = self.post("/apply-template", messages=messages, add_generation_prompt=add_generation_prompt)
        except HTTPError as error:
            return refusal(error.read().decode())
        return "<s>" + prompt["prompt"]


def refusal(words: object) -> str:
    """What a template that refuses says, without what an engine says around it."""
    found = re.findall(r"unknown role '[^']*'|the content of a message of the role '\w+' is not text", str(words))
    assert found, words
    return f"refused: {found[-1]}"  # llama.cpp shows the line of the template too


@pytest.fixture(scope="module")
def tokenizer(smoke_run):
    return AutoTokenizer.from_pretrained(smoke_run / MODEL)


@pytest.fixture(scope="module")
def llama_cpp(smoke_run, tmp_path_factory) -> Iterator[LlamaCpp]:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    export_gguf(smoke_run / MODEL, path, dtype="float32")
    running = LlamaCpp(path)
    yield running
    del running.server


def in_transformers(tokenizer, messages, add_generation_prompt):
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except jinja2.TemplateError as error:
        return refusal(error)


class Generation(jinja2.ext.Extension):
    """The marks that only trainers know: what is between them is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def in_jinja(tokenizer, messages, add_generation_prompt):
    def raise_exception(words):
        raise jinja2.TemplateError(words)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.globals["raise_exception"] = raise_exception
    template = environment.from_string(tokenizer.chat_template)
    try:
        return template.render(
            messages=messages, add_generation_prompt=add_generation_prompt, bos_token="<s>", eos_token="</s>"
        )
    except jinja2.TemplateError as error:
        return refusal(error)


@settings(max_examples=200)
@given(messages=MESSAGES, add_generation_prompt=st.booleans())
def test_the_chat_template_is_the_same_in_three_engines(tokenizer, llama_cpp, messages, add_generation_prompt):
    expected = in_transformers(tokenizer, messages, add_generation_prompt)
    assert expected.startswith("<s>")
    assert expected.count("<|end_header_id|>") >= len(messages) + add_generation_prompt
    assert in_jinja(tokenizer, messages, add_generation_prompt) == expected
    assert llama_cpp.render(messages, add_generation_prompt) == expected


@settings(max_examples=40)
@given(messages=MESSAGES, place=st.integers(0, 5), role=st.sampled_from(["", "User", "human", "function", "ipython"]))
def test_a_role_that_is_not_known_is_refused_in_three_engines(tokenizer, llama_cpp, messages, place, role):
    messages = [*messages[:place], {"role": role, "content": "hello"}, *messages[place:]]
    expected = f"refused: unknown role '{role}'"
    assert in_transformers(tokenizer, messages, True) == expected
    assert in_jinja(tokenizer, messages, True) == expected
    assert llama_cpp.render(messages, True) == expected


@pytest.mark.parametrize("content", [None, 5, ["a list"], {"a": "mapping"}])
def test_content_that_is_no_text_is_refused(tokenizer, content):
    messages = [{"role": "user", "content": content}]  # llama.cpp refuses it, or makes text of it, before the template
    expected = "refused: the content of a message of the role 'user' is not text"
    assert in_transformers(tokenizer, messages, True) == in_jinja(tokenizer, messages, True) == expected


def test_llama_cpp_writes_what_transformers_writes(smoke_run, tokenizer, llama_cpp):
    """From the messages to the tokens of a greedy answer: template, tokenizer and model at once."""
    model = AutoModelForCausalLM.from_pretrained(smoke_run / MODEL)
    for words in ("What is 12 + 30?", "谁在那里？", "def add(a, b):\n    return"):
        messages = [{"role": "system", "content": ""}, {"role": "user", "content": words}]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        expected = model.generate(ids, max_new_tokens=16, do_sample=False)[0, ids.shape[1] :].tolist()
        prompt = llama_cpp.render(messages, True).removeprefix("<s>")
        tokens = llama_cpp.post("/tokenize", content=prompt, add_special=True, parse_special=True)["tokens"]
        assert tokens == ids[0].tolist()
        answer = llama_cpp.post("/completion", prompt=prompt, n_predict=16, temperature=0.0, return_tokens=True)
        assert answer["tokens"] == expected[: len(answer["tokens"])]
        assert len(answer["tokens"]) == len(expected) - (expected[-1] == model.generation_config.eos_token_id)
        chat = llama_cpp.post("/v1/chat/completions", messages=messages, max_tokens=16, temperature=0.0)
        assert chat["usage"]["prompt_tokens"] == ids.shape[1]
        assert chat["choices"][0]["message"]["content"] == answer["content"]
