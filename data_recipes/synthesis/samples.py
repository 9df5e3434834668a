"""The stage that gives out samples: every seed's, with the cleaning's verdict and scores, and the training text."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from data_recipes.cleaning.pipeline.unit_files import read_columns, write_record, writing_parquet
from data_recipes.recipes.templates import template_renderer
from data_recipes.synthesis.cleaned import outcome, score_schema
from data_recipes.synthesis.making import made_schema
from data_recipes.synthesis.run import Run
from data_recipes.synthesis.seeds import Shard

EXAMPLES = 3
"""Samples that a shard shows of each verdict and reason; the summary shows as many of all shards."""
EXCERPT_CHARACTERS = 1200
SHOWN = ("seed_source", "seed_file", "seed_row", "prompt", "response", "finish_reason")


def sample_schema(run: Run) -> pa.Schema:
    """The columns of the samples: what was made, the cleaning's scores, and the text of accepted samples."""
    return pa.schema([*made_schema(run.kind.fields), *score_schema(run.cleaning), ("text", pa.string())])


def write_samples(run: Run, rank: int, tasks: int) -> None:
    """The samples of a task's share of the shards."""
    if run.is_finished:
        return
    for shard in run.share(rank, tasks):
        if run.samples_record(shard) is None:
            _write_shard(run, shard)


def _write_shard(run: Run, shard: Shard) -> None:
    place = run.made(shard)
    made = read_columns(place.file, place.record)
    accepted = np.flatnonzero(np.asarray(made["verdict"].to_pylist()) == "accepted")
    table = made.drop_columns(["verdict", "reason"])
    verdicts, reasons = made["verdict"].to_pylist(), made["reason"].to_pylist()
    scores = score_schema(run.cleaning).empty_table()
    if len(accepted):
        found = outcome(run, shard)
        for seed, reason in zip(accepted.tolist(), found["reason"].to_pylist(), strict=True):
            if reason is not None:
                verdicts[seed], reasons[seed] = "rejected", reason
        scores = found.drop_columns("reason")
    table = table.append_column("verdict", pa.array(verdicts)).append_column("reason", pa.array(reasons))
    places = np.full(len(made), -1)
    places[accepted] = np.arange(len(accepted))
    spread = scores.take(pa.array(places, mask=places < 0))
    for name in spread.column_names:
        table = table.append_column(name, spread[name])
    render = template_renderer(run.kind.template, {})
    kept = np.asarray(verdicts) == "accepted"
    texts = [render(row) if keep else None for row, keep in zip(_fields(run, made), kept, strict=True)]
    table = table.append_column("text", pa.array(texts, pa.string()))
    schema = sample_schema(run)
    table = table.select(schema.names).cast(schema)
    target = run.samples(shard)
    with writing_parquet(target.file, schema) as (sink, file):
        sink.write(table)
    write_record(
        target.record,
        made_from=run.samples_made_from(shard),
        files={f"../../{target.file.parent.name}/{target.file.name}": file.record},
        **counts_of(table),
    )


def _fields(run: Run, made: pa.Table) -> list[Mapping[str, Any]]:
    return made.select(list(run.kind.fields)).to_pylist()


def counts_of(table: pa.Table) -> dict[str, Any]:
    """What the summary says of a shard's samples."""
    verdicts, reasons = table["verdict"].to_pylist(), table["reason"].to_pylist()
    counted = Counter(zip(verdicts, reasons, strict=True))
    examples: Counter[tuple[str, str]] = Counter()
    shown = []
    for row, key in enumerate(zip(verdicts, reasons, strict=True)):
        if examples[key] < EXAMPLES:
            examples[key] += 1
            values = table.slice(row, 1).select(SHOWN).to_pylist()[0]
            cut = {name: values[name][:EXCERPT_CHARACTERS] for name in ("prompt", "response")}
            shown.append({"verdict": key[0], "reason": key[1], **values, **cut})
    texts = [text for text in table["text"].to_pylist() if text is not None]
    return {
        "source": table["seed_source"][0].as_py(),
        "seeds": len(table),
        "verdicts": [[verdict, reason, count] for (verdict, reason), count in sorted(counted.items())],
        "unchecked": sum(
            not checked and verdict == "accepted"
            for checked, verdict in zip(table["checked"].to_pylist(), verdicts, strict=True)
        ),
        "characters": sum(map(len, texts)),
        "examples": shown,
    }
