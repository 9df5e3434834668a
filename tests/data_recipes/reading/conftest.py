"""A Hub on this machine for the process of the tests."""

import pytest
from hub_server import FlakyHub, point_at, serve

from data_recipes.reading import hub_answers


@pytest.fixture
def hub_of(monkeypatch, tmp_path):
    """A function: a server as the Hub of this process, with nothing cached and nobody waiting; returns the waits."""
    import datasets
    from huggingface_hub import constants

    servers = []

    def start(handler: type[FlakyHub]) -> list[float]:
        handler.breaks("")
        server = serve(handler)
        servers.append((handler, server))
        point_at(monkeypatch, server.__enter__())
        for module in (constants, datasets.config):
            monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
        monkeypatch.setattr(hub_answers, "TIMEOUT", 0.3)
        waited: list[float] = []
        monkeypatch.setattr("time.sleep", waited.append)
        return waited

    yield start
    for handler, server in servers:
        handler.released.set()
        server.__exit__(None, None, None)
