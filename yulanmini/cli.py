"""`yulanmini`: dispatch to the verb groups, and turn bad input into one message and an exit code.

Exit 0 done; 2 bad input or config; 130 interrupted; 1 anything else. What is wrong, a mistyped command or option
included, is one message of at most three lines on stderr that begins with `error: `.
"""

import sys

from train.launch import interrupt

# Before anything else is imported, where this process is the command: typer alone takes 0.1 s.
if __name__ == "__main__" or sys.argv[0].endswith("yulanmini"):
    interrupt.catch()

import importlib
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

if TYPE_CHECKING:
    import typer
    from typer.exceptions import TyperException

ROOMS = ("modeling_yulanmini", "data_recipes", "train", "eval", "hub_cards", "yulanmini")
GROUPS = {
    "reproduce": "The whole life in miniature, on CPU, offline: recipe to report.",
    "recipe": "The curriculum, as data: list, show, check, plot, export.",
    "data": "Sources, tokenizer, build, verify, trace, stats.",
    "model": "Create, merge, rebalance, average, convert.",
    "train": "Pretraining, tuning, reports and studies of training runs.",
    "chat": "Talk to a model in the terminal.",
    "eval": "Score a model, compare runs.",
    "hub": "Cards, checks, publishing.",
}


def build_app(verb: str | None) -> "typer.Typer":
    """The application with only `verb`'s group imported: `--help` stays fast, and so does every verb."""
    import typer

    def show_version(wanted: bool) -> None:
        if wanted:
            from importlib.metadata import version

            print(f"yulanmini {version('yulanmini')}")
            raise typer.Exit()

    app = typer.Typer(
        name="yulanmini",
        help="YuLan-Mini in the open: recipes, tokens, pretraining, merge, instruction tuning, scores, cards.",
        epilog="Example: yulanmini reproduce --scale tiny --out runs/tiny",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        pass

    for name, summary in GROUPS.items():
        if name == verb:
            group = importlib.import_module(f"yulanmini.commands.{name}").app
            summarise_commands(group)
            if group.registered_callback is None:  # one command, which takes arguments, and no group of them
                app.registered_commands += group.registered_commands
                continue
        else:
            group = typer.Typer(invoke_without_command=True)
        app.add_typer(group, name=name, help=summary)
    return app


def summarise_commands(group: "typer.Typer") -> None:
    """Let the list of a group's commands show the first paragraph of each one's help as one text: it would keep the
    ends of lines of the docstring."""
    from inspect import getdoc

    for command in group.registered_commands:
        text = command.help or getdoc(command.callback) or ""
        command.short_help = " ".join(text.partition("\n\n")[0].split())
    for below in group.registered_groups:
        if below.typer_instance is not None:
            summarise_commands(below.typer_instance)


def is_bad_input(error: BaseException) -> bool:
    """An error class of our own rooms, or the operating system's: the input's fault, not a bug."""
    from data_recipes.errors import is_full_disk

    return isinstance(error, OSError) or is_full_disk(error) or type(error).__module__.split(".")[0] in ROOMS


def usage_message(error: "TyperException") -> str:
    """What is wrong with a command line, with the nearest command or option, and where the right ones are listed."""
    from data_recipes.errors import nearest

    context: Any = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split())
    if context is None:
        return message
    option, commands = getattr(error, "option_name", None), getattr(context.command, "commands", None)
    if option and message.startswith("No such option"):
        known = [name for param in context.command.get_params(context) for name in param.opts if name[0] == "-"]
        message = f"no option '{option}'.{nearest(option, known)}"
    elif message.startswith("No such command"):
        word = message.split("'")[1]
        message = f"no command '{word}'.{nearest(word, commands)}" if commands else f"unexpected argument '{word}'."
    return f"{message[0].lower()}{message[1:]}\nSee `{context.command_path} --help`."


def run(arguments: Sequence[str]) -> NoReturn:
    """Carry out one command line; raises SystemExit with the exit code."""
    from typer.exceptions import TyperException

    from yulanmini.console import fail

    app = build_app(next(iter(arguments), None))
    try:
        code = app(args=list(arguments), prog_name="yulanmini", standalone_mode=False)
    except TyperException as error:
        if type(error).__name__ != "NoArgsIsHelpError":
            fail(usage_message(error))
        print(error.format_message())  # a command that has others below it, alone: the list of them is what is wanted
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def main() -> NoReturn:
    """Entry point of the `yulanmini` command."""
    interrupt.catch()
    try:
        run(sys.argv[1:])
    except SystemExit as stop:
        code = stop.code
    except BaseException as error:
        if interrupt.is_interruption(error):
            code = interrupt.EXIT_CODE
        elif isinstance(error, BrokenPipeError):  # the reader of our output has gone, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1  # as click gives it
        elif isinstance(error, Exception) and is_bad_input(error):
            from yulanmini.console import fail

            fail(error)
        else:
            raise
    if code == interrupt.EXIT_CODE and sys.argv[1:2] != ["chat"]:  # of a conversation nothing is kept
        for number in interrupt.SIGNALS:  # a second one, while the interpreter ends, ends it at once
            signal.signal(number, interrupt.leave)
        print(interrupt.MESSAGE, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
