"""What a run over built phases is refused for before its first step, found without weights and without writing."""

import torch

from modeling_yulanmini.checkpoint_reader import ModelFolder
from train.checkpoints.sharded import checkpoints_in, read_trainer
from train.config import PretrainConfig
from train.curriculum.plan import Curriculum
from train.errors import TrainError
from train.model_setup.build import build_model
from train.run.inputs import check_data, check_init, heldout_text, holds_model, identity, load_tokenizer
from train.run.resume import refuse_other_settings


def check_start(config: PretrainConfig, curriculum: Curriculum, *, force: bool) -> None:
    """Raise what the run would: for tokenizer, data, held-out text, `init`, model, and what is in its folder."""
    tokenizer = load_tokenizer(config.tokenizer)
    fingerprint = check_data(curriculum, config.tokenizer)
    heldout_text(config, curriculum, tokenizer)
    if config.init is not None and not checkpoints_in(config.output_dir):  # else the run resumes from its own
        if holds_model(config.init.path):
            ModelFolder(config.init.path)
        else:
            check_init(config.init.path, tokenizer=fingerprint)
    without_weights = config.model_copy(update={"init": None})
    model, _ = build_model(without_weights, vocab_size=len(tokenizer), device=torch.device("meta"))
    mine = identity(config, curriculum, model=model.config.to_dict(), tokenizer=fingerprint)
    for checkpoint in reversed(checkpoints_in(config.output_dir)):
        try:
            trainer = read_trainer(checkpoint)
        except TrainError:
            continue  # a damaged one is skipped by the run as well
        if not force:
            refuse_other_settings(checkpoint, trainer, mine)
        return
