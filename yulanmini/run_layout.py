"""Where a run of `yulanmini reproduce` keeps the result of each stage; nothing else knows these names."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub_cards.repos.run_files import RunFiles
    from train.studies.trials import Inputs

CORPUS, TOKENIZER, DATA, PRETRAIN = "01-corpus", "02-tokenizer", "03-data", "04-pretrain"
MERGED, SFT, DPO, ON_POLICY = "05-merged", "06-sft", "07-dpo", "08-on-policy"
SCORES, HUB = "09-scores", "10-hub"
# What `07-dpo` learns from: answers of the model of `06-sft`, the right ones preferred.
PAIRS, PAIRS_FILE, PROMPTS_FILE = "07-pairs", "pairs.jsonl", "prompts.jsonl"

# What came of publishing the repos of `10-hub` to a Hub in the same process, and their cards for a browser.
REHEARSAL_FILE, CARD_PAGES = "rehearsal.json", "cards"

# The stages in order: folder, and what a reader calls it.
STAGES = {
    "corpus": (CORPUS, "Corpus"),
    "tokenizer": (TOKENIZER, "Tokenizer"),
    "data": (DATA, "Packed rows"),
    "pretrain": (PRETRAIN, "Pretraining"),
    "merge": (MERGED, "Merge to Llama"),
    "sft": (SFT, "Instruction tuning"),
    "dpo": (DPO, "Preferences"),
    "on-policy": (ON_POLICY, "On-policy"),
    "scores": (SCORES, "Scores"),
    "hub": (HUB, "Hub folders"),
}
TIMINGS_FILE = "timings.jsonl"

# The models of a run in order, by the names of their scores: folder, and what a reader calls it.
MODELS = {
    "base": (MERGED, "Base"),
    "sft": (SFT, "SFT"),
    "dpo": (DPO, "DPO"),
    "on-policy": (ON_POLICY, "On-policy"),
}


def last_model(done: Collection[str]) -> str | None:
    """The last tuned model of the stages that are done, as its scores are named: the instruct model of the run."""
    return next((name for name in reversed(MODELS) if name in done), None)


def card_files(run: Path) -> "RunFiles":
    """The run as the Hub's cards and repos are made from it."""
    from hub_cards.repos.run_files import RunFiles

    tuned = {name: folder for name, (folder, _) in MODELS.items() if folder != MERGED}
    return RunFiles(run, corpus=CORPUS, data=DATA, pretrain=PRETRAIN, merged=MERGED, tuned=tuned, scores=SCORES)


def run_of_reproduce(folder: Path) -> "RunFiles | None":
    """As `card_files`, where `folder` is a run of `yulanmini reproduce` (a stage is in it); else None."""
    return card_files(folder) if any((folder / stage).is_dir() for stage, _ in STAGES.values()) else None


def study_inputs(run: Path) -> "Inputs":
    """The run's tokenizer and packed rows, which studies train on."""
    from train.studies.trials import Inputs

    return Inputs(tokenizer=run / TOKENIZER, data=run / DATA)


def pretraining_folder(run: Path) -> Path:
    """The folder of a pretraining run: `run` itself, or that of a run of `yulanmini reproduce`."""
    inside = run / PRETRAIN
    return inside if inside.is_dir() else run
