import time
from types import SimpleNamespace

import huggingface_hub.file_download
import huggingface_hub.utils._http
import pytest
from hub_clients import point_at
from huggingface_hub import HfApi

from hub_cards.loopback.hub import LoopbackHub
from hub_cards.publishing import remote


@pytest.fixture
def hub():
    with LoopbackHub(orgs=("org",)) as server:
        yield server


@pytest.fixture
def no_waiting(monkeypatch):
    """The client's and our own pauses between two attempts take no time."""
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0))
    pauseless = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    for module in (huggingface_hub.utils._http, huggingface_hub.file_download):
        monkeypatch.setattr(module, "time", pauseless)


@pytest.fixture
def api(hub, monkeypatch, tmp_path, no_waiting) -> HfApi:
    """The real client in this process, with the loopback Hub for its Hub."""
    point_at(monkeypatch, hub.url, tmp_path / "cache")
    return HfApi(endpoint=hub.url, token=hub.token)
