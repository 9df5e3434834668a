"""Numbers for cards, each read from a file that is in the repo beside the card, with the place it came from.

A repo keeps copies of the files of the run that its card is made from, at `provenance/PATH IN THE RUN`
(`copy_evidence`), and a card is rendered from these copies alone. A template has no number of its own: it asks for
`figure(file, pointer)` or `derived(op, operands)`, and each becomes a claim in `provenance.json`.
"""

import json
import math
import posixpath
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from data_recipes.manifest import sha256_file
from hub_cards.errors import HubError
from hub_cards.repos.folder import EVIDENCE
from hub_cards.repos.machine_paths import without_machine_paths
from hub_cards.repos.run_files import RunFiles

OWN = "repo:"  # begins the name of a file of the repo itself; other names are of the run's files
# Of a log with a line for each step only its ends are copied, and which lines they are: a full one has hundreds of MB.
LOGS = ("metrics.jsonl",)
# What no card needs: texts in a summary, which nobody asked to publish, and most of what a manifest of rows holds.
LEFT_OUT = {
    "summary.json": ("samples", "examples", "details", "columns"),
    "manifest.json": ("files", "recipe", "ledger_out", "consumed", "overlaps"),
}
LARGEST = 64 * 2**20  # bytes of a file that is copied whole


class Figure(str):
    """Text that has a claim: the only text with numbers that a card takes beside names (see model_card.Name)."""


def load(path: Path) -> Any:
    """The content of a .json, .jsonl (a list) or .yaml file, or of a .parquet file how large it is; HubError when it
    cannot be read as one."""
    return _parsed(path, str(path))


def _parsed(path: Path, name: str) -> Any:
    try:
        if path.suffix == ".parquet":
            footer = pq.ParquetFile(path).metadata
            groups = (footer.row_group(index) for index in range(footer.num_row_groups))
            in_memory = sum(group.total_byte_size for group in groups)
            return {"rows": footer.num_rows, "in_memory": in_memory, "size": path.stat().st_size}
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except (ValueError, OSError, pa.ArrowException, yaml.YAMLError) as error:
        raise HubError(f"{name}: cannot be read ({' '.join(str(error).split())}).") from error


def look_up(content: Any, pointer: str, where: str) -> Any:
    """The value at a JSON pointer (RFC 6901), such as `/counts/steps` or, in a .jsonl file, `/12/loss`."""
    value = content
    for key in _keys(pointer):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise HubError(f"{where}: nothing at {pointer}; the card expects another form of file.") from error
    return value


@lru_cache(maxsize=1 << 16)
def _keys(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


@lru_cache(maxsize=1 << 16)
def join(*keys: str | int) -> str:
    """A JSON pointer from keys."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


# What a derived number may be: operands are numbers, in the order of the claim.
OPERATIONS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "sum": sum,
    "product": math.prod,
    "ratio": lambda of: reduce(lambda left, right: left / right, of),
    "quotient": lambda of: reduce(lambda left, right: left // right, of),
    "difference": lambda of: reduce(lambda left, right: left - right, of),
    "largest": max,
    "smallest": min,
    "last": lambda of: of[-1],
    "count": len,
    "hours": lambda of: sum(of) / 3600,  # of seconds
    "kilowatt hours": lambda of: sum(of) / 3_600_000,  # of joules
}
Operand = tuple[str, str] | tuple[str, list[Any]]  # a file and a pointer, or an operation and its operands


_normal = lru_cache(maxsize=1 << 12)(posixpath.normpath)


class Figures:
    """Figures of a repo's card, read from the repo's own folder; names of files are relative to the run.

    `run` has the copies of the run's files as its root, so that it finds them as it would find them in the run.
    """

    def __init__(self, run: RunFiles, repo: Path) -> None:
        self.run = run
        self.repo = repo
        self.read: set[str] = set()
        self._claims: dict[str, dict[str, Any]] = {}
        self._looked_at = ("", "")
        self._contents: dict[str, Any] = {}

    def path(self, file: str) -> Path | None:
        """Where a file is read, always inside of the repo; None for one that the run does not have."""
        root, name = (self.repo, file.removeprefix(OWN)) if file.startswith(OWN) else (self.run.root, file)
        path = root / name
        inside = not name.startswith(("/", "../")) and path.resolve().is_relative_to(root.resolve())
        return path if inside and path.is_file() else None

    @property
    def looked_at(self) -> str:
        """The file and the place in it, for the message where a file has another form than a card expects."""
        return " ".join(filter(None, self._looked_at))

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Every number so far with its origin, each once."""
        return list(self._claims.values())

    def has(self, file: str) -> bool:
        file = _normal(file)
        found = self.path(file) is not None
        if found:
            self.read.add(file)
        return found

    def value(self, file: str, pointer: str = "") -> Any:
        """A value of a file that decides something but is not printed on the card."""
        file = _normal(file)
        name = file.removeprefix(OWN)
        self._looked_at = (name, pointer)
        if file not in self._contents:
            path = self.path(file)
            if path is None:
                raise HubError(f"{name}: no such file; the card needs figures from it. Finish that stage first.")
            self._contents[file] = _parsed(path, name)
            self.read.add(file)
        return look_up(self._contents[file], pointer, name)

    def figure(self, file: str, pointer: str, form: str = ",") -> Figure:
        """A value as text in Python's format `form`, remembered with its origin."""
        value = self.value(file, pointer)
        return self._claim(value, form, {"file": file, "pointer": pointer}, f"{file} {pointer}")

    def derived(self, op: str, of: Iterable[Operand], form: str = ",") -> Figure:
        """A number made of others by one of OPERATIONS, as text. An operand is `(file, pointer)`, or an operation with
        operands of its own."""
        return self.of((op, list(of)), form)

    def of(self, operation: Operand, form: str = ",") -> Figure:
        """The same, of an operation with its operands."""
        value = self.evaluate(operation)
        return self._claim(value, form, _written(operation), f"{operation[0]} of {self.looked_at}")

    def evaluate(self, operand: Operand) -> Any:
        """The value of an operand."""
        first, second = operand
        if isinstance(second, str):
            value = self.value(first, second)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise HubError(f"{first.removeprefix(OWN)}: {value!r} at {second} is not a number for a card.")
            return value
        values = [self.evaluate(one) for one in second]
        try:
            return OPERATIONS[first](values)
        except (ZeroDivisionError, ValueError) as error:
            raise HubError(f"{self.looked_at}: no {first} of {values[:3]} can be on a card ({error}).") from error

    def number(self, op: str, of: Iterable[Operand]) -> Any:
        """A derived number for a card's metadata, as it is."""
        self.derived(op, operands := list(of), "")
        return self.evaluate((op, operands))

    def _claim(self, value: Any, form: str, origin: dict[str, Any], where: str) -> Figure:
        try:
            if form and (isinstance(value, bool) or not math.isfinite(value)):
                raise ValueError("not finite")
            text = Figure(format(value, form))
        except (TypeError, ValueError) as error:
            raise HubError(f"{where.removeprefix(OWN)}: {value!r} is not a number for a card.") from error
        self._claims.setdefault(json.dumps([origin, form]), {"text": str(text), "value": value, **origin, "form": form})
        return text


def _written(operand: Operand) -> dict[str, Any]:
    """An operation as it is kept: its operands are `file#pointer`, or operations."""
    op, operands = operand
    assert not isinstance(operands, str)
    return {
        "op": op,
        "of": [
            f"{first}#{second}" if isinstance(second, str) else _written((first, second)) for first, second in operands
        ],
    }


def copy_evidence(run: RunFiles, names: Iterable[str], copies: Path) -> dict[str, dict[str, Any]]:
    """Copy files of a run into a new folder, which becomes `provenance/` of a repo, without this machine's paths; what
    is recorded of each: the SHA-256 of the run's file, where the copy is, and of a log which of its lines it has."""
    records = {}
    names = sorted(set(names))
    copies.mkdir()
    for folder in {(copies / name).parent for name in names}:
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        text, lines, digest = copied_text(run.root / name, run.root)
        (copies / name).write_text(text, encoding="utf-8", newline="")
        place = f"{EVIDENCE}/{name}"
        records[name] = {"sha256": digest, "at": place} | ({"lines": lines} if lines else {})
    return records


def copied_text(source: Path, run: Path) -> tuple[str, list[int], str]:
    """What is copied of a file of a run; of a log the numbers (from 1) of its lines that are; its SHA-256. A file
    is read once for all cards, unless it changes."""
    try:
        stat = source.stat()
    except OSError as error:
        raise _unreadable(source.relative_to(run).as_posix(), error) from error
    return _copied_text(source, run, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@lru_cache(maxsize=256)
def _copied_text(source: Path, run: Path, state: tuple[int, ...]) -> tuple[str, list[int], str]:
    name = source.relative_to(run).as_posix()
    try:
        if source.name in LOGS:
            first, last, count = "", "", 0
            with source.open(encoding="utf-8", newline="") as file:
                for line in file:
                    count += 1
                    first, last = first or line, line
            lines = sorted({1, count}) if count else []
            text = "".join([first, last][: len(lines)])
        else:
            if source.stat().st_size > LARGEST:
                raise HubError(f"{name}: {source.stat().st_size:,} bytes; a card is not made from a file of that size.")
            text, lines = source.read_bytes().decode(), []
            if source.name in LEFT_OUT and isinstance(content := json.loads(text), dict):
                kept = {key: value for key, value in content.items() if key not in LEFT_OUT[source.name]}
                text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    return without_machine_paths(text, run), lines, sha256_file(source)


def _unreadable(name: str, error: Exception) -> HubError:
    return HubError(f"{name}: cannot be read ({' '.join(str(error).split())}).")


def changed_since(repo: Path, records: dict[str, dict[str, Any]], run: Path) -> list[str]:
    """The files of a repo's evidence that are no longer what the run has, as sentences; empty when all are."""
    problems = []
    for name, record in records.items():
        source, copy = run / name, repo / EVIDENCE / name
        if not source.is_file():
            problems.append(f"{name}: the card was made from it, and the run no longer has it")
            continue
        text, _, digest = copied_text(source, run)
        if digest != record.get("sha256"):
            problems.append(f"{name}: changed in the run since the card was made")
        elif not copy.is_file() or copy.read_bytes().decode(errors="replace") != text:
            problems.append(f"{EVIDENCE}/{name}: not what the run has in {name}")
    return problems
