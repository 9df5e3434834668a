"""Kinds of documents that a model is asked to write: each a module with prompts, parser and verifier."""
