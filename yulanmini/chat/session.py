"""The terminal's side of a chat: lines in, commands, answers out as they are written, Ctrl-C and Ctrl-D."""

import re
import sys
from collections.abc import Callable
from contextlib import suppress

from data_recipes.errors import nearest
from yulanmini.chat.conversation import Answer, Conversation
from yulanmini.console import say
from yulanmini.errors import RunError

COMMANDS = {
    "/reset": "forget what was said so far (the system prompt stays)",
    "/help": "show this",
    "/exit": "end, as Ctrl-D does",
}
HELP = "\n".join(
    [
        *(f"  {name:<8} {meaning}" for name, meaning in COMMANDS.items()),
        r"  A line that ends in \ goes on in the next one. Ctrl-C stops an answer; pressed again, it ends the chat.",
    ]
)
# What a model writes may hold any bytes; a terminal obeys some of them.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def one_question(prompt: str | None, *, interactive: bool) -> str | None:
    """The text to answer once: the prompt, or what is piped in; None for a conversation."""
    if prompt is not None:
        question, place = prompt, "--prompt"
    elif interactive or sys.stdin.isatty():
        return None
    else:
        place = "stdin"
        try:
            question = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as error:
            raise RunError(
                f"stdin: not text in UTF-8 (byte {error.start}). Pipe a text in, or give --prompt."
            ) from error
    if not question.strip():
        raise RunError(f"{place}: is empty. Give --prompt TEXT, or pipe a text in; at a terminal, neither is needed.")
    return question.rstrip("\n")


def greeting(conversation: Conversation) -> str:
    """What is talked to, and how."""
    about = conversation.loaded.provenance
    what = "" if conversation.is_chat else ", a base model: it continues your text and remembers nothing"
    return (
        f"{about['name']}: {about['parameters']:,} parameters, {about['dtype']} on {about['device']}{what}. "
        "/help shows the commands; Ctrl-D ends."
    )


def write_piece(text: str) -> None:
    """A piece of an answer on stdout, at once; on a terminal without control characters."""
    print(CONTROL.sub("", text) if sys.stdout.isatty() else text, end="", flush=True)


def note_on(answer: Answer) -> str | None:
    """What the person should know about an answer, if anything."""
    if answer.ended == "stopped":
        return "(stopped; Ctrl-C again ends the chat)"
    if answer.ended == "limit":
        return f"(cut after {answer.new_tokens:,} tokens)"
    return None


def say_dropped(conversation: Conversation, answer: Answer) -> None:
    if answer.turns_dropped:
        say(
            f"(the context of {conversation.loaded.max_length:,} tokens is full: "
            f"the oldest {answer.turns_dropped} turns are forgotten)"
        )


def answer_once(conversation: Conversation, prompt: str, *, show: bool) -> Answer:
    """One answer, on stdout if `show`. KeyboardInterrupt where it was stopped, after what was written."""
    if not conversation.is_chat:
        say(f"({conversation.loaded.provenance['name']} is a base model: it continues the text)")
    answer = conversation.answer(prompt, write_piece if show else lambda piece: None)
    if show:
        print(flush=True)
    if answer.ended == "stopped":
        raise KeyboardInterrupt
    if answer.ended == "limit":
        say(f"(cut after {answer.new_tokens:,} tokens; --max-new-tokens allows more)")
    return answer


def ask(prompt: str) -> str:
    """A line of stdin, asked for with a prompt where somebody sees it."""
    return input(prompt if sys.stdin.isatty() else "")


def talk(conversation: Conversation, *, read: Callable[[str], str] = ask) -> int:
    """Answer line by line until Ctrl-D or /exit (exit code 0), or a second Ctrl-C (130).

    `read` asks for a line with a prompt; EOFError ends, as `input` does it.
    """
    with suppress(ImportError):
        import readline  # noqa: F401  (gives `input` a history and keys to edit with)
    interrupts = 0
    while True:
        try:
            line = read_message(read)
        except EOFError:
            print(flush=True)
            return 0
        except KeyboardInterrupt:
            interrupts += 1
            print(flush=True)
            if interrupts > 1:
                return 130
            say("(Ctrl-C again, or Ctrl-D, ends the chat)")
            continue
        interrupts = 0
        if not line.strip():
            continue
        word = line.split()[0]
        if word == "/exit":
            return 0
        if word == "/reset":
            conversation.reset()
            say("(forgotten)")
        elif word == "/help":
            say(HELP)
        elif re.fullmatch(r"/\w+", word) and not line[0].isspace():
            say(f"no command '{word}'.{nearest(word, COMMANDS)} A message may begin with / after a space.")
        else:
            interrupts += converse(conversation, line)


def converse(conversation: Conversation, line: str) -> bool:
    """One exchange; whether the answer was stopped. What cannot be asked is said, and the chat goes on."""
    try:
        answer = conversation.answer(line, write_piece)
    except RunError as error:
        say(f"error: {error}")
        return False
    print(flush=True)
    say_dropped(conversation, answer)
    note = note_on(answer)
    if note:
        say(note)
    return answer.ended == "stopped"


def read_message(read: Callable[[str], str]) -> str:
    r"""A line, and the next ones where it ends in \."""
    line = read("> ")
    while line.endswith("\\"):
        line = line[:-1] + "\n" + read(". ")
    return line
