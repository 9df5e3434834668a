"""`yulanmini train`."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def train() -> None:
    """train verbs."""
