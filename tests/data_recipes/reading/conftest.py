"""A Hub on this machine for the process of the tests."""

from collections.abc import Iterator

import pytest
from hub_clients import point_at

from data_recipes.reading import hub_answers
from hub_cards.loopback.hub import LoopbackHub


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[LoopbackHub]:
    """The Hub of this process, with nothing cached; no answer in 0.3 seconds is none."""
    from huggingface_hub import constants

    with LoopbackHub() as hub:
        point_at(monkeypatch, hub.url, tmp_path)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
        monkeypatch.setattr(hub_answers, "TIMEOUT", 0.3)
        yield hub


@pytest.fixture
def waited(monkeypatch) -> list[float]:
    """The times that this process would have waited: nobody waits."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited
