"""A dialogue to messages, in the four common forms, and what a dialogue must be for a model to learn from it.

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}     TRL
    {"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}         ShareGPT
    {"instruction": "...", "input": "...", "output": "..."}                                         Alpaca
    {"prompt": "...", "completion": "..."}                                                          prompt, completion

Other keys are ignored, and so are keys that are null. Files of dialogues for training are read by
train/tuning/dialogues.py, mixtures of data sets by this package; both ask here.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "observation": "tool"}
Message = dict[str, Any]
# Which roles may come after one, and first. A result of a tool may come with the question, or be asked for.
MAY_FOLLOW = {
    "": ("user", "system"),
    "system": ("user",),
    "user": ("assistant", "tool"),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


class NotADialogue(ValueError):
    """Why something is no dialogue, in a sentence; `reason` is a short phrase without values, to count by."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def dialogue_messages(dialogue: Any) -> list[Message]:
    """The messages of a dialogue in any of the forms, checked; `NotADialogue` says what is wrong."""
    messages = messages_of(dialogue)
    check_messages(messages)
    return messages


def check_messages(messages: Any) -> None:
    """`NotADialogue` unless these are messages that a model can learn from: texts of known roles, taking turns.

    After a system message, if there is one, users and the assistant alternate, a user first and an answer last; results
    of tools may come before an answer.
    """
    if not isinstance(messages, list) or not messages:
        raise NotADialogue("'messages' is not a list with at least one message.", reason="no messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            found = type(message.get("content") if isinstance(message, dict) else message).__name__
            raise NotADialogue(f"message {index} has no text in 'content' ({found}).", reason="content is not text")
        if message.get("role") not in ROLES:
            raise NotADialogue(
                f"message {index} has the role {message.get('role')!r}. Known: {', '.join(ROLES)}.",
                reason="unknown role",
            )
    if not any(message["role"] == "assistant" for message in messages):
        raise NotADialogue(
            "no message of the role 'assistant', so there is nothing to learn from it.", reason="no answer"
        )
    check_turns([message["role"] for message in messages])
    for index, message in enumerate(messages):
        if message["role"] in ("user", "assistant") and not message["content"].strip():
            raise NotADialogue(f"message {index} of the {message['role']} is empty.", reason="an empty message")


def check_turns(roles: Sequence[str], *, last: str = "assistant") -> None:
    """`NotADialogue` unless messages of these roles take turns: a user first, one of the role `last` at the end."""
    before = ""
    for index, role in enumerate(roles):
        if role not in MAY_FOLLOW[before]:
            after = f"after one of the {before}" if before else "first"
            expected = " or ".join(MAY_FOLLOW[before])
            raise NotADialogue(
                f"message {index} is of the {role}, {after}; expected one of the {expected} there.",
                reason=f"{role} {after}",
            )
        before = role
    if before != last:
        raise NotADialogue(
            f"the last message is of the {before}; expected one of the {last} at the end.", reason=f"ends with {before}"
        )


def messages_of(dialogue: Any) -> Any:
    """What stands for the messages in any of the forms, not checked yet; `NotADialogue` where it has none of them."""
    given = {key for key, value in dialogue.items() if value is not None} if isinstance(dialogue, dict) else set()
    form = next((form for keys, form in FORMS.items() if given.issuperset(keys)), None)
    if form is not None:
        return form(dialogue)
    keys = list(dialogue) if isinstance(dialogue, dict) else []
    near = get_close_matches("messages", keys, n=1)
    found = f"did you mean '{near[0]}'?" if near else f"found: {', '.join(keys) or type(dialogue).__name__}."
    raise NotADialogue(
        f'no \'messages\'; {found} Expected {{"messages": [{{"role", "content"}}, ...]}}, '
        '{"conversations": [{"from", "value"}, ...]}, {"instruction", "input", "output"} or {"prompt", "completion"}.',
        reason="no messages",
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
