"""A file of dialogues to messages, in the four common forms: TRL's, ShareGPT's, Alpaca's, prompt and completion.

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
    {"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}
    {"instruction": "...", "input": "...", "output": "..."}
    {"prompt": "...", "completion": "..."}

One a line, or all in one JSON list. Other keys are ignored, and so are keys that are null.
"""

import json
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from train.errors import TrainError

ROLES = ("system", "user", "assistant", "tool")
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "observation": "tool"}
LINES_AT_ONCE = 512
Message = dict[str, Any]
Lines = list[tuple[str, bytes]]


def lines_of(path: Path) -> Iterator[Lines]:
    """The dialogues of a file with where each is (`line 3`), some hundred at a time; blank lines are left out."""
    with path.open("rb") as file:
        start = file.read(4096).lstrip()
        file.seek(0)
        if start.startswith(b"[") and path.suffix != ".jsonl":
            numbered = iter(entries_of(path))
        else:
            numbered = ((f"line {number}", line) for number, line in enumerate(file, start=1) if line.strip())
        while lines := list(islice(numbered, LINES_AT_ONCE)):
            yield lines


def entries_of(path: Path) -> Lines:
    """The entries of a file that is one JSON list, as Alpaca's and ShareGPT's own files are; it is read whole."""
    try:
        entries = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{path}: begins with '[' but is not a JSON list ({error}).") from error
    return [(f"entry {number}", json.dumps(entry).encode()) for number, entry in enumerate(entries, start=1)]


def parse_dialogue(line: bytes, *, where: str) -> list[Message]:
    """The messages of one line; TrainError names what is wrong."""
    try:
        dialogue = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{where}: not valid JSON ({error}).") from error
    messages = messages_of(dialogue, where)
    if not isinstance(messages, list) or not messages:
        raise TrainError(f"{where}: 'messages' is not a list with at least one message.")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise TrainError(f"{where}: message {index} has no text in 'content'.")
        if message.get("role") not in ROLES:
            raise TrainError(
                f"{where}: message {index} has the role {message.get('role')!r}. Known: {', '.join(ROLES)}."
            )
    if not any(message["role"] == "assistant" for message in messages):
        raise TrainError(f"{where}: no message of the role 'assistant', so there is nothing to learn from it.")
    return messages


def messages_of(dialogue: Any, where: str) -> Any:
    """What stands for the messages in any of the forms, not checked yet; TrainError where it has none of them."""
    given = {key for key, value in dialogue.items() if value is not None} if isinstance(dialogue, dict) else set()
    form = next((form for keys, form in FORMS.items() if given.issuperset(keys)), None)
    if form is not None:
        return form(dialogue)
    keys = list(dialogue) if isinstance(dialogue, dict) else []
    near = get_close_matches("messages", keys, n=1)
    found = f"did you mean '{near[0]}'?" if near else f"found: {', '.join(keys) or type(dialogue).__name__}."
    raise TrainError(
        f'{where}: no \'messages\'; {found} Expected {{"messages": [{{"role", "content"}}, ...]}}, '
        '{"conversations": [{"from", "value"}, ...]}, {"instruction", "input", "output"} or {"prompt", "completion"}.'
    )


def from_sharegpt(dialogue: dict[str, Any]) -> Any:
    """`conversations`, whose turns have `from` and `value`; some files have `role` and `content` there."""
    turns = dialogue["conversations"]
    if not isinstance(turns, list):
        return turns
    return [
        {"role": SHAREGPT_ROLES.get(turn["from"], turn["from"]), "content": turn.get("value")}
        if isinstance(turn, dict) and isinstance(turn.get("from"), str)
        else turn
        for turn in turns
    ]


def from_alpaca(dialogue: dict[str, Any]) -> list[Message]:
    """`instruction`, perhaps with an `input` below it or a `system` before it, and `output`."""
    question = dialogue["instruction"]
    if dialogue.get("input"):
        question = f"{question}\n\n{dialogue['input']}"
    turns = [("user", question), ("assistant", dialogue["output"])]
    if dialogue.get("system"):
        turns.insert(0, ("system", dialogue["system"]))
    return [{"role": role, "content": content} for role, content in turns]


def from_completion(dialogue: dict[str, Any]) -> list[Any]:
    """`prompt` and `completion`, each a text or a list of messages."""
    parts = (("user", dialogue["prompt"]), ("assistant", dialogue["completion"]))
    return [
        message
        for role, part in parts
        for message in (part if isinstance(part, list) else [{"role": role, "content": part}])
    ]


# The keys that a form is known by, in the order that decides where a line has several.
FORMS: dict[tuple[str, ...], Callable[[dict[str, Any]], Any]] = {
    ("messages",): lambda dialogue: dialogue["messages"],
    ("conversations",): from_sharegpt,
    ("instruction", "output"): from_alpaca,
    ("prompt", "completion"): from_completion,
}
