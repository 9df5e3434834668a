"""What all tests share: no network, no caches outside the test folder, one thread, and one small finished run."""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from made_text import WORDS, make_documents
from transformers_server import ServedMiniature, serve_once

REPOSITORY = Path(__file__).resolve().parents[1]

# The folders of tests are named like the packages. pytest puts this folder on the path; the repository goes before
# it, so that `import train` never finds tests/train.
sys.path.insert(0, str(REPOSITORY))

# Set before anything imports the Hugging Face libraries, which read these once.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "Agg",
}
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples at every run, and no folder of them in the working tree.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """A Hugging Face home of this session's own: the user's cache is neither read nor written."""
    if "YULANMINI_TEST_HOME" not in os.environ:
        # The workers of pytest-xdist inherit it from the process that starts them.
        home = tempfile.TemporaryDirectory(prefix="yulanmini-tests-")
        config.add_cleanup(home.cleanup)
        os.environ["YULANMINI_TEST_HOME"] = home.name
    os.environ["HF_HOME"] = os.environ["YULANMINI_TEST_HOME"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a worker that asks for `smoke_run` waits until it is made, on a busy machine for minutes."""
    for item in items:
        if "smoke_run" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests share the cores between workers, and sums come out the same everywhere."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished `yulanmini reproduce --scale smoke`, made once for all workers. Read it; copy it to change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    run = shared / "smoke"
    with (shared / "smoke.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (run / "report.html").is_file():
            return run
        command = [sys.executable, "-m", "yulanmini.cli", "reproduce", "--scale", "smoke", "--out", str(run)]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command, cwd=shared, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command[1:])} exited {done.returncode}:\n{done.stderr[-4000:]}", pytrace=False)
    return run


@pytest.fixture(scope="session")
def served_miniature(smoke_run: Path) -> ServedMiniature:
    """The smoke run's instruct model behind `transformers serve`, started once for all workers: ask it little, as it
    answers about one request a second."""
    pytest.importorskip("fastapi", reason="transformers serve needs the extra `serve`")
    return serve_once(smoke_run / "06-sft", smoke_run.parent)


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained byte-level BPE tokenizer with `<s>`, `</s>` and `<pad>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for domain in WORDS for text in make_documents(domain, 60)], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return folder
