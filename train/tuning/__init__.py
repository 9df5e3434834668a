"""Instruction tuning with TRL: config, model, dialogues, loss, trainer."""
