"""The room's public names: all there, and none imported before it is used."""

import subprocess
import sys

import pytest

import data_recipes


def test_every_public_name_is_there():
    assert all(callable(getattr(data_recipes, name)) for name in data_recipes.__all__)
    assert set(data_recipes.__all__) == set(data_recipes._MODULES)


def test_importing_the_room_imports_nothing_heavy():
    program = (
        "import sys, data_recipes; print([name for name in ('numpy', 'pydantic', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'load_recipes'"):
        _ = data_recipes.load_recipes
