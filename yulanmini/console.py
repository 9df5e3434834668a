"""What all verbs share: their common options, results on stdout (tables or JSON), messages on stderr."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and show what would be done; write nothing.")]


def new_group() -> typer.Typer:
    """A group of verbs, as all of them are set up."""
    return typer.Typer(no_args_is_help=True, add_completion=False)


def say(message: str) -> None:
    """A line for the person watching (stderr)."""
    print(message, file=sys.stderr, flush=True)


def emit_json(value: Any) -> None:
    """The machine-readable result of a verb (stdout)."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def emit_result(message: str, result: Any, as_json: bool) -> None:
    """A verb's end: the message for the person watching, and with --json the result."""
    say(message)
    if as_json:
        emit_json(result)


def emit_records(columns: Sequence[str], records: Iterable[Any], *, title: str | None = None) -> None:
    """Mappings or objects as a table. A column is a key, dotted where nested, with what it needs of a header and a
    format: `tokens`, `share:.2%`, `context=config.context_length`."""
    headers = [column.partition("=")[0] if "=" in column else column.partition(":")[0] for column in columns]
    rows = [[_cell(record, column.rpartition("=")[2]) for column in columns] for record in records]
    emit_table(headers, rows, title=title)


def _cell(record: Any, spec: str) -> Any:
    """One value of a record, formatted; empty where it is None."""
    path, _, form = spec.partition(":")
    for key in path.split("."):
        record = record[key] if isinstance(record, Mapping) else getattr(record, key)
    return "" if record is None else format(record, form) if form else record


def emit_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """The result of a verb as a table on stdout; numbers are set flush right."""
    from rich.console import Console
    from rich.table import Table

    rows = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, header in enumerate(headers):
        numeric = all(isinstance(row[index], int | float) for row in rows) and bool(rows)
        table.add_column(header, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    # As wide as the table needs: a cell is data and is never cut, and "[...]" in it is not markup.
    console = Console(markup=False, highlight=False, width=100_000)
    console.width = max(console.measure(table).maximum, len(title or ""))
    console.print(table, soft_wrap=True)


def fail(error: BaseException | str) -> NoReturn:
    """One message, no traceback, exit 2."""
    from data_recipes.errors import error_line

    print(f"error: {error_line(error)}", file=sys.stderr)
    sys.exit(2)
