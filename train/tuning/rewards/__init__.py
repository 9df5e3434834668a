"""Rewards of the on-policy stage, each a class with a `name`: verified answers, a reward model, rule penalties."""
