"""A series of checkpoints measured one after the other into a folder: `dynamics.jsonl`, one row a checkpoint.

The same command goes on after a kill, and with more checkpoints it adds theirs: a row is kept by what its checkpoint
is (the fingerprint of config and weights), and the folder by the text and how it was cut into rows.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from data_recipes.corpus.domain_texts import in_turn, texts_by_domain
from data_recipes.errors import DataError
from data_recipes.files import only_process, write_whole
from data_recipes.machine import peak_memory
from data_recipes.manifest import claim_folder, fingerprint_of, folder_state, sha256_file
from modeling_yulanmini.checkpoint_reader import TOKENIZER_NAME
from train.dynamics.checkpoints import Checkpoint, Reference, local_copy, open_folder, resolve
from train.dynamics.measures import measure
from train.dynamics.streaming import StreamedModel
from train.errors import TrainError

KIND = "dynamics"
ROWS_NAME = "dynamics.jsonl"
DOWNLOADS = ".downloads"
# Enough characters for a token in any tokenizer: how much of a long text is tokenised at all.
BYTES_PER_TOKEN = 16


@dataclass(frozen=True)
class TextRows:
    """The text of a series and how it becomes rows: `tokens` in all, in rows of `context` (or the model's, if less).

    Documents of the domains in turn, each ended by the end-of-text token, cut into full rows as in pretraining; the
    rows are the same for all checkpoints of one tokenizer.
    """

    place: Path
    tokens: int = 8192
    context: int = 4096

    def __post_init__(self) -> None:
        if self.tokens < 2 or self.context < 2:
            raise TrainError(f"tokens {self.tokens}, context {self.context}: expected at least 2 of each.")

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        return texts_by_domain(self.place, bytes_per_domain=self.tokens * BYTES_PER_TOKEN)

    def identity(self) -> dict[str, Any]:
        return {"text": fingerprint_of(self.texts), "tokens": self.tokens, "context": self.context}

    def input_ids(self, checkpoint: Checkpoint, tokenizer: Path | None) -> torch.Tensor:
        """int64 [rows, context] by the checkpoint's own tokenizer, or the one given."""
        folder = tokenizer or checkpoint.tokenizer
        if folder is None or not (folder / TOKENIZER_NAME).is_file():
            raise TrainError(f"{checkpoint.name}: has no {TOKENIZER_NAME}. Give a folder that has, with --tokenizer.")
        try:
            encoder = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise TrainError(f"{folder / TOKENIZER_NAME}: not a usable tokenizer ({error}).") from error
        end = checkpoint.config.eos_token_id
        ends = [] if end is None else [end[0] if isinstance(end, list) else end]
        limit = int(getattr(checkpoint.config, "max_position_embeddings", 0) or self.context)
        width = min(self.context, limit, self.tokens)
        wanted = max(1, self.tokens // width) * width
        stream: list[int] = []
        for text in in_turn(self.texts):
            stream += [*encoder.encode(text, add_special_tokens=False).ids, *ends]
            if len(stream) >= wanted:
                break
        # A text shorter than a row is a shorter row.
        width = min(width, len(stream))
        rows = min(wanted, len(stream)) // width if width else 0
        if width < 2:
            raise TrainError(f"{self.place}: {len(stream)} tokens, expected at least 2.")
        ids = torch.tensor(stream[: rows * width]).view(rows, width)
        if (highest := int(ids.max())) >= (size := checkpoint.config.vocab_size):
            raise TrainError(
                f"{checkpoint.name}: the tokenizer gives id {highest}, the model has {size} tokens; they do not belong "
                "together."
            )
        return ids


def measure_series(
    checkpoints: Sequence[str],
    out: Path,
    *,
    text: TextRows | None,
    tokenizer: Path | None = None,
    device: str = "auto",
    drop_downloads: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> list[dict[str, Any]]:
    """Measure what is not measured yet; returns the rows of the folder, those of `checkpoints` last and in their order.

    Raises `TrainError`, `CheckpointError` or `DataError` for what cannot be measured; rows that are done stay.
    """
    references = plan(checkpoints, out, text=text, tokenizer=tokenizer)
    claim_folder(out, kind=KIND, made_from=_made_from(text, tokenizer))
    busy = DataError(f"{out}: another process is measuring into it. Wait for that, or choose another folder.")
    with only_process(out / ".lock", busy):
        rows = read_rows(out)
        for number, reference in enumerate(references, 1):
            row = _known(rows, reference)
            if row is None:
                with local_copy(reference, out / DOWNLOADS, drop=drop_downloads) as folder:
                    checkpoint = open_folder(folder, name=_unused_name(reference, rows))
                    row = next((done for done in rows if done["fingerprint"] == checkpoint.fingerprint), None)
                    if row is None:
                        say(f"{checkpoint.name} ({number} of {len(references)})")
                        row = _measure_one(checkpoint, reference, text, tokenizer, torch.device(_device(device)))
            rows = [done for done in rows if done["fingerprint"] != row["fingerprint"]] + [row]
            write_whole(out / ROWS_NAME, "".join(json.dumps(done, ensure_ascii=False) + "\n" for done in rows))
    return rows


def plan(
    checkpoints: Sequence[str], out: Path, *, text: TextRows | None, tokenizer: Path | None = None
) -> list[Reference]:
    """What the names stand for. Raises what `measure_series` raises before it measures anything, and writes nothing."""
    if not checkpoints:
        raise TrainError("no checkpoint given; name model folders, RUN/checkpoints/step-N or Hub ids.")
    folder_state(out, kind=KIND, made_from=_made_from(text, tokenizer))
    references = [resolve(name) for name in checkpoints]
    for reference in references:
        if reference.path is not None:
            open_folder(reference.path)
    return references


def read_rows(out: Path) -> list[dict[str, Any]]:
    """The rows of a series' folder; none where nothing is measured yet."""
    path = out / ROWS_NAME
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise TrainError(f"{path}: not JSON lines ({error}). Remove it to measure again.") from error


def _made_from(text: TextRows | None, tokenizer: Path | None) -> dict[str, Any]:
    if text is None:
        return {"text": None}
    given = None
    if tokenizer is not None:
        if not (tokenizer / TOKENIZER_NAME).is_file():
            raise TrainError(f"{tokenizer}: has no {TOKENIZER_NAME}.")
        given = sha256_file(tokenizer / TOKENIZER_NAME)
    return text.identity() | {"tokenizer": given}


def _known(rows: list[dict[str, Any]], reference: Reference) -> dict[str, Any] | None:
    """The row of a Hub checkpoint, which need not be there again to be known: a commit never changes."""
    wanted = {"repo": reference.repo, "commit": reference.commit}
    return next((row for row in rows if reference.path is None and row["hub"] == wanted), None)


def _unused_name(reference: Reference, rows: list[dict[str, Any]]) -> str:
    """The folder's name, with its parent's where another row has it: `run-2/step-00000004`."""
    if reference.path is not None and any(row["checkpoint"] == reference.name for row in rows):
        return "/".join(reference.path.resolve().parts[-2:])
    return reference.name


def _measure_one(
    checkpoint: Checkpoint, reference: Reference, text: TextRows | None, tokenizer: Path | None, device: torch.device
) -> dict[str, Any]:
    began = perf_counter()
    input_ids = None if text is None else text.input_ids(checkpoint, tokenizer)
    streamed = StreamedModel(checkpoint, device)
    with tqdm(total=len(streamed.layers), desc=checkpoint.name, unit="layer", leave=False) as bar:
        found = measure(streamed, input_ids, progress=bar.update)
    row: dict[str, Any] = {
        "checkpoint": checkpoint.name,
        "hub": {"repo": reference.repo, "commit": reference.commit} if reference.path is None else None,
        "fingerprint": checkpoint.fingerprint,
        "step": checkpoint.step,
        "model_type": checkpoint.config.model_type,
        **found,
    }
    if input_ids is not None:
        # Equal hashes: the same tokens, so that the losses can be compared.
        digest = sha256(input_ids.numpy().tobytes()).hexdigest()
        row["text"] |= {"rows": input_ids.shape[0], "context": input_ids.shape[1], "sha256": digest}
    row["cost"] = {
        "seconds": round(perf_counter() - began, 1),
        "peak_memory_bytes": peak_memory(),
        "device": device.type,
    }
    return row


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
