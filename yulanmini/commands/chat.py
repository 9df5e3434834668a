"""`yulanmini chat`: talk to a model in the terminal."""

import signal
from dataclasses import asdict
from typing import Annotated

import typer

from yulanmini.console import AsJson, emit_json, say
from yulanmini.errors import RunError
from yulanmini.run_layout import ON_POLICY

app = typer.Typer(add_completion=False)


@app.command(epilog=f'Example: yulanmini chat runs/tiny/{ON_POLICY} --prompt "What is the last digit of 4821?"')
def chat(
    model: Annotated[str, typer.Argument(help="Model folder, folder of a LoRA adapter, or Hub id.")],
    prompt: Annotated[
        str | None, typer.Option(help="Answer this and exit, instead of a conversation. Piped text does the same.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt, before all that is said.")] = None,
    as_chat: Annotated[
        bool | None,
        typer.Option("--chat/--continue", help="Answer, or continue the text.", show_default="what it was tuned for"),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 is greedy.", show_default="the model's generation config, else greedy")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from the likeliest tokens up to this share.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 512,
    seed: Annotated[int | None, typer.Option(help="Makes sampled answers repeatable.")] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="A conversation, line by line, also where stdin is piped.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto (float32 on CPU, bfloat16 on GPU), float32, ...")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model.")] = False,
    as_json: AsJson = False,
) -> None:
    """Talk to a model: its answers as they are written, with all that was said before.

    With --prompt, or with text piped in, one answer on stdout. A base model continues the text that it is given.
    """
    from transformers import set_seed
    from transformers.utils import logging

    from eval.model_loading import load_model
    from yulanmini.chat import session
    from yulanmini.chat.conversation import Conversation, Sampling

    question = session.one_question(prompt, interactive=interactive)
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    if as_json and question is None:
        raise RunError("--json: gives one answer; add --prompt TEXT, or pipe text in.")
    logging.disable_progress_bar()
    if question is None:
        say(f"Loading {model} ...")
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    conversation = Conversation(loaded, sampling=sampling, system=system, is_chat=as_chat)
    if seed is not None:
        set_seed(seed)
    if question is None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Ctrl-C stops an answer, this ends the chat
        say(session.greeting(conversation))
        code = session.talk(conversation)
        if code:
            raise typer.Exit(code)
        return
    answer = session.answer_once(conversation, question, show=not as_json)
    if as_json:
        told = {"model": loaded.provenance["name"], "is_chat": conversation.is_chat, "system": system}
        emit_json(told | {"prompt": question} | asdict(answer))
