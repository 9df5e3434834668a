"""`yulanmini train` pretrain, sft, dpo, on-policy, anneal, config: a training script started from any folder."""

import re
from pathlib import Path
from typing import Annotated

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_table, say

Config = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or a config by name: `yulanmini train config` lists them.")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE ...", help="Change keys of the config.")]
Rest = Annotated[
    list[str] | None, typer.Argument(metavar="[-- ACCELERATE...]", help="Further options of `accelerate launch`.")
]
Processes = Annotated[int | None, typer.Option(min=1, help="Ranks.", show_default="one a GPU, or one on the CPU")]
AccelerateConfig = Annotated[
    Path | None,
    typer.Option(
        help="What `accelerate config` has written, or 1-gpu, 8-gpus, cpu, tuning-8-gpus and the like.",
        show_default="yours",
    ),
]

PlanAsJson = Annotated[bool, typer.Option("--json", help="Print the result of --dry-run as JSON.")]


def pretrain(
    config: Config,
    rest: Rest = None,
    settings: Set = None,
    processes: Processes = None,
    accelerate_config: AccelerateConfig = None,
    max_hours: Annotated[float | None, typer.Option(min=0, help="Save and stop after this time.")] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="STEPS", help="Write a trace of steps such as 20-22 into the run's folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Resume although settings or data have changed.")] = False,
    dry_run: DryRun = False,
    hardware: Annotated[
        str | None, typer.Option(help="For the estimates of --dry-run: 8xH100, 56xA800.", show_default="this machine")
    ] = None,
    mfu: Annotated[float | None, typer.Option(help="For the estimates of --dry-run: share of the peak.")] = None,
    as_json: PlanAsJson = False,
) -> None:
    """Pretrain or anneal a model; the same command resumes. Paths in a file count from it, in --set from here."""
    from train.config import PretrainConfig

    values = {"--max-hours": max_hours, "--profile": profile, "--hardware": hardware, "--mfu": mfu}
    flags = {"--force": force, "--dry-run": dry_run, "--json": as_json}
    more = [word for name, value in values.items() if value is not None for word in (name, str(value))]
    more += [name for name, is_set in flags.items() if is_set]
    changes, options = _split(settings, rest)
    path = _checked(PretrainConfig, "pretrain", config, changes)
    _start("pretrain", [path, *_set(changes), *more], processes, accelerate_config, options, here=dry_run)


def sft(
    config: Config,
    rest: Rest = None,
    settings: Set = None,
    processes: Processes = None,
    accelerate_config: AccelerateConfig = None,
    dry_run: DryRun = False,
    as_json: PlanAsJson = False,
) -> None:
    """Tune a model on dialogues; the same command resumes. Paths in a file count from it, in --set from here."""
    from train.tuning.config import SftConfig

    _tune(SftConfig, config, rest, settings, processes, accelerate_config, dry_run, as_json)


def dpo(
    config: Config,
    rest: Rest = None,
    settings: Set = None,
    processes: Processes = None,
    accelerate_config: AccelerateConfig = None,
    dry_run: DryRun = False,
    as_json: PlanAsJson = False,
) -> None:
    """Tune a model on pairs of a better and a worse answer (DPO); the same command resumes."""
    from train.tuning.config import DpoConfig

    _tune(DpoConfig, config, rest, settings, processes, accelerate_config, dry_run, as_json)


def on_policy(
    config: Config,
    rest: Rest = None,
    settings: Set = None,
    processes: Processes = None,
    accelerate_config: AccelerateConfig = None,
    dry_run: DryRun = False,
    as_json: PlanAsJson = False,
) -> None:
    """Tune a model on its own answers, by their rewards (RLOO); the same command resumes."""
    from train.tuning.config import OnPolicyConfig

    _tune(OnPolicyConfig, config, rest, settings, processes, accelerate_config, dry_run, as_json)


def _tune(
    kind: type,
    config: str,
    rest: list[str] | None,
    settings: list[str] | None,
    processes: int | None,
    accelerate_config: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    more = [name for name, is_set in {"--dry-run": dry_run, "--json": as_json}.items() if is_set]
    changes, options = _split(settings, rest)
    script: str = kind.script  # type: ignore[attr-defined]
    path = _checked(kind, script, config, changes)
    _start(script.replace("-", "_"), [path, *_set(changes), *more], processes, accelerate_config, options, here=dry_run)


def anneal(
    checkpoint: Annotated[
        Path, typer.Argument(help="Unmerged model folder as published, or RUN/checkpoints/step-N of a run.")
    ],
    data: Annotated[str, typer.Option(help="Your recipe (YAML), a published phase such as 27, or a built phase.")],
    out: Annotated[Path, typer.Option(help="Folder for data, run and both models; the same command goes on.")],
    rest: Rest = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length of the tail.", show_default="all data")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="The same in tokens.")] = None,
    lr: Annotated[float | None, typer.Option(help="Base rate to begin at.", show_default="the checkpoint's")] = None,
    floor: Annotated[
        float | None, typer.Option(help="Fraction of it that is kept at the end.", show_default="the published one")
    ] = None,
    warmup_steps: Annotated[
        int | None, typer.Option(min=0, help="Re-warm-up.", show_default="0; with fresh moments 100 or a tenth")
    ] = None,
    context_length: Annotated[int | None, typer.Option(min=2, help="Tokens a row.", show_default="recipe's")] = None,
    rope_theta: Annotated[float | None, typer.Option(help="RoPE base.", show_default="by the context")] = None,
    tokens_per_step: Annotated[
        int | None, typer.Option(min=1, help="Tokens an update.", show_default="the checkpoint's, or 4,128,768")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="DeepSpeed's states: a folder, auto (beside the model), none.")] = (
        "auto"
    ),
    tokenizer: Annotated[Path | None, typer.Option(help="Of a checkpoint that has none.")] = None,
    dtype: Annotated[str, typer.Option(help="Of the merged model: float32 or bfloat16.")] = "bfloat16",
    settings: Set = None,
    processes: Processes = None,
    accelerate_config: AccelerateConfig = None,
    max_hours: Annotated[float | None, typer.Option(min=0, help="Save and stop training after this time.")] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Stop before training: `train pretrain OUT/anneal.yaml` trains.")
    ] = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Anneal a checkpoint on your own data, 1-sqrt from its own rate, to an unmerged model and a merged Llama."""
    from train.annealing.plan import Wishes
    from train.launch.launcher import accelerate_options
    from yulanmini.anneal import Annealing, Request

    changes, given = _split(settings, rest)
    options = accelerate_options(processes, config_file=accelerate_config, more=given)
    wishes = Wishes(steps, tokens, lr, floor, warmup_steps, rope_theta, tokens_per_step, tuple(changes))
    annealing = Annealing(Request(checkpoint, data, out, wishes, optimizer, tokenizer, context_length, dtype))
    result = annealing.summary()
    if not dry_run:
        more = [] if max_hours is None else ["--max-hours", str(max_hours)]
        finished = annealing.carry_out(options=options, more=more, prepare=prepare)
        if finished is None:
            say(f"{'prepared' if prepare else 'stopped'}: {out}; the same command goes on")
        result = finished or result
    if as_json:
        emit_json(result)
    else:
        shown = {key: f"{value:,.6g}" if isinstance(value, float) else value for key, value in result.items()}
        title = "would anneal" if dry_run else "annealing"
        emit_table([title, ""], [[key.replace("_", " "), value] for key, value in shown.items() if key != "comparison"])


def config(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The config to print; without one, all.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the configs of this package, or print one, comments and all, as a file to start your own from."""
    from data_recipes.errors import nearest
    from data_recipes.recipes.yaml_schema import read_yaml
    from train.config_file import configs, script_of
    from train.errors import TrainError

    known = configs()
    if name is None:
        listed = [
            {"name": name, "verb": script_of(name), "what": _first_words(path), "path": str(path)}
            for name, path in known.items()
        ]
        emit_json(listed) if as_json else emit_records(["name", "verb", "what"], listed)
        return
    if name not in known:
        raise TrainError(f"no config '{name}'.{nearest(name, known)}")
    if as_json:
        emit_json(read_yaml(known[name]))
    else:
        print(known[name].read_text(encoding="utf-8"), end="")


def _first_words(path: Path) -> str:
    """What the comment at the top of a config says first, up to a colon or full stop."""
    text = path.read_text(encoding="utf-8")
    comment = " ".join(line.lstrip("# ") for line in text[: text.index("\n\n")].splitlines() if line.startswith("#"))
    return re.split(r"[.:;] ", f"{comment} ", maxsplit=1)[0]


def _split(settings: list[str] | None, rest: list[str] | None) -> tuple[list[str], list[str]]:
    """(changes of keys, accelerate's options): `--set a=1 b=2 -- --mixed_precision no` leaves `b=2` to the rest."""
    from train.errors import TrainError

    words = rest or []
    first = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    for word in words[:first]:
        if "=" not in word:
            raise TrainError(f"'{word}': expected KEY=VALUE, or accelerate's options after `--`.")
    return [*(settings or []), *words[:first]], words[first:]


def _checked(kind: type, script: str, typed: str, changes: list[str]) -> str:
    """The file that a config means, once it is known to be a valid one for the script: before anything is started."""
    from train.config_file import configs, find_config, load_config, script_of
    from train.errors import TrainError

    path = find_config(typed)
    if configs().get(path.stem) == path and script_of(path.stem) != script:
        raise TrainError(f"{typed}: a config for `yulanmini train {script_of(path.stem)}`, not for `{script}`.")
    load_config(kind, path, changes)
    return str(path)


def _set(changes: list[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def _start(
    script: str,
    arguments: list[str],
    processes: int | None,
    accelerate_config: Path | None,
    options: list[str],
    *,
    here: bool,
) -> None:
    """Run the script's main in this process (a dry run), or the script under `accelerate launch`."""
    if here:
        from importlib import import_module

        raise typer.Exit(import_module(f"train.{script}").main(arguments))
    from train.launch.launcher import accelerate_options, launch

    launch(script, arguments, options=accelerate_options(processes, config_file=accelerate_config, more=options))
