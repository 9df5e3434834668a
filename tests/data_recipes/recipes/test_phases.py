"""A phase is called by the same names everywhere: key, folder, place in the order of training."""

import random

import pytest

from data_recipes.recipes.phases import (
    PUBLISHED_KEYS,
    is_annealing,
    is_branch,
    phase_folder,
    phase_key,
    phase_number,
    training_order,
)
from data_recipes.recipes.recipe import published_recipes


def test_a_published_mix_is_built_into_the_folder_of_its_key() -> None:
    assert [recipe.folder for recipe in published_recipes()] == [item.name for item in published_recipes()]


@pytest.mark.parametrize("key", PUBLISHED_KEYS)
def test_a_folder_leads_back_to_its_key(key: str) -> None:
    assert phase_key(phase_folder(key)) == key


@pytest.mark.parametrize("name", ["my-anneal", "2024-mix", "26-5k", "phase-two", "-3"])
def test_other_names_are_folders_as_they_are(name: str) -> None:
    assert (phase_key(name), phase_folder(name), phase_number(name)) == (name, name, 0)
    assert not is_annealing(name)
    assert not is_branch(name)


def test_keys_and_folders_sort_in_the_order_of_training() -> None:
    for names in (list(PUBLISHED_KEYS), [phase_folder(key) for key in PUBLISHED_KEYS]):
        expected = [*names, "my-anneal"]
        shuffled = random.Random(0).sample(expected, len(expected))
        assert sorted(shuffled, key=training_order) == expected
    assert [key for key in PUBLISHED_KEYS if is_annealing(key)] == ["26-4k", "26", "27"]
    assert [key for key in PUBLISHED_KEYS if is_branch(key)] == ["26-4k"]
