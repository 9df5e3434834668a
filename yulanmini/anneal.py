"""`yulanmini train anneal`: data, optimizer states, training and merge strung together, each resumed where it stopped.

    OUT/claim.json  data/  states/  anneal.yaml  run/  merged/

`data` and `states` are made only where they are needed: a built phase and fresh moments need neither. Every part is
one of its room's own folders, whole or resumable, so a command given again goes on with the first that is missing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError
from data_recipes.files import only_process, write_whole
from data_recipes.manifest import (
    MANIFEST_NAME,
    claim_folder,
    fingerprint_of,
    folder_state,
    read_manifest,
    verify_files,
)
from data_recipes.packing.build import build, check_places
from data_recipes.packing.plan import plan_mixes
from data_recipes.packing.request import BuildRequest, load_recipes
from data_recipes.recipes.phases import phase_folder
from data_recipes.rows.layout import KIND as PHASE_KIND
from data_recipes.tokens.tokenizer import load_tokenizer
from train.annealing.plan import AnnealingRun, Wishes, plan_run
from train.annealing.start import Start, read_start
from train.checkpoints.export import export_checkpoint
from train.checkpoints.import_deepspeed import import_optimizer
from train.checkpoints.sharded import TRAINER_FILE, read_trainer
from train.checkpoints.training_state import import_training_state, is_training_state
from train.config_file import resolved, settings_text
from train.curriculum.plan import PhaseRows
from train.errors import TrainError
from train.launch.launcher import launch
from train.run.phases import phase_rows, rows_of_recipe
from yulanmini.console import say
from yulanmini.merged import write_merged

KIND = "annealing"
CONFIG_FILE, DATA, STATES, RUN, MERGED = "anneal.yaml", "data", "states", "run", "merged"
# What decides the result; the rest of the config may change between two attempts.
DECIDING = ("tokens_per_step", "parametrization", "optimizer", "schedule", "stages", "max_steps", "seed", "precision")
DECIDING_OF_A_STAGE = ("rope_theta", "document_mask", "rebalance")


@dataclass(frozen=True)
class Request:
    """An annealing: where from, on what, where to, how."""

    checkpoint: Path
    data: str
    out: Path
    wishes: Wishes
    optimizer: str = "auto"
    tokenizer: Path | None = None
    context_length: int | None = None
    dtype: str = "bfloat16"


class Annealing:
    """An annealing that has been found possible: raises what is wrong with any part before anything is written."""

    def __init__(self, request: Request) -> None:
        if request.dtype not in ("float32", "bfloat16"):
            raise TrainError(f"--dtype {request.dtype}: expected float32 or bfloat16.")
        self.request, self.out = request, request.out
        folder_state(self.out, kind=KIND)
        self.start: Start = read_start(request.checkpoint, optimizer=request.optimizer, tokenizer=request.tokenizer)
        self.build: BuildRequest | None = None
        rows = self._rows()
        states = None
        if request.optimizer != "none" and self.start.has_states:
            states = self.start.path if self.start.states is None else self.out / STATES
        self.run: AnnealingRun = plan_run(
            self.start, rows, request.wishes, data=self.data, run=self.out / RUN, states=states
        )
        self.model = self.out / RUN / "models" / phase_folder(rows.name)
        settings = resolved(self.run.config, self.out)
        stage = settings["stages"][0]
        self.made_from = {
            "checkpoint": self.start.fingerprint,
            "data": self.data_fingerprint,
            "moments": self.run.facts["moments"],
            "settings": {key: settings[key] for key in DECIDING if key != "stages"}
            | {key: stage[key] for key in DECIDING_OF_A_STAGE},
            "dtype": request.dtype,
        }
        folder_state(self.out, kind=KIND, made_from=self.made_from)

    def carry_out(self, *, options: list[str], more: list[str], prepare: bool) -> dict[str, Any] | None:
        """Do what is not done yet; the result, or None where the training is still to be finished."""
        busy = TrainError(f"{self.out}: another annealing is at work there. Wait for it, or stop it first.")
        claim_folder(self.out, kind=KIND, made_from=self.made_from)
        with only_process(self.out / ".lock", busy):
            say(self.account())
            if self.build is not None:
                say("[1/4] data: packed rows of the recipe")
                build(self.build)
            self._import_states()
            write_whole(self.out / CONFIG_FILE, settings_text(resolved(self.run.config, self.out)))
            if prepare:
                return None
            if not _is_whole(self.out / RUN):
                say(f"[3/4] training: {self.run.steps:,} steps")
                launch("pretrain", [str(self.out / CONFIG_FILE), *more], options=options)
            if not _is_whole(self.out / RUN):
                return None
            if not self.model.exists():  # it stopped before the phase's end, where a model is exported
                export_checkpoint(self.out / RUN / "checkpoints" / f"step-{self.run.steps:08d}", self.model)
            merged = self.out / MERGED
            if not _is_whole(merged):
                say("[4/4] merge: a plain Llama with certificate")
                run = read_manifest(self.out / RUN)["fingerprint"]
                write_merged(self.model, merged, dtype=self.request.dtype, inputs={"pretraining": run})
            counts = read_manifest(merged)["counts"]
        return self.summary() | {"comparison": counts}

    def account(self) -> str:
        """In a sentence what is about to happen, and where that follows from."""
        facts = self.run.facts
        theirs = facts["rope_theta_of_its_config"]
        other = "" if theirs == facts["rope_theta"] else f"; its config says {theirs:,.0f}"
        return (
            f"{facts['steps']:,} steps from rate {facts['rate']:g} ({facts['rate_from']}) to {facts['last_rate']:.3g}, "
            f"moments {facts['moments']}, re-warm-up {facts['warmup_steps']:,} steps, RoPE base "
            f"{facts['rope_theta']:,.0f} ({facts['rope_theta_from']}{other})"
        )

    def summary(self) -> dict[str, Any]:
        """What is, or would be, done, and where the two models are."""
        return self.run.facts | {"model": str(self.model), "merged": str(self.out / MERGED)}

    def _rows(self) -> PhaseRows:
        """The phase to anneal on: built already, or that of a recipe, which then is to be built."""
        given, asked = Path(self.request.data), self.request.context_length
        ours = load_tokenizer(self.start.tokenizer)
        if (given / MANIFEST_NAME).is_file():
            read_manifest(given, kind=PHASE_KIND)
            self.data, rows = given.parent, phase_rows(given.name, given)
            self.data_fingerprint = rows.fingerprint
        elif given.is_dir():
            raise TrainError(f"{given}: neither a recipe (a YAML file) nor a built phase (no {MANIFEST_NAME}).")
        else:
            rows = self._rows_of_recipe(asked)
        theirs = ours.fingerprint
        if rows.built is not None:
            theirs = rows.packed.manifest["tokenizer"]["fingerprint"]
        elif self.build is not None and (named := self.build.recipes[0].tokenizer_location) is not None:
            theirs = load_tokenizer(named).fingerprint
        if theirs != ours.fingerprint:
            raise TrainError(
                f"{given}: made for another tokenizer than the checkpoint's in {self.start.tokenizer} (fingerprint "
                f"{theirs[:12]}, the checkpoint's {ours.fingerprint[:12]}): its embedding means other tokens."
            )
        if asked is not None and asked != rows.context_length:
            raise TrainError(f"--context-length {asked}: {given} is built with {rows.context_length:,} already.")
        return rows

    def _rows_of_recipe(self, context_length: int | None) -> PhaseRows:
        self.data = self.out / DATA
        recipes, _ = load_recipes([self.request.data], self.data, context_length=context_length, alone=True)
        if len(recipes) > 1:
            raise TrainError(f"--data {self.request.data}: several phases; an annealing run has one.")
        recipe = recipes[0]
        self.data_fingerprint = fingerprint_of(recipe.model_dump(mode="json"))
        if (self.data / recipe.folder / MANIFEST_NAME).is_file():  # by an attempt before this one
            return phase_rows(recipe.key, self.data / recipe.folder)
        self.build = BuildRequest(recipes, self.data, tokenizer=self.start.tokenizer)
        check_places(self.build)
        plan_mixes(self.build)  # are the sources there?
        return rows_of_recipe(recipe.key, recipe)

    def _import_states(self) -> None:
        states = self.out / STATES
        source = self.start.states
        if source is None or self.run.config.init is None or self.run.config.init.path != states:
            return
        if (states / TRAINER_FILE).is_file():
            read_trainer(states)  # damaged: says what
            return
        say("[2/4] optimizer states: as a checkpoint of this trainer")
        if is_training_state(source):
            import_training_state(source, states, progress=True)
        else:
            import_optimizer(source, states, config=self.start.config, tokenizer=self.start.tokenizer, progress=True)


def _is_whole(folder: Path) -> bool:
    """Whether a part is finished; DataError where a finished one is damaged."""
    if not (folder / MANIFEST_NAME).is_file():
        return False
    if problems := verify_files(folder, content=False):
        raise DataError(f"{problems[0]}. Delete {folder} to have it made again.")
    return True
