"""The Modelfile with which Ollama takes a GGUF file: its chat template in Go's form, where it stops, its context.

Go's template language cannot be asked to run Jinja. The pieces between which a template puts a message's text are
taken from what it renders, put together in Go's form, and checked on other conversations: a template that is not of
that form is refused, not approximated. Only white space around a text, which Jinja templates trim, stays as it is.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from modeling_yulanmini.checkpoint_reader import ModelFolder
from modeling_yulanmini.checkpoint_writer import new_path, refuse_used_destination
from modeling_yulanmini.configuration_yulanmini import CheckpointError

Messages = Sequence[Mapping[str, str]]
Render = Callable[[Messages, bool], str]
ROLES = ("system", "user", "assistant")
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")  # of generation_config.json
OLLAMA_NAMES = {"repetition_penalty": "repeat_penalty"}
FORM = "Ollama needs the same end after each message, and nothing but its role before its text"


def write_modelfile(src: str | os.PathLike[str], gguf_file: str | os.PathLike[str]) -> Path:
    """Write the Modelfile of the model in folder `src` beside its GGUF file, which need not be there yet; its path.

    Raises `CheckpointError` as `modelfile` does, for another model's Modelfile, and for a GGUF file that exists.
    """
    path = Path(gguf_file).with_name("Modelfile")
    words = modelfile(src, Path(gguf_file).name)
    refuse_used_destination(Path(gguf_file))
    if path.is_file() and path.read_text(encoding="utf-8") == words:  # of a run that was stopped
        return path
    with new_path(path) as unfinished:
        unfinished.write_text(words, encoding="utf-8")
    return path


def modelfile(src: str | os.PathLike[str], gguf_name: str) -> str:
    """The Modelfile of the model in folder `src`, for the file `gguf_name` beside it.

    Raises `CheckpointError` for a chat template that Go's form cannot say.
    """
    from transformers import AutoTokenizer

    folder = ModelFolder(src)
    try:
        tokenizer = AutoTokenizer.from_pretrained(src)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{src}: no tokenizer, so Ollama cannot be told how to prompt it. Add it first."
        ) from error
    bos = tokenizer.bos_token or ""
    stops = [tokenizer.eos_token] if tokenizer.eos_token else []
    template = "{{ .Prompt }}"  # a model without chat template goes on with a text
    if tokenizer.chat_template:

        def render(messages: Messages, add_generation_prompt: bool) -> str:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
            return text.removeprefix(bos)  # Ollama's tokenizer adds it

        try:
            before, end = pieces(render)
            check(render, before, end)
        except TemplateError as error:
            raise CheckpointError(f"{src}: its chat template refuses a plain conversation ({error}).") from error
        except ValueError as error:
            raise CheckpointError(f"{src}: its chat template cannot be put in Go's form: {error}. {FORM}.") from None
        template = in_go(before, end)
        stops = [end.strip(), *stops]
    lines = [
        f"FROM ./{gguf_name}",
        f'TEMPLATE """{template}"""',
        f"PARAMETER num_ctx {folder.config['max_position_embeddings']}",
    ]
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in dict.fromkeys(stops)]
    lines += [f"PARAMETER {OLLAMA_NAMES.get(name, name)} {value}" for name, value in sampling(folder.path).items()]
    return "\n".join(lines) + "\n"


def conversation(*roles: str) -> list[dict[str, str]]:
    """Messages whose texts occur in no template."""
    return [{"role": role, "content": f"\u2044{number}{role}{number}\u2044"} for number, role in enumerate(roles)]


def pieces(render: Render) -> tuple[dict[str, str], str]:
    """What stands before a message of each role, and what ends each."""
    messages = conversation("system", "user", "assistant")
    rest = render(messages, False)
    between = []
    for message in messages:
        head, text, rest = rest.partition(message["content"])
        if not text:
            raise ValueError(f"it leaves out the text of the role {message['role']}")
        between.append(head)
    end = rest
    if not end.strip():
        raise ValueError("it does not mark where an answer ends")
    heads = [between[0], *(head.removeprefix(end) for head in between[1:])]
    return dict(zip(ROLES, heads, strict=True)), end


def together(messages: Messages, before: Mapping[str, str], end: str, add_generation_prompt: bool) -> str:
    """What the Go form says."""
    text = "".join(before[message["role"]] + message["content"] + end for message in messages)
    return text + before["assistant"] if add_generation_prompt else text


def check(render: Render, before: Mapping[str, str], end: str) -> None:
    """Raise ValueError if the pieces say anything else than the template."""
    for roles in (
        ("user",),
        ("system", "user"),
        ("user", "assistant"),
        ("user", "assistant", "user"),
        ("system", "user", "assistant", "user", "assistant", "user"),
    ):
        messages = conversation(*roles)
        for add_generation_prompt in (False, True) if roles[-1] == "user" else (False,):
            if together(messages, before, end, add_generation_prompt) != render(messages, add_generation_prompt):
                raise ValueError(f"it differs for {', '.join(roles)}")
    for piece in (*before.values(), end):
        if "{{" in piece or "}}" in piece or '"""' in piece:
            raise ValueError(f"{piece!r} means something else in it")


def in_go(before: Mapping[str, str], end: str) -> str:
    """The template for Ollama: all messages, and the begin of the answer."""
    heads = "{{ else ".join(f'if eq .Role "{role}" }}}}{before[role]}' for role in ROLES)
    return (
        f"{{{{ range .Messages }}}}{{{{ {heads}{{{{ end }}}}{{{{ .Content }}}}{end}{{{{ end }}}}{before['assistant']}"
    )


def sampling(folder: Path) -> dict[str, Any]:
    """What generation_config.json says of drawing tokens."""
    path = folder / "generation_config.json"
    try:
        given = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise CheckpointError(f"{path}: is not JSON ({error}).") from error
    return {name: given[name] for name in SAMPLING if given.get(name) is not None}
