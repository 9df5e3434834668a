"""Pointing the Hugging Face clients of this process at a Hub on this machine."""

from pathlib import Path
from typing import Any


def point_at(monkeypatch: Any, address: str, cache: Path | None = None) -> None:
    """Let this process take `address` for the Hub, by plain LFS; with `cache`, online and with nothing cached."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
    if cache is not None:
        for module in (constants, datasets.config):
            monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")
