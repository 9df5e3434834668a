"""`yulanmini hub`."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def hub() -> None:
    """hub verbs."""
