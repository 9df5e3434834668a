"""What a verb says: results on stdout (text or JSON), everything else on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn


def say(message: str) -> None:
    """A line for the person watching (stderr)."""
    print(message, file=sys.stderr, flush=True)


def emit_json(value: Any) -> None:
    """The machine-readable result of a verb (stdout)."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


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


def fail(error: BaseException) -> NoReturn:
    """One message, no traceback, exit 2."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror}"
    else:
        message = str(error)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
