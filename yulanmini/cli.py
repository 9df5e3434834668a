"""`yulanmini`: dispatch to the verb groups, and turn bad input into one message and an exit code.

Exit 0 done; 2 bad input or config; 130 interrupted; 1 anything else.
"""

import importlib
import signal
import sys
from collections.abc import Sequence

import typer

from data_recipes.errors import nearest
from yulanmini.console import fail, say

ROOMS = ("modeling_yulanmini", "data_recipes", "train", "eval", "hub_cards", "yulanmini")
GROUPS = {
    "reproduce": "The whole life in miniature, on CPU, offline: recipe to report.",
    "recipe": "The curriculum, as data: list, show, check, plot.",
    "data": "Sources, tokenizer, build, verify, trace, stats.",
    "model": "Create, merge, rebalance, average, convert.",
    "train": "Pretraining, tuning, reports and studies of training runs.",
    "chat": "Talk to a model in the terminal.",
    "eval": "Score a model, compare runs.",
    "hub": "Cards, checks, publishing.",
}


def build_app(verb: str | None) -> typer.Typer:
    """The application with only `verb`'s group imported: `--help` stays fast, and so does every verb."""
    app = typer.Typer(
        name="yulanmini",
        help="YuLan-Mini in the open: recipes, tokens, pretraining, merge, instruction tuning, scores, cards.",
        epilog="Example: yulanmini reproduce --scale tiny --out runs/tiny",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root() -> None:
        pass

    for name, summary in GROUPS.items():
        if name == verb:
            group = importlib.import_module(f"yulanmini.commands.{name}").app
            if group.registered_callback is None:  # one command, which takes arguments, and no group of them
                app.registered_commands += group.registered_commands
                continue
        else:
            group = typer.Typer(invoke_without_command=True)
        app.add_typer(group, name=name, help=summary)
    return app


def is_bad_input(error: BaseException) -> bool:
    """An error class of our own rooms, or the operating system's: the input's fault, not a bug."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in ROOMS


def run(arguments: Sequence[str]) -> None:
    """Carry out one command line; raises SystemExit with the exit code."""
    verb = next(iter(arguments), None)
    if verb == "--version":
        from importlib.metadata import version

        print(f"yulanmini {version('yulanmini')}")
        sys.exit(0)
    if verb is not None and verb not in GROUPS and not verb.startswith("-"):
        say(f"error: no command '{verb}'.{nearest(verb, GROUPS)}")
        sys.exit(2)
    build_app(verb)(args=list(arguments), prog_name="yulanmini")


def main() -> None:
    """Entry point of the `yulanmini` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(sys.argv[1:])
    except SystemExit as stop:
        if stop.code == 130:
            say("Interrupted. What was finished is kept; the same command resumes from there.")
        raise
    except Exception as error:
        if is_bad_input(error):
            fail(error)
        raise


if __name__ == "__main__":
    main()
