"""The loss of a base model on what an assistant says, given what stands before it: how surprising a dialogue is.

As for scorers, a dialogue is scored in a shape that only its own length determines, so that it gets the same loss
whatever others it is scored with.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from data_recipes.cleaning.scorers import SHORTEST, WANTED_FILES
from data_recipes.errors import DataError, first_line
from data_recipes.files import sha256_once
from data_recipes.instruct.messages import Message
from data_recipes.manifest import fingerprint_of
from data_recipes.places import local_folder


def find_base_model(name: str, revision: str | None = None) -> tuple[Path, str]:
    """The folder of a causal model by folder or Hub id, and what names its content; `DataError` where it is none."""
    folder = local_folder(name, "model")
    if folder is not None:
        if revision is not None:
            raise DataError(f"{name}: a folder has no revision; leave `revision` out.")
        files = sorted(path for pattern in WANTED_FILES for path in folder.glob(pattern))
        fingerprint = fingerprint_of({path.name: sha256_once(path) for path in files})
    else:
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(WANTED_FILES)))
        except Exception as error:  # of several libraries
            raise DataError(f"{name}: cannot be fetched ({first_line(error)}). Give a folder with a copy.") from error
        fingerprint = f"{name}@{folder.name}"
    missing = [what for what in ("config.json", "tokenizer.json") if not (folder / what).is_file()]
    if missing or not any(folder.glob("*.safetensors")):
        raise DataError(f"{name}: no {' and no '.join(missing) or '*.safetensors'}; expected a causal language model.")
    return folder, fingerprint


class BaseModelLoss:
    """A causal model in memory, on a GPU where there is one."""

    def __init__(self, folder: Path, *, max_tokens: int, batch_tokens: int, dtype: Literal["float32", "bfloat16"]):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        import modeling_yulanmini  # noqa: F401  registers our architecture

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), use_safetensors=True)
        except Exception as error:
            raise DataError(f"{folder}: cannot be loaded ({first_line(error)}).") from error
        self.folder = folder
        self.model = model.to(self.device).eval()
        room = getattr(model.config, "max_position_embeddings", None) or max_tokens
        self.max_tokens = min(max_tokens, room)
        self.batch_tokens = batch_tokens

    def losses(self, dialogues: Sequence[Sequence[Message]]) -> list[tuple[int, float | None]]:
        """Of each dialogue its tokens, and the mean loss (nats) of those that the assistant says within the first
        `max_tokens`; None where none of these is."""
        encoded = [self._encode(messages) for messages in dialogues]
        by_length: dict[int, list[int]] = {}
        for number, (ids, _) in enumerate(encoded):
            by_length.setdefault(self._padded(len(ids)), []).append(number)
        found: list[tuple[int, float | None]] = [(0, None)] * len(dialogues)
        for length, numbers in sorted(by_length.items()):
            rows = max(1, self.batch_tokens // length)
            for start in range(0, len(numbers), rows):
                some = numbers[start : start + rows]
                filled = some + some[-1:] * (rows - len(some))
                for number, loss in zip(some, self._run([encoded[one] for one in filled], length), strict=False):
                    found[number] = (len(encoded[number][0]), loss)
        return found

    def _encode(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Ids as in pretraining (turns between empty lines, no chat template), and which of them are answers'."""
        start = self.tokenizer.bos_token_id
        ids = [] if start is None else [start]
        answers = [False] * len(ids)
        for number, message in enumerate(messages):
            said = message["content"] if number == 0 else f"\n\n{message['content']}"
            own = self.tokenizer(said, add_special_tokens=False)["input_ids"]
            ids += own
            answers += [message["role"] == "assistant"] * len(own)
        return ids, answers

    def _padded(self, tokens: int) -> int:
        length = SHORTEST
        while length < min(tokens, self.max_tokens):
            length *= 2
        return min(length, self.max_tokens)

    def _run(self, rows: Sequence[tuple[list[int], list[bool]]], length: int) -> list[float | None]:
        import torch

        cut = [(ids[:length], answers[:length]) for ids, answers in rows]
        ids = torch.tensor([row + [0] * (length - len(row)) for row, _ in cut], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row, _ in cut], device=self.device)
        wanted = torch.tensor([row + [False] * (length - len(row)) for _, row in cut], device=self.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        wanted = wanted[:, 1:]
        sums, counts = (losses * wanted).sum(1).tolist(), wanted.sum(1).tolist()
        found = [total / count if count else None for total, count in zip(sums, counts, strict=True)]
        if any(loss is not None and loss != loss for loss in found):
            raise DataError(f"{self.folder}: its loss is NaN. Is the dtype too narrow, or the file damaged?")
        return found
