"""`yulanmini data train-topic`: a classifier for the cleaning step `topic`, from examples."""

from pathlib import Path
from typing import Annotated, Any

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_result, say

PLACES = "Files or folders, as recipes read them (JSON lines, Parquet, plain text)"


def train_topic(
    positives: Annotated[list[Path], typer.Argument(metavar="POSITIVES...", help=f"{PLACES}: documents on the topic.")],
    against: Annotated[list[Path], typer.Option(help=f"{PLACES}: documents on other topics; repeatable.")],
    topic: Annotated[str, typer.Option(help="Its name, such as math; the column is topic_NAME.")],
    out: Annotated[Path, typer.Option(help="The classifier's folder; must not exist.")],
    text: Annotated[str | None, typer.Option(help="Column of the text; default: text.")] = None,
    most: Annotated[
        int | None, typer.Option(min=100, help="Learn from at most so many documents of each side, chosen by hash.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Fine-tune this encoder (Hub id or folder, such as a TinyBERT), for `topic-encoder`."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a topic classifier from examples, for `topic` in a cleaning config; says its recall and precision.

    With --encoder, one of the second stage, which sees what the first lets through.
    """
    from tqdm import tqdm

    from data_recipes.cleaning.topic_examples import check_examples
    from data_recipes.cleaning.topics import train_topic as train
    from data_recipes.places import local_folder

    files = check_examples(positives, against, out, topic=topic, text=text)
    if encoder is not None:
        local_folder(encoder, "model")
    if dry_run:
        emit_result(
            f"would write {out}, from {sum(files.values())} files", {"folder": str(out), "files": files}, as_json
        )
        return
    given: dict[str, Any] = {"topic": topic, "text": text} | ({} if most is None else {"most": most})
    with tqdm(desc="documents read and learnt", unit="document") as bar:
        if encoder is None:
            manifest = train(positives, against, out, told=bar.update, **given)
        else:
            from data_recipes.cleaning.encoder_training import train_encoder

            manifest = train_encoder(positives, against, out, base=encoder, told=bar.update, **given)
    if as_json:
        emit_json(manifest)
        return
    held_out = manifest["held_out"]
    columns = ["at least=at_least", "recall:.1%", "precision:.1%", "negatives passing=negatives_passing:.2%"]
    title = f"{topic}: {held_out['positives']} positives and {held_out['negatives']} negatives held out"
    emit_records(columns, held_out["by_threshold"], title=title)
    say(f"wrote {out}")
