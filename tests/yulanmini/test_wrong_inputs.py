"""Every verb refuses wrong inputs in one form: exit 2, one `error: ` message of three lines at most, nothing written.

The rows are in `wrong_inputs.py`, and every verb of the command line must have some there.
"""

from typing import Any

import pytest
import typer
from refusal import check_refusal
from wrong_inputs import WRONG_INPUTS

from yulanmini import cli

MIN_ROWS = 3


def verbs() -> dict[str, Any]:
    """Every command without commands below it, by what is typed for it."""
    found = {}
    for group in cli.GROUPS:
        commands = typer.main.get_command(cli.build_app(group)).commands[group]
        below = getattr(commands, "commands", {})
        found |= {f"{group} {name}": command for name, command in below.items()} or {group: commands}
    return found


VERBS = verbs()
ROWS = [(verb, arguments, named) for verb, rows in WRONG_INPUTS.items() for arguments, named in rows]


def has_dry_run(verb: str) -> bool:
    return any("--dry-run" in param.opts for param in VERBS[verb].params)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_rows(verb: str) -> None:
    count = len(WRONG_INPUTS.get(verb, ()))
    assert count >= MIN_ROWS, (
        f"`yulanmini {verb}` has {count} rows in tests/yulanmini/wrong_inputs.py; give it at least {MIN_ROWS}: "
        f'"{verb}": [("ARGUMENTS", "a word of the message"), ...]. The top of that file says what to try.'
    )


def test_every_row_is_of_a_verb() -> None:
    assert set(WRONG_INPUTS) <= set(VERBS)


@pytest.mark.parametrize(("verb", "arguments", "named"), ROWS)
def test_wrong_input_is_refused_in_one_form(verb, arguments, named, place, typed) -> None:
    refused = typed(f"{verb} {arguments}")
    check_refusal(refused, named)
    if has_dry_run(verb):
        before, *after = arguments.split(" -- ")
        tried = typed(f"{verb} {before} --dry-run {' -- '.join(['', *after])}")
        check_refusal(tried, named)
        assert tried.stderr == refused.stderr, "the dry run must refuse what the run refuses"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("recipes", "recipe"),
        ("--verison", "--version"),
        ("data verfy", "verify"),
        ("data --jason", "--help"),
        ("data verify --jason data", "--json"),
        ("data verify", "DIR"),
        ("data build recipe.yaml", "--out"),
        ("data build recipe.yaml --out new --seed one", "--seed"),
        ("data build recipe.yaml --out", "--out"),
        ("reproduce now", "now"),
    ],
)
def test_a_mistyped_command_line_names_the_nearest(line, named, place, typed) -> None:
    check_refusal(typed(line), named)


@pytest.mark.parametrize("line", ["", *cli.GROUPS, *VERBS])
def test_help_works_at_every_level(line, typed) -> None:
    long, short = typed(f"{line} --help"), typed(f"{line} -h")
    assert long.code == short.code == 0
    assert long.stdout == short.stdout
    assert "Usage: yulanmini" in long.stdout
    assert long.stderr == ""


def test_the_list_of_commands_breaks_lines_where_they_are_full_and_not_where_the_source_does(
    typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert "how early, and how often for nothing?" in typed("train --help").stdout


def test_a_group_alone_lists_its_commands(typed) -> None:
    assert typed("data").stdout == typed("data --help").stdout
    assert "--version" in typed("").stdout
