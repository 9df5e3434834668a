"""A full disk, found by whichever library writes, is one message that names what was to be written."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from refusal import check_refusal

LINES = (
    ("train export run/checkpoints/step-00000002 {out}", 50_000),  # shutil, then safetensors
    ("train export run/checkpoints/step-00000002 {out}", 100_000),
    ("model merge model {out}", 50_000),
    ("model rebalance model {out}", 50_000),
    ("model create {out} --config model", 50_000),
    ("model average model model {out}", 100_000),
    ("recipe plot {out}.svg", 5_000),
    ("data build recipe.yaml --out {out}", 10_000),
    ("data publish data --out {out}", 1_000),
    ("eval tokenizer tokenizer --text corpus --out {out}", 500),
)


@pytest.fixture
def limited() -> Iterator[None]:
    """Files end at a size that the test sets: the system's error is that of a full disk, for every library."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("line", "size"), LINES)
def test_a_full_disk_names_what_was_to_be_written(line, size, place, typed, tmp_path, limited) -> None:
    out = tmp_path / "out"
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    result = typed(line.format(out=out))
    result.stderr = "\n".join(text for text in result.stderr.splitlines() if "%|" not in text)  # a bar, as it was
    check_refusal(result, str(out))
    assert not list(Path(tmp_path).glob(".*partial*"))
