"""Files of dialogues, a dialogue a line or all in one JSON list, in the forms of data_recipes/instruct/messages.py."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from data_recipes.instruct.messages import Message, NotADialogue, dialogue_messages
from train.errors import TrainError

LINES_AT_ONCE = 512
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
        return dialogue_messages(json.loads(line))
    except NotADialogue as error:
        raise TrainError(f"{where}: {error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{where}: not valid JSON ({error}).") from error
