"""Recipes as data: the published curriculum, its sources, and what turns them into packed rows of tokens.

The names below are imported when they are first used, so that `import data_recipes` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_recipes.corpus.build import build_corpus
    from data_recipes.packing.build import build_phases
    from data_recipes.recipes.recipe import load_recipe, published_recipes
    from data_recipes.recipes.source import Source
    from data_recipes.rows.reader import PackedRows, load_phase
    from data_recipes.tokens.train import train_tokenizer

__all__ = [
    "PackedRows",
    "Source",
    "build_corpus",
    "build_phases",
    "load_phase",
    "load_recipe",
    "published_recipes",
    "train_tokenizer",
]

_MODULES = {
    "PackedRows": "rows.reader",
    "Source": "recipes.source",
    "build_corpus": "corpus.build",
    "build_phases": "packing.build",
    "load_phase": "rows.reader",
    "load_recipe": "recipes.recipe",
    "published_recipes": "recipes.recipe",
    "train_tokenizer": "tokens.train",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'data_recipes' has no attribute '{name}'")
    return getattr(import_module(f"data_recipes.{_MODULES[name]}"), name)
