"""`yulanmini`: dispatch to the verb groups, and turn bad input into one message and an exit code.

Exit 0 done; 2 bad input or config; 130 interrupted; 1 anything else.
"""

import importlib
import os
import signal
import sys

import click
import typer

from yulanmini.console import fail

ROOMS = ("modeling_yulanmini", "data_recipes", "train", "eval", "hub_cards", "yulanmini")
GROUPS = {
    "reproduce": "the whole life in miniature, on CPU, offline: recipe to report",
    "recipe": "the curriculum, as data: list, show, check, plot",
    "data": "sources, tokenizer, build, verify, trace, stats",
    "model": "create, merge, rebalance, average, convert",
    "train": "reports and studies of training runs",
    "eval": "score a model, compare runs",
    "hub": "cards, checks, publishing",
}


class LazyGroup(click.Group):
    """Import `yulanmini.commands.NAME` only when its verb is called, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in GROUPS:
            return None
        module = importlib.import_module(f"yulanmini.commands.{cmd_name}")
        return typer.main.get_command(module.app)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(GROUPS.items()))

    def resolve_command(self, ctx, args):  # type: ignore[no-untyped-def]
        if args and args[0] not in GROUPS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], GROUPS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(GROUPS)}."
            ctx.fail(f"no command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)


@click.command(cls=LazyGroup, epilog="Example: yulanmini reproduce --scale tiny --out runs/tiny")
@click.version_option(package_name="yulanmini")
def app() -> None:
    """YuLan-Mini in the open: recipes, tokens, pretraining, merge, instruction tuning, scores, cards."""


def is_bad_input(error: BaseException) -> bool:
    """An error class of our own rooms, or the operating system's: the input's fault, not a bug."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in ROOMS


def main() -> None:
    """Entry point of the `yulanmini` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.exceptions.Abort):
        print("Interrupted. What was finished is kept; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): no message, and none from the interpreter at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if is_bad_input(error):
            fail(error)
        raise


if __name__ == "__main__":
    main()
