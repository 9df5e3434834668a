"""`yulanmini reproduce`."""

import typer

app = typer.Typer(add_completion=False, subcommand_metavar="")


@app.callback(invoke_without_command=True)
def reproduce() -> None:
    """The whole life of the model in miniature."""
    print("x")
