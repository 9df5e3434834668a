"""Where a run of `yulanmini reproduce` keeps the result of each stage; nothing else knows these names."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub_cards.run_files import RunFiles
    from train.studies.trials import Inputs

CORPUS, TOKENIZER, DATA, PRETRAIN = "01-corpus", "02-tokenizer", "03-data", "04-pretrain"
MERGED, SFT, SCORES, HUB = "05-merged", "06-sft", "07-scores", "08-hub"

# The stages in order: folder, and what a reader calls it.
STAGES = {
    "corpus": (CORPUS, "Corpus"),
    "tokenizer": (TOKENIZER, "Tokenizer"),
    "data": (DATA, "Packed rows"),
    "pretrain": (PRETRAIN, "Pretraining"),
    "merge": (MERGED, "Merge to Llama"),
    "sft": (SFT, "Instruction tuning"),
    "scores": (SCORES, "Scores"),
    "hub": (HUB, "Hub folders"),
}
TIMINGS_FILE = "timings.jsonl"


def card_files(run: Path) -> "RunFiles":
    """The run as the Hub's cards and repos are made from it."""
    from hub_cards.run_files import RunFiles

    return RunFiles(run, corpus=CORPUS, data=DATA, pretrain=PRETRAIN, merged=MERGED, sft=SFT, scores=SCORES)


def study_inputs(run: Path) -> "Inputs":
    """The run's tokenizer and packed rows, which studies train on."""
    from train.studies.trials import Inputs

    return Inputs(tokenizer=run / TOKENIZER, data=run / DATA)


def pretraining_folder(run: Path) -> Path:
    """The folder of a pretraining run: `run` itself, or that of a run of `yulanmini reproduce`."""
    inside = run / PRETRAIN
    return inside if inside.is_dir() else run
