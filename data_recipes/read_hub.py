"""Hub datasets through `datasets.load_dataset`: streamed where the Hub can be reached, else from the local cache.

A unit is a fixed number of rows in the dataset's own order, so that a small build fetches only its beginning.
What was read is named by the commit of the repository, or, for a dataset folder on this machine, by its files.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

from data_recipes.errors import DataError
from data_recipes.manifest import fingerprint_of, sha256_file
from data_recipes.read_documents import Documents, batches, texts_of_rows
from data_recipes.source import Source
from data_recipes.source_files import SourceMissing
from data_recipes.supply import how_rows_become_text

UNIT_ROWS = 20_000


class HubSupply:
    """One split of a dataset. Units are read one after the other; going back starts the stream again."""

    input_bytes: int | None = None
    sequential = True

    def __init__(self, source: Source, dataset: Any, *, revision: str | None, contents: Any) -> None:
        self.source = source
        self.dataset = dataset
        self.revision = revision
        self.split = source.split or "train"
        self.file_names = [
            f"{source.hub}{f'@{revision}' if revision else ''}/{source.config or 'default'}/{self.split}"
        ]
        place = [source.hub, source.config, self.split, list(source.data_files), contents]
        self.fingerprint = fingerprint_of([place, how_rows_become_text(source)])
        rows = getattr(dataset, "num_rows", None)
        self.unit_count: int | None = None if rows is None else -(-rows // UNIT_ROWS)
        self._lock = Lock()
        self._stream: Iterator[Any] = iter(())
        self._next_row = -1

    @classmethod
    def find(cls, source: Source) -> "HubSupply":
        """Resolve the id to a revision and open the split, without reading it."""
        from datasets import load_dataset
        from huggingface_hub import constants

        assert source.hub is not None
        local = Path(source.hub).is_dir()
        streaming = not local and not constants.HF_HUB_OFFLINE
        revision = None if local else _revision(source, offline=constants.HF_HUB_OFFLINE)
        try:
            dataset = load_dataset(
                source.hub,
                source.config,
                split=source.split or "train",
                data_files=list(source.data_files) or None,
                revision=None if local else (revision or source.revision),
                streaming=streaming,
            )
        except Exception as error:  # datasets raises its own, fsspec's, httpx's and plain ones
            message = (str(error).splitlines() or [""])[0]
            raise SourceMissing(f"{source.label}: cannot be loaded ({type(error).__name__}: {message:.200})") from error
        contents = revision or (_local_contents(Path(source.hub)) if local else str(dataset.info.version))
        return cls(source, dataset, revision=revision, contents=contents)

    def read_unit(self, number: int, drops: Counter[str]) -> Iterator[Documents]:
        first = number * UNIT_ROWS
        with self._lock:
            rows = self._rows(first)
            yield from batches((0, row, text) for row, text in texts_of_rows(self.source, rows, drops))

    def _rows(self, first: int) -> Iterator[tuple[int, Any]]:
        if hasattr(self.dataset, "num_rows"):
            last = min(first + UNIT_ROWS, self.dataset.num_rows)
            for start in range(first, last, 1000):
                batch = self.dataset.select(range(start, min(start + 1000, last)))
                yield from enumerate(batch, start)
            return
        if self._next_row != first:
            self._stream = iter(self.dataset.skip(first) if first else self.dataset)
        self._next_row = -1
        for row in range(first, first + UNIT_ROWS):
            try:
                example = next(self._stream)
            except StopIteration:
                # Only the end of the stream tells how many units there are.
                self.unit_count = number_of_units(row)
                return
            except Exception as error:
                raise DataError(f"{self.source.label}: row {row} cannot be read: {error!s:.200}") from error
            yield row, example
        self._next_row = first + UNIT_ROWS

    def document(self, row: int) -> str | None:
        """The text of one row of the split; None when there is none."""
        if hasattr(self.dataset, "num_rows"):
            rows = [(row, self.dataset[row])] if row < self.dataset.num_rows else []
        else:
            rows = [(row, example) for example in self.dataset.skip(row).take(1)]
        texts = list(texts_of_rows(self.source, rows, Counter()))
        return texts[0][1] if texts else None

    def unit_identity(self) -> object:
        return UNIT_ROWS


def number_of_units(rows: int) -> int:
    """Units that hold `rows` rows; a dataset without rows has one, empty."""
    return max(1, -(-rows // UNIT_ROWS))


def _revision(source: Source, *, offline: bool) -> str | None:
    """The commit that the id (and `revision`, where given) stands for now; as written when offline."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if offline:
        return source.revision
    try:
        return HfApi().dataset_info(str(source.hub), revision=source.revision, timeout=30).sha
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise SourceMissing(
            f"{source.label}: the Hub says {status}. It may have moved, or be gated: accept its terms on the Hub "
            "and log in with 'hf auth login'."
        ) from error
    except Exception as error:
        raise SourceMissing(f"{source.label}: the Hub cannot be reached ({type(error).__name__}).") from error


def _local_contents(folder: Path) -> list[list[str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[path.relative_to(folder).as_posix(), sha256_file(path)] for path in files]
