"""The prompts of the on-policy stage: read, checked for template and rewards, the over-long dropped, put in order.

    {"prompt": "2+2=?", "answer": "4"}
    {"messages": [{"role": "user", "content": "2+2=?"}], "answer": "4"}

One a line, or all in one JSON list; `prompt` may be messages too. What a reward needs is in further columns.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from tqdm import tqdm

from data_recipes.instruct.messages import ROLES, Message
from train.errors import TrainError
from train.tuning.data import training_order
from train.tuning.dialogues import lines_of
from train.tuning.rewards.base import Reward


def read_prompts(
    path: Path, tokenizer: Any, *, max_length: int, rewards: Sequence[Reward]
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows with `prompt`, `where` and `columns` (JSON of what rewards need), and what became of the lines."""
    rows: list[dict[str, Any]] = []
    counts: Counter = Counter(prompts=0, over_long=0, prompt_tokens=0)
    needed = dict.fromkeys(column for reward in rewards for column in reward.needs)
    with tqdm(desc="reading prompts", unit=" prompts", leave=False, delay=1) as bar:
        for lines in lines_of(path):
            found = [parse_prompt(line, f"{path}, {place}", rewards) for place, line in lines]
            ids = tokenizer.apply_chat_template(
                [messages for messages, _ in found], add_generation_prompt=True, return_dict=True
            )["input_ids"]
            for (place, _), (messages, columns), tokens in zip(lines, found, ids, strict=True):
                counts["prompts"] += 1
                if len(tokens) > max_length:
                    counts["over_long"] += 1
                    continue
                counts["prompt_tokens"] += len(tokens)
                kept = json.dumps({column: columns[column] for column in needed}, ensure_ascii=False)
                rows.append({"prompt": messages, "where": f"{path.name}, {place}", "columns": kept})
            bar.update(len(lines))
    if not rows:
        raise TrainError(
            f"{path}: no prompt to answer ({counts['prompts']} read, {counts['over_long']} of more than "
            f"max_prompt_length {max_length} tokens)."
        )
    return rows, dict(counts)


def parse_prompt(line: bytes, where: str, rewards: Sequence[Reward]) -> tuple[list[Message], dict[str, Any]]:
    """The messages and all columns of a line; TrainError names what is wrong with it."""
    try:
        columns = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{where}: not valid JSON ({error}).") from error
    if not isinstance(columns, dict):
        raise TrainError(f"{where}: expected an object with 'prompt' or 'messages', found {type(columns).__name__}.")
    messages = columns.get("messages") or columns.get("prompt")
    if isinstance(messages, str) and messages.strip():
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        found = ", ".join(columns) or "nothing"
        raise TrainError(f"{where}: neither 'prompt' (a text or messages) nor 'messages'; found: {found}.")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise TrainError(f"{where}: message {index} has no text in 'content'.")
        if message.get("role") not in ROLES:
            raise TrainError(
                f"{where}: message {index} has the role {message.get('role')!r}. Known: {', '.join(ROLES)}."
            )
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        said = messages[-1]["role"] if messages[-1]["content"].strip() else "nothing"
        raise TrainError(
            f"{where}: a prompt ends with the user's question, this one with '{said}'; the model gives the answer."
        )
    for reward in rewards:
        try:
            reward.check(columns)
        except ValueError as error:
            raise TrainError(f"{where}: {error}.") from error
    return [{"role": message["role"], "content": message["content"]} for message in messages], columns


def split_off(
    rows: list[dict[str, Any]], share: float, *, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows without a random share of them, and that share, each in the order of the file; at least one in each."""
    count = min(len(rows) - 1, max(1, round(share * len(rows))))
    if count < 1:
        raise TrainError(
            f"evaluation.share: {len(rows)} prompt cannot be split into some to learn from and some to ask."
        )
    chosen = set(np.random.default_rng([seed, 2]).permutation(len(rows))[:count].tolist())
    return (
        [row for number, row in enumerate(rows) if number not in chosen],
        [row for number, row in enumerate(rows) if number in chosen],
    )


def ordered_prompts(
    rows: list[dict[str, Any]], *, prompts_a_step: int, epochs: float, seed: int
) -> tuple[Dataset, int]:
    """The prompts of every step one after the other, each epoch in an order of its own; and the count of steps."""
    lengths = np.zeros(len(rows), dtype=np.int64)
    order = training_order(lengths, batch_size=prompts_a_step, epochs=epochs, group_by_length=1, seed=seed)
    return Dataset.from_list(rows).select(order.ravel()), len(order)


def stop_ids_of(tokenizer: Any, folder: Path) -> list[int]:
    """The tokens that end an answer: the template's end of turn, and the tokenizer's end of text.

    TrainError for a template that has none, or that begins no answer when it is asked to.
    """
    if not tokenizer.chat_template:
        raise TrainError(f"{folder}: the tokenizer has no chat template; add chat_template.jinja to its folder.")
    asked = [{"role": "user", "content": "x"}]

    def encode(messages: list[Message], **settings: Any) -> list[int]:
        return tokenizer.apply_chat_template(messages, return_dict=True, **settings)["input_ids"]

    begun = encode(asked, add_generation_prompt=True)
    if begun == encode(asked, add_generation_prompt=False):
        raise TrainError(f"{folder}: the chat template does not begin an answer where add_generation_prompt is set.")
    answered = encode([*asked, {"role": "assistant", "content": "x"}])
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends = [token for token in answered[len(begun) :] if token in special]
    if answered[: len(begun)] != begun or not ends:
        raise TrainError(
            f"{folder}: in the chat template an answer must follow what add_generation_prompt adds, and end in a "
            "special token; this one's does not, so the model could not learn when to stop."
        )
    return sorted({ends[0], tokenizer.eos_token_id} - {None})
