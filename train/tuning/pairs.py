"""Preference pairs to rows: a prompt, a better and a worse answer, checked line by line, rendered, tokenised.

    {"prompt": [{"role": "user", "content": "..."}], "chosen": [{"role": "assistant", "content": "..."}],
     "rejected": [{"role": "assistant", "content": "..."}]}
    {"prompt": "...", "chosen": "...", "rejected": "..."}
    {"chosen": [... whole conversation ...], "rejected": [... the same but for the last answer ...]}

One a line, or all in one JSON list. Other keys are ignored.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, disable_progress_bars

from data_recipes.instruct.messages import Message, NotADialogue, check_messages
from train.errors import TrainError
from train.tuning.config import DpoConfig
from train.tuning.data import Encoded, held_out, training_order, write_encoded
from train.tuning.dialogues import Lines

PAIRS_SCHEMA = pa.schema([(name, pa.list_(pa.int32())) for name in ("prompt_ids", "chosen_ids", "rejected_ids")])
EXPECTED = (
    'Expected {"prompt": [messages], "chosen": [one answer], "rejected": [one answer]}, texts in their place, or whole '
    'conversations as "chosen" and "rejected" that differ in the last answer.'
)


def parse_pair(line: bytes, *, where: str) -> tuple[list[Message], Message, Message]:
    """Prompt, better and worse answer of one line; TrainError names what is wrong."""
    try:
        pair = json.loads(line)
        if not isinstance(pair, dict) or not {"chosen", "rejected"} <= pair.keys():
            found = ", ".join(pair) if isinstance(pair, dict) else type(pair).__name__
            raise NotADialogue(f"no 'chosen' and 'rejected'; found: {found}. {EXPECTED}", reason="no pair")
        prompt, chosen, rejected = parts_of(pair)
        for name, answer in (("chosen", chosen), ("rejected", rejected)):
            try:
                check_messages([*prompt, answer])
            except NotADialogue as error:
                raise NotADialogue(f"'prompt' and '{name}': {error}", reason=error.reason) from error
    except NotADialogue as error:
        raise TrainError(f"{where}: {error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{where}: not valid JSON ({error}).") from error
    if chosen["content"] == rejected["content"]:
        raise TrainError(f"{where}: 'chosen' and 'rejected' are the same text, so there is nothing to prefer.")
    return prompt, chosen, rejected


def parts_of(pair: dict[str, Any]) -> tuple[list[Message], Message, Message]:
    """Prompt and answers in any of the forms; the messages themselves are not checked yet."""
    prompt = pair.get("prompt")
    if prompt is None:
        chosen, rejected = pair["chosen"], pair["rejected"]
        if not (isinstance(chosen, list) and isinstance(rejected, list) and len(chosen) > 1):
            raise NotADialogue(f"no 'prompt', and 'chosen' is no whole conversation. {EXPECTED}", reason="no prompt")
        if chosen[:-1] != rejected[:-1]:
            raise NotADialogue(
                "without a 'prompt', 'chosen' and 'rejected' have to be the same up to their last answer; they differ "
                "before it.",
                reason="different prompts",
            )
        return chosen[:-1], chosen[-1], rejected[-1]
    prompt = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    return prompt, answer_of(pair, "chosen"), answer_of(pair, "rejected")


def answer_of(pair: dict[str, Any], name: str) -> Message:
    answer = pair[name]
    if not isinstance(answer, list):
        return {"role": "assistant", "content": answer}
    if len(answer) != 1 or not isinstance(answer[0], dict) or answer[0].get("role") != "assistant":
        roles = ", ".join(str(one.get("role")) if isinstance(one, dict) else type(one).__name__ for one in answer)
        raise NotADialogue(
            f"'{name}' has the roles [{roles}]; expected one message of the role 'assistant'.", reason="wrong roles"
        )
    return answer[0]


def encode_pairs(lines: Lines, *, tokenizer: Any, path: Path, max_length: int, over_long: str) -> Encoded:
    """Rows, counts, and the ids that end the answers.

    A pair with more than `max_length` tokens in either is dropped, or with `over_long="cut"` its answers are cut at
    the end; one whose answers are then empty or the same is dropped in any case.
    """
    pairs = [parse_pair(line, where=f"{path}, {place}") for place, line in lines]

    def rendered(conversations: list[list[Message]], **options: Any) -> list[list[int]]:
        return tokenizer.apply_chat_template(conversations, tokenize=True, return_dict=True, **options)["input_ids"]

    prompts = rendered([prompt for prompt, _, _ in pairs], add_generation_prompt=True)
    better = rendered([[*prompt, chosen] for prompt, chosen, _ in pairs])
    worse = rendered([[*prompt, rejected] for prompt, _, rejected in pairs])
    rows: dict[str, list[list[int]]] = {name: [] for name in PAIRS_SCHEMA.names}
    stop_ids: set[int] = set()
    counts: Counter = Counter(pairs=len(lines))
    for (place, _), prompt, *both in zip(lines, prompts, better, worse, strict=True):
        if any(whole[: len(prompt)] != prompt or len(whole) <= len(prompt) for whole in both):
            raise TrainError(
                f"{path}, {place}: the chat template does not put an answer right behind the prompt that it opens "
                "(add_generation_prompt), so that the model would be tuned on another text than it is asked with."
            )
        stop_ids |= {whole[-1] for whole in both}
        is_over_long = max(map(len, both)) > max_length
        chosen, rejected = (whole[len(prompt) : max_length] for whole in both)
        if (is_over_long and over_long == "drop") or not chosen or not rejected or chosen == rejected:
            counts["dropped"] += 1
            continue
        counts["truncated"] += is_over_long
        for name, ids in zip(rows, (prompt, chosen, rejected), strict=True):
            rows[name].append(ids)
        counts["tokens"] += 2 * len(prompt) + len(chosen) + len(rejected)
        counts["trained_tokens"] += len(chosen) + len(rejected)
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return (
        pa.record_batch([pa.array(ids, PAIRS_SCHEMA[0].type) for ids in rows.values()], PAIRS_SCHEMA),
        counts,
        (stop_ids & special),
    )


def write_pairs(
    path: Path, out: Path, *, tokenizer: Path, max_length: int, over_long: str, workers: int
) -> dict[str, Any]:
    """Tokenise every pair of `path` into the Arrow file `out`; returns what became of them (`write_encoded`)."""
    names = ("pairs", "truncated", "dropped", "tokens", "trained_tokens")
    settings = {"tokenizer": tokenizer, "path": path, "max_length": max_length, "over_long": over_long}
    return write_encoded(path, out, encode_pairs, settings, PAIRS_SCHEMA, counted=names, workers=workers)


def ordered_pairs(config: DpoConfig, path: Path) -> tuple[Dataset, np.ndarray, np.ndarray, Dataset | None]:
    """Pairs as in the file, their order (int64 [steps, batch_size]), tokens of each step, and those held out."""
    disable_progress_bars()
    pairs = Dataset.from_file(str(path))
    trained, kept = held_out(len(pairs), config.evaluation, seed=config.seed)
    evaluation = pairs.select(kept) if len(kept) else None
    if evaluation is not None:
        pairs = pairs.select(trained).flatten_indices()
    columns = (pc.list_value_length(pairs.data.column(name)).to_numpy() for name in PAIRS_SCHEMA.names)
    prompt, chosen, rejected = (lengths.astype(np.int64) for lengths in columns)
    lengths = 2 * prompt + chosen + rejected
    order = training_order(
        lengths,
        batch_size=config.batch_size,
        epochs=config.epochs,
        group_by_length=config.group_by_length,
        seed=config.seed,
    )
    return pairs, order, lengths[order].sum(axis=1), evaluation
