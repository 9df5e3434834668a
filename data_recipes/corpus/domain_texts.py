"""Text to measure something on, by domain: a file, a corpus folder, or a folder whose parts are domains."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from data_recipes.corpus.folder import list_files
from data_recipes.corpus.records import UnreadableFile, read_records
from data_recipes.errors import DataError

HELDOUT = "heldout"
MAX_BYTES = 64 << 20


def texts_by_domain(place: Path, *, bytes_per_domain: int = MAX_BYTES) -> dict[str, list[str]]:
    """The first texts of each domain, about `bytes_per_domain` UTF-8 bytes of them; a last one that is too long is cut.

    A file is one domain, named after it. Of a corpus folder the held-out text is read. Of any other folder each
    sub-folder is a domain, and each file beside them. `DataError` for a file that cannot be read, and where there is
    no text.
    """
    place = Path(place)
    if place.is_file():
        files = {place.stem: [place]}
    elif not place.is_dir():
        raise DataError(f"{place}: no such file or folder. Give a text, or a folder with one part a domain.")
    else:
        folder = place / HELDOUT if (place / HELDOUT).is_dir() else place
        files = {}
        for path in sorted(list_files(folder)):
            domain = path.parts[0] if len(path.parts) > 1 else path.name.partition(".")[0]
            files.setdefault(domain, []).append(folder / path)
    texts = {domain: list(_first(paths, bytes_per_domain)) for domain, paths in files.items()}
    if empty := [domain for domain, found in texts.items() if not found]:
        raise DataError(f"{place}: no text in {', '.join(empty)}. Expected .txt, .md, source code, .jsonl or .parquet.")
    return texts


def in_turn(texts: dict[str, list[str]]) -> Iterator[str]:
    """One text of each domain after the other, until all are given."""
    for turn in range(max(map(len, texts.values()))):
        yield from (text for found in texts.values() for text in islice(found, turn, turn + 1))


def _first(paths: list[Path], room: int) -> Iterator[str]:
    for path in paths:
        if room <= 0:
            return
        try:
            for record in read_records(path, text_column=None, limit=MAX_BYTES):
                text = record["text"].encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
                if text.strip():
                    yield text
                room -= len(text.encode())
                if room <= 0:
                    return
        except UnreadableFile as error:
            raise DataError(f"{path}: {error}.") from error
