"""`yulanmini model`: everything that turns one model folder into another."""

from pathlib import Path
from typing import Annotated, Any

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_result, emit_table, new_group, say
from yulanmini.run_layout import CORPUS, PRETRAIN

app = new_group()

Source = Annotated[Path, typer.Argument(help="Model folder: config.json and safetensors.")]
Destination = Annotated[Path, typer.Argument(help="New folder; must be absent or empty.")]


@app.callback()
def model() -> None:
    """Create, count, merge, re-balance, average and export models."""


@app.command(epilog=f"Example: yulanmini model merge runs/tiny/{PRETRAIN}/models/phase-27 merged --dtype bfloat16")
def merge(
    src: Source,
    dst: Destination,
    target: Annotated[str, typer.Option(help="llama (as published) or qwen2 (keeps the tied head).")] = "llama",
    dtype: Annotated[str, typer.Option(help="Dtype of the stored weights: float32 or bfloat16.")] = "float32",
    compare: Annotated[bool, typer.Option(help="Compare the logits of both models; refuse if they differ.")] = True,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Fold all scales into the weights of a stock architecture, and prove that the logits are the same."""
    from modeling_yulanmini.merge import plan_merge
    from yulanmini.merged import write_merged

    if dry_run:
        result = plan_merge(src, dst, target=target, dtype=dtype).summary()
    else:
        plan_merge(src, dst, target=target, dtype=dtype)  # before anything is hashed
        result = write_merged(src, dst, target=target, dtype=dtype, compare_logits=compare, progress=True)
        say(f"Wrote {dst}")
    if as_json:
        emit_json(result)
        return
    rows = [("architecture", result["architecture"]), ("parameters", result["parameters"]), ("bytes", result["bytes"])]
    if comparison := result.get("comparison"):
        exact, stored = comparison["float32"], comparison["as_stored"]
        rows += [
            ("float32: max |difference| of logits", f"{exact['max_abs_logit_difference']:.3g}"),
            ("float32: max |logit|", f"{exact['max_abs_logit']:.3g}"),
            (f"{dtype}: mean KL", f"{stored['mean_kl']:.3g}"),
            (f"{dtype}: argmax agreement", f"{stored['argmax_agreement']:.2%}"),
            ("tokens compared", comparison["tokens"]),
        ]
    emit_table(["merge" if not dry_run else "would merge", ""], rows)


@app.command(epilog="Example: yulanmini model create new --preset yulanmini-2.4b --dtype bfloat16")
def create(
    dst: Destination,
    preset: Annotated[str | None, typer.Option(help="A known size: yulanmini-2.4b.")] = None,
    config: Annotated[Path | None, typer.Option(help="A config.json, or a folder with one, instead.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
    dtype: Annotated[str, typer.Option(help="Dtype of the stored weights: float32 or bfloat16.")] = "float32",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Write a new model with random weights, layer by layer: the full size fits into a few GB of memory."""
    from modeling_yulanmini.counts import count_parameters
    from modeling_yulanmini.create import check_new_model, config_from, create_model

    if (preset is None) == (config is None):
        raise typer.BadParameter("give either --preset or --config")
    source = preset or str(config)
    if dry_run:
        check_new_model(dst, dtype=dtype)
        counts = count_parameters(config_from(source))
        result = {"parameters": counts["total"] + counts["scales"], "seed": seed, "dtype": dtype}
        say(f"Would write {result['parameters']:,} parameters to {dst}")
    else:
        result = create_model(dst, config_from(source), seed=seed, dtype=dtype, progress=True)
        emit_result(f"Wrote {dst}: {result['parameters']:,} parameters", result, as_json)


@app.command(epilog="Example: yulanmini model params yulanmini-2.4b")
def params(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A model folder, a config.json or a preset.")],
    as_json: AsJson = False,
) -> None:
    """Count parameters by part of the network."""
    from modeling_yulanmini.counts import count_folder, count_parameters
    from modeling_yulanmini.create import config_from

    has_weights = any(Path(source).glob("*.safetensors"))
    counts = count_folder(source) if has_weights else count_parameters(config_from(source))
    if as_json:
        emit_json(counts)
        return
    rows = [*counts["parts"].items(), ("total", counts["total"])]
    rows += [("learnable scales, besides", counts["scales"]), ("with an untied head", counts["with_untied_head"])]
    emit_table(["parameters", "count"], rows)


@app.command(epilog="Example: yulanmini model rebalance phase-10 phase-10-rebalanced")
def rebalance(
    src: Source,
    dst: Destination,
    rms: Annotated[
        float | None, typer.Option(help="Root mean square of each matrix; default: their geometric mean.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Move norm between each matrix and its learnable scale; the function stays the same.

    SRC is a model folder, or a checkpoint of a training run, whose optimizer state is moved along. With the
    default, training continues nearly as before; another RMS changes how far a step moves the weights, by the ratios
    reported.
    """
    from modeling_yulanmini.rebalance import rebalance as rebalance_model
    from train.checkpoints.rebalance import is_checkpoint, rebalance_checkpoint

    if is_checkpoint(src):
        change = rebalance_checkpoint(src, dst, rms=rms)
    else:
        change = rebalance_model(src, dst, rms=rms, progress=True)
    say(f"Wrote {dst}: {change.summary()}")
    if as_json:
        emit_json(change.as_dict())


@app.command(
    epilog="Example: yulanmini model average step-33 step-34 step-35 averaged --weight 1 --weight 1 --weight 2"
)
def average(
    folders: Annotated[list[Path], typer.Argument(metavar="SRC SRC... DST", help="Checkpoints, then the new folder.")],
    weight: Annotated[list[float] | None, typer.Option(help="One for each source, in order; default: equal.")] = None,
    as_json: AsJson = False,
) -> None:
    """Average the weights of checkpoints of one run."""
    from yulanmini.merged import write_averaged

    *sources, dst = folders
    result = write_averaged(sources, dst, weights=weight, progress=True)
    emit_result(f"Wrote {dst}: the average of {len(sources)} checkpoints", result, as_json)


@app.command(epilog="Example: yulanmini model gguf merged model.gguf --dtype bfloat16 --ollama")
def gguf(
    src: Source,
    dst: Annotated[Path, typer.Argument(help="New .gguf file; must not exist.")],
    dtype: Annotated[str, typer.Option(help="Dtype of the matrices: float32, float16 or bfloat16.")] = "float16",
    ollama: Annotated[
        bool, typer.Option("--ollama", help="Write a Modelfile beside it, for `ollama create NAME -f Modelfile`.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model, merged or not, as a GGUF file for llama.cpp and Ollama."""
    from modeling_yulanmini.gguf_export import export_gguf
    from modeling_yulanmini.ollama import write_modelfile

    beside = write_modelfile(src, dst) if ollama else None
    result = export_gguf(src, dst, dtype=dtype, progress=True)
    say(f"Wrote {dst}: {result['bytes'] / 1e6:,.1f} MB, architecture {result['architecture']}")
    if beside is not None:
        result["modelfile"] = str(beside)
        say(f"Wrote {beside}: ollama create NAME -f {beside}")
    if (share := result["tokenizer_agreement"]) is not None and share < 1:
        say(f"llama.cpp will find {share:.1%} of the tokenizer's tokens in mixed text (see docs/merging.md)")
    if as_json:
        emit_json(result)


@app.command(
    "import-optimizer",
    epilog="Example: yulanmini model import-optimizer global_step243198_universal imported --model before-annealing    "
    "or, of our own: yulanmini model import-optimizer phase20-step194526-tokens797B-optimizer runs/mine --run",
)
def import_optimizer(
    src: Annotated[
        Path, typer.Argument(help="A branch NAME-optimizer, or a DeepSpeed universal checkpoint (zero/ in it).")
    ],
    dst: Destination,
    model: Annotated[
        Path | None, typer.Option(help="Model folder published beside DeepSpeed's: config and tokenizer.")
    ] = None,
    run: Annotated[
        bool,
        typer.Option("--run", help="DST becomes a run's folder, which `train pretrain` goes on with at that step."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Turn a published optimizer state into a checkpoint to train on from (`init: {path: DST, optimizer: true}`)."""
    from modeling_yulanmini.create import config_from
    from train.checkpoints.import_deepspeed import import_optimizer as import_universal
    from train.checkpoints.training_state import import_training_state, is_training_state
    from train.errors import TrainError
    from train.run.imported import import_as_run

    if is_training_state(src):
        result = (import_as_run if run else import_training_state)(src, dst, progress=True)
    elif run or model is None:
        missing = "no training_state.json in it, so it is not the state of a run." if run else "expected --model DIR."
        raise TrainError(f"{src}: {missing} A DeepSpeed universal checkpoint needs --model and takes no --run.")
    else:
        result = import_universal(src, dst, config=config_from(model), tokenizer=model, progress=True)
    message = f"Wrote {dst}: step {result['step']:,}, {result['parameters']:,} parameters with their AdamW state"
    emit_result(message, result, as_json)


@app.command(
    epilog=f"Example: yulanmini model dynamics runs/tiny/{PRETRAIN}/models/* --text runs/tiny/{CORPUS} --out dynamics"
)
def dynamics(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT...", help="Model folders, RUN/checkpoints/step-N, Hub ids (owner/name@rev)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for rows and figure; the same command goes on after a stop.")],
    text: Annotated[
        Path | None,
        typer.Option(help="A file, a folder or a corpus folder (its held-out text); without: weights only."),
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of the text, shared by its domains.")] = 8192,
    context: Annotated[int, typer.Option(help="Tokens of a row, or the model's context if that is less.")] = 4096,
    tokenizer: Annotated[Path | None, typer.Option(help="Folder with tokenizer.json, for checkpoints without.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    drop_downloads: Annotated[
        bool, typer.Option("--drop-downloads", help="Remove each fetched checkpoint once it is measured.")
    ] = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """How a series of checkpoints developed: norms and scales of the weights, and on a text variances, logits, loss."""
    from train.dynamics.plots import FIGURE_NAME, plot_series
    from train.dynamics.series import ROWS_NAME, TextRows, measure_series, plan

    rows_of = None if text is None else TextRows(text, tokens, context)
    if dry_run:
        found = [reference.name for reference in plan(checkpoints, out, text=rows_of, tokenizer=tokenizer)]
        emit_result(f"Would measure {', '.join(found)} into {out}", {"checkpoints": found}, as_json)
        return
    rows = measure_series(
        checkpoints, out, text=rows_of, tokenizer=tokenizer, device=device, drop_downloads=drop_downloads, say=say
    )
    plot_series(rows, out / FIGURE_NAME)
    say(f"Wrote {out / ROWS_NAME} and {out / FIGURE_NAME}")
    if len({row["text"]["sha256"] for row in rows if row["text"]}) > 1:
        say("The checkpoints cut the text into different tokens: their losses are not comparable.")
    if as_json:
        emit_json(rows)
        return
    emit_table(
        ["checkpoint", "step", "loss", "last layer's variance", "largest logit", "largest spectral norm"],
        [
            [
                row["checkpoint"],
                "" if row["step"] is None else row["step"],
                *([""] * 3 if not row["text"] else _on_text(row["text"])),
                f"{max(max(sizes['effective_spectral_norm']) for sizes in row['weights'].values()):.4g}",
            ]
            for row in rows
        ],
    )


def _on_text(text: dict[str, Any]) -> list[str]:
    largest = max(text["attention_logit_max"])
    return [f"{text['loss']:.4f}", f"{text['hidden_state_variance'][-1]:.4g}", f"{largest:.4g}"]
