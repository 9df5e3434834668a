"""A chat with an instruct model, and the report of the run that it is from. It runs by itself, without yulanmini.

`space.json` beside it names the model on the Hub; the environment variable MODEL names another one, or a folder:

    MODEL=runs/tiny/08-on-policy python app.py
"""

import html
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import gradio as gr
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

HERE = Path(__file__).resolve().parent
SETTINGS = json.loads((HERE / "space.json").read_text(encoding="utf-8"))
# The visitor's own fonts: the page asks no other server for anything.
THEME = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


class Stopped(StoppingCriteria):
    """Ends the generation of an answer that nobody waits for any more."""

    def __init__(self) -> None:
        self.event = Event()

    def __call__(self, *_: Any, **__: Any) -> bool:
        return self.event.is_set()


def load_chat(name: str) -> Callable[..., Iterator[str]]:
    """The function that answers, with the model of a repo id or of a folder."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForCausalLM.from_pretrained(name).eval()
    context = model.config.max_position_embeddings

    def answer(
        message: str, history: list[dict[str, Any]], temperature: float, top_p: float, max_new_tokens: float
    ) -> Iterator[str]:
        """The answer so far, again and again, until it is whole."""
        most = min(int(max_new_tokens), context // 2)
        turns = [{"role": turn["role"], "content": text_of(turn["content"])} for turn in history]
        turns.append({"role": "user", "content": message})
        inputs = encode(turns)
        while len(turns) > 1 and inputs["input_ids"].shape[1] + most > context:
            turns = turns[2:]  # the oldest question and its answer
            inputs = encode(turns)
        if inputs["input_ids"].shape[1] + most > context:
            raise gr.Error(f"This is too long for the model: a question and its answer have {context} tokens.")
        # A greedy answer where the temperature is 0, as the model was scored.
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        stopped = Stopped()
        settings = {"max_new_tokens": most, "streamer": streamer, "stopping_criteria": StoppingCriteriaList([stopped])}
        problems: list[Exception] = []

        def generate() -> None:
            try:
                model.generate(**inputs, **settings, **(sampling or {"do_sample": False}))
            except Exception as problem:
                problems.append(problem)
                streamer.end()  # or the visitor would wait for ever

        thread = Thread(target=generate)
        thread.start()
        try:
            text = ""
            for piece in streamer:
                text += piece
                yield text
        finally:
            stopped.event.set()
            thread.join()
        if problems:
            raise gr.Error(f"The model failed: {problems[0]}")

    def encode(turns: list[dict[str, str]]) -> Any:
        return tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, return_tensors="pt")

    return answer


def text_of(content: Any) -> str:
    """The text of a turn, which gradio keeps as a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part if isinstance(part, str) else part.get("text", "") for part in content)


def build(answer: Callable[..., Iterator[str]]) -> gr.Blocks:
    """The page: a tab for the chat and, where there is a report, one for it."""
    with gr.Blocks(title=SETTINGS["title"], analytics_enabled=False, fill_height=True) as page:
        with gr.Tab("Chat"):
            # Shown by the chat, folded, not here where they are made.
            tokens, most = SETTINGS["tokens"], SETTINGS["most_tokens"]
            sampling = [
                gr.Slider(0, 1.5, 0, step=0.1, label="Temperature", info="0: the likeliest answer", render=False),
                gr.Slider(0.05, 1, 0.9, step=0.05, label="Top-p", info="where the temperature is not 0", render=False),
                gr.Slider(8, most, tokens, step=8, label="Longest answer", info="in tokens", render=False),
            ]
            gr.ChatInterface(
                answer,
                chatbot=gr.Chatbot(height="45vh", show_label=False, render=False),
                title=SETTINGS["title"],
                description=SETTINGS["description"],
                additional_inputs=sampling,
                additional_inputs_accordion=gr.Accordion("Sampling", open=False, render=False),
                examples=[[prompt] for prompt in SETTINGS["examples"]],
                example_labels=[" ".join(prompt.split()) for prompt in SETTINGS["examples"]],
                cache_examples=False,
                api_name="chat",
                autofocus=False,
                analytics_enabled=False,
            )
        report = HERE / "report.html"
        if report.is_file():
            with gr.Tab("Report"):
                # A page of its own inside the page: its scripts reach nothing else.
                page_of_report = html.escape(report.read_text(encoding="utf-8"), quote=True)
                style = "width: 100%; height: 85vh; border: 0"
                gr.HTML(f'<iframe srcdoc="{page_of_report}" sandbox="allow-scripts" style="{style}"></iframe>')
    return page


if __name__ == "__main__":
    build(load_chat(os.environ.get("MODEL") or SETTINGS["model"])).launch(theme=THEME, ssr_mode=False)
