"""`yulanmini chat`: what a model is asked with, what is kept of a conversation, and how a terminal is answered."""

import io
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.model_loading import LoadedModel, load_model
from yulanmini import cli
from yulanmini.chat.conversation import Conversation, Sampling
from yulanmini.chat.session import one_question, talk
from yulanmini.errors import RunError
from yulanmini.run_layout import DPO, MERGED, ON_POLICY, SFT, TOKENIZER

GREEDY = Sampling(max_new_tokens=8)


@pytest.fixture(scope="module")
def instruct(smoke_run: Path) -> LoadedModel:
    return load_model(smoke_run / SFT, device="cpu")


@pytest.fixture(scope="module")
def base(smoke_run: Path) -> LoadedModel:
    return load_model(smoke_run / MERGED, device="cpu")


@pytest.fixture(scope="module")
def endless(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes thousands of tokens before it ends."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(smoke_run / TOKENIZER)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, initializer_range=0.3, **shape)
    config.eos_token_id = 2
    folder = tmp_path_factory.mktemp("endless")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    """Run the command with a terminal as stdin; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["yulanmini", "chat", *map(str, arguments)])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    try:
        return cli.main() or 0
    except SystemExit as stop:
        return int(stop.code or 0)


def lines(*said: str | type[BaseException]) -> Callable[[str], str]:
    """What stands in for the keyboard: lines, and keys that raise; at the end Ctrl-D."""
    left = iter([*said, EOFError])

    def read(prompt: str) -> str:
        line = next(left)
        if isinstance(line, str):
            return line
        raise line

    return read


def greedy_answer(loaded: LoadedModel, messages: list[dict[str, str]]) -> str:
    """transformers' own answer to messages, without anything of ours."""
    inputs = loaded.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    output = loaded.model.generate(**inputs, max_new_tokens=8, do_sample=False)
    return loaded.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_each_answer_is_that_of_transformers_to_all_that_was_said(instruct: LoadedModel) -> None:
    conversation = Conversation(instruct, sampling=GREEDY, system="Be brief.")
    messages = [{"role": "system", "content": "Be brief."}]
    for question in ("What is 3 + 4?", "And 5 + 6?"):
        messages.append({"role": "user", "content": question})
        pieces: list[str] = []
        answer = conversation.answer(question, pieces.append)
        assert answer.answer == "".join(pieces) == greedy_answer(instruct, messages)
        assert answer.new_tokens <= 8
        messages.append({"role": "assistant", "content": answer.answer})
    conversation.reset()
    again = conversation.answer("What is 3 + 4?", lambda piece: None)
    assert again.answer == messages[2]["content"]


def test_a_base_model_continues_each_text_on_its_own(base: LoadedModel) -> None:
    conversation = Conversation(base, sampling=GREEDY)
    assert not conversation.is_chat
    inputs = base.tokenizer("def add(a, b):", return_tensors="pt")
    expected = base.model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    for _ in range(2):
        answer = conversation.answer("def add(a, b):", lambda piece: None)
        assert answer.answer == base.tokenizer.decode(expected, skip_special_tokens=True)
    with pytest.raises(RunError, match="only continues text"):
        Conversation(base, sampling=GREEDY, system="Be brief.")
    assert Conversation(base, sampling=GREEDY, system="Be brief.", is_chat=True).is_chat


def test_the_oldest_turns_are_dropped_when_the_context_is_full(instruct: LoadedModel) -> None:
    conversation = Conversation(instruct, sampling=Sampling(max_new_tokens=100), system="Be brief.")
    words = "apple train cloud river " * 8
    dropped = []
    for number in range(6):
        answer = conversation.answer(f"{number}: {words}", lambda piece: None)
        assert answer.prompt_tokens + answer.new_tokens <= instruct.max_length
        dropped.append(answer.turns_dropped)
    assert dropped[0] == 0
    assert sum(dropped) > 0
    assert all(count % 2 == 0 for count in dropped)
    assert conversation.turns[0]["role"] == "user"
    assert conversation.turns[-2]["content"].startswith("5:")
    said = len(conversation.turns)
    with pytest.raises(RunError, match="no room for an answer"):
        conversation.answer(words * 40, lambda piece: None)
    assert len(conversation.turns) == said


def test_a_stopped_answer_is_kept_as_far_as_it_came(endless: Path) -> None:
    conversation = Conversation(load_model(endless, device="cpu"), sampling=Sampling(), is_chat=True)
    pieces: list[str] = []

    def write(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            raise KeyboardInterrupt

    answer = conversation.answer("Go on.", write)
    assert answer.ended == "stopped"
    assert 3 <= answer.new_tokens < 512
    assert conversation.turns[-1] == {"role": "assistant", "content": answer.answer}


def test_sampling_is_repeatable_by_its_seed_and_greedy_without(
    instruct: LoadedModel, smoke_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*options: str) -> str:
        asked = ["--prompt", "What is 3 + 4?", "--max-new-tokens", "24", "--json", *options]
        assert call(monkeypatch, smoke_run / SFT, *asked) == 0
        return json.loads(capsys.readouterr().out)["answer"]

    sampled = [said("--temperature", "1.5", "--seed", seed) for seed in ("1", "1", "2")]
    assert sampled[0] == sampled[1] != sampled[2]
    assert said() == said("--temperature", "0") == said("--temperature", "1.5", "--top-p", "0.000001")


def test_the_models_own_generation_config_decides_where_nothing_is_asked_for() -> None:
    from transformers import GenerationConfig

    own = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.95, top_k=20)
    kept = Sampling().applied_to(own)
    assert (kept.do_sample, kept.temperature, kept.top_p, kept.top_k) == (True, 0.6, 0.95, 20)
    assert not Sampling(temperature=0).applied_to(own).do_sample
    asked = Sampling(temperature=1.2).applied_to(own)
    assert (asked.temperature, asked.top_p, asked.top_k) == (1.2, 0.95, 20)
    assert own.temperature == 0.6
    assert not Sampling().applied_to(GenerationConfig()).do_sample


def test_lines_commands_and_interrupts(
    instruct: LoadedModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = Conversation(instruct, sampling=GREEDY)
    asked: list[str] = []
    answer = conversation.answer
    monkeypatch.setattr(conversation, "answer", lambda text, write: asked.append(text) or answer(text, write))
    keys = ["Hello", "", "Two \\", "lines", "/reste", "/help", " /usr/bin?", KeyboardInterrupt, "/reset"]
    assert talk(conversation, read=lines(*keys)) == 0
    assert asked == ["Hello", "Two \nlines", " /usr/bin?"]
    assert conversation.turns == []
    said = capsys.readouterr().err
    assert "Did you mean '/reset'?" in said
    assert "Ctrl-C again" in said
    assert talk(conversation, read=lines("Hello", "/exit", "never")) == 0
    assert talk(conversation, read=lines(KeyboardInterrupt, KeyboardInterrupt, "never")) == 130


def test_an_adapters_folder_answers_as_the_merged_model_does(
    smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = tmp_path / "base"
    shutil.copytree(smoke_run / MERGED, base)
    torch.manual_seed(0)
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    tuned.save_pretrained(tmp_path / "whole" / "adapter")
    tuned.merge_and_unload().save_pretrained(tmp_path / "whole")
    for file in (smoke_run / TOKENIZER).glob("*token*"):
        shutil.copy(file, tmp_path / "whole")
    asked = ["--prompt", "What is 3 + 4?", "--max-new-tokens", "12", "--chat", "--json"]
    answers = []
    for folder in ("whole", "whole/adapter", "base"):
        assert call(monkeypatch, tmp_path / folder, *asked) == 0
        answers.append(json.loads(capsys.readouterr().out)["answer"])
    assert answers[0] == answers[1] != answers[2]
    adapter = load_model(tmp_path / "whole" / "adapter", device="cpu")
    assert Conversation(adapter, sampling=GREEDY).is_chat
    shutil.rmtree(base)
    assert call(monkeypatch, tmp_path / "whole" / "adapter", *asked) == 2
    assert "holds the two in one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", " "], "--prompt: is empty"),
        (["--json"], "--json: gives one answer; add --prompt"),
        (["--prompt", "a", "--temperature", "-1"], "--temperature -1.0: expected 0 (greedy) or more"),
        (["--prompt", "a", "--temperature", "nan"], "--temperature nan: expected 0"),
        (["--prompt", "a", "--top-p", "1.5"], "--top-p 1.5: expected"),
        (["--prompt", "a", "--top-p", "0.5", "--temperature", "0"], "Leave one of them out"),
        (["--prompt", "a", "--max-new-tokens", "0"], "--max-new-tokens 0: expected 1 or more"),
        (["--prompt", "apple " * 900], "no room for an answer"),
    ],
)
def test_bad_requests_are_one_message_and_exit_2(
    smoke_run: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, smoke_run / SFT, *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_folder_of_models_names_them(
    smoke_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, smoke_run, "--prompt", "a") == 2
    assert f"Model folders in it: {MERGED}, {SFT}, {DPO}, {ON_POLICY}." in capsys.readouterr().err


def test_piped_text_is_one_question_and_a_script_of_lines_a_conversation(
    smoke_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(text: bytes, *options: str) -> str:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
        monkeypatch.setattr(sys, "argv", ["yulanmini", "chat", str(smoke_run / SFT), "--max-new-tokens", "8", *options])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0
        return capsys.readouterr().out

    once = said("两行\n3 + 4?\n".encode(), "--json")
    assert json.loads(once)["prompt"] == "两行\n3 + 4?"
    script = said(b"3 + 4?\n/reset\n3 + 4?\n", "--interactive")
    assert script == 2 * said(b"3 + 4?") + "\n"


@pytest.mark.parametrize(("text", "message"), [(b"\xff\xfe\x00", "not text in UTF-8"), (b" \n", "stdin: is empty")])
def test_piped_bytes_that_are_no_question_are_refused(
    text: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
    with pytest.raises(RunError, match=message):
        one_question(None, interactive=False)


@pytest.fixture
def terminal(endless: Path) -> Iterator[tuple[Any, int]]:
    """A chat in a terminal of its own: the process, and the terminal's other end."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "yulanmini.cli", "chat", str(endless), "--chat", "--max-new-tokens", "8000"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(end: int, wanted: str, seconds: float = 60) -> str:
    """What the terminal shows until `wanted` is part of it."""
    shown = ""
    deadline = time.monotonic() + seconds
    while not re.search(wanted, shown):
        if time.monotonic() > deadline or not select.select([end], [], [], 1)[0]:
            assert time.monotonic() < deadline, f"no {wanted!r} in {shown!r}"
            continue
        shown += os.read(end, 65536).decode(errors="replace")
    return shown


@pytest.mark.timeout(180)
def test_in_a_terminal_ctrl_c_stops_an_answer_and_ends_the_chat_the_second_time(terminal: tuple[Any, int]) -> None:
    process, end = terminal
    read_until(end, "> ")
    os.write(end, b"Go on.\n")
    read_until(end, r"Go on\.\r\n\S+")
    process.send_signal(2)
    read_until(end, r"stopped; Ctrl-C again[^\n]*\n[^\n]*> ")
    # readline shows its prompt before it waits: a signal in between is only seen at the next key.
    time.sleep(0.5)
    process.send_signal(2)
    assert process.wait(timeout=60) == 130
    rest = read_rest(end)
    assert "Traceback" not in rest
    assert "resumes" not in rest


@pytest.mark.timeout(180)
def test_in_a_terminal_ctrl_d_ends_with_0(terminal: tuple[Any, int]) -> None:
    process, end = terminal
    read_until(end, "> ")
    os.write(end, b"\x04")
    assert process.wait(timeout=60) == 0


@pytest.mark.timeout(180)
def test_sigterm_ends_a_chat_in_the_middle_of_an_answer(terminal: tuple[Any, int]) -> None:
    process, end = terminal
    read_until(end, "> ")
    os.write(end, b"Go on.\n")
    read_until(end, r"Go on\.\r\n\S+")
    process.terminate()
    assert process.wait(timeout=60) == -15


def read_rest(end: int) -> str:
    try:
        return os.read(end, 65536).decode(errors="replace")
    except OSError:  # the terminal went with its process
        return ""
