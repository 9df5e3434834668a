"""`yulanmini reproduce`."""

import typer

app = typer.Typer(add_completion=False)


@app.command()
def reproduce() -> None:
    """The whole life of the model in miniature."""
