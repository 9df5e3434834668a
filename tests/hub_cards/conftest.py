import shutil
from pathlib import Path

import pytest
from small_run import write_small_run

from hub_cards.layout.run_repos import publish_local
from yulanmini.run_layout import card_files


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    return write_small_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def published(small_run, tmp_path_factory) -> Path:
    """The folder of the namespace that the small run's repos are in; not to be changed."""
    out = tmp_path_factory.mktemp("hub")
    publish_local(card_files(small_run), out, namespace="someone", name="tiny")
    return out / "someone"


@pytest.fixture
def repo_copy(published, tmp_path):
    """A function that copies one of the published repos, to be spoilt."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(published / name, tmp_path / name))

    return copy
