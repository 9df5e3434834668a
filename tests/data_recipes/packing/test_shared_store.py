"""One token store under several builds: at once, killed, stopped half-way, and with what somebody has spoilt in it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_text import write_corpus

from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.rows.verify import verify

# Small units, so that there are many; `sys.argv[5]` says what this process does to itself.
SCRIPT = """
import errno, fcntl, os, signal, sys
from pathlib import Path
from data_recipes.tokens import blocks as shuffled_blocks
from data_recipes.reading import files as source_files
from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe, Source, Subset

source_files.UNIT_BYTES = 10_000
shuffled_blocks.SHUFFLE_TOKENS = 2_000
corpus, tokenizer, store, out, misfortune, tokens = sys.argv[1:]
replace, flock, renamed = Path.replace, fcntl.flock, []

def stop_before_rename(path, target):
    if str(path).startswith(store) and ".tokens" in path.name:
        renamed.append(path)
        if len(renamed) == 4:
            os.kill(os.getpid(), signal.SIGSTOP)
    return replace(path, target)

def no_locks(file, operation):
    if operation & fcntl.LOCK_NB:
        return flock(file, operation)  # that of the output folder
    raise OSError(errno.ENOLCK, "No locks available")

if "stops" in misfortune:
    Path.replace = stop_before_rename
if "no-locks" in misfortune:
    fcntl.flock = no_locks
subsets = tuple(
    Subset(name=path.stem, tokens=int(tokens), domain=path.stem, source=Source(path=str(path)))
    for path in sorted(Path(corpus).glob("*.jsonl"))
)
recipe = Recipe(name="mix", context_length=64, subsets=subsets)
build_phases([recipe], Path(out), tokenizer=tokenizer, store=Path(store), seed=5, workers=2, progress=False)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


class Place:
    """A corpus, a tokenizer, a store that all builds share, and a folder for each build."""

    def __init__(self, corpus: Path, tokenizer: Path, folder: Path) -> None:
        self.corpus, self.tokenizer, self.folder = corpus, tokenizer, folder
        self.store = folder / "store"

    def start(self, name: str, *, tokens: int = 30_000, misfortune: str = "none") -> subprocess.Popen:
        arguments = [self.corpus, self.tokenizer, self.store, self.folder / name, misfortune, tokens]
        return subprocess.Popen([sys.executable, "-c", SCRIPT, *map(str, arguments)], stderr=subprocess.PIPE)

    def rows(self, name: str) -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((self.folder / name / "mix").glob("rows-*.arrow"))
        }

    def units(self) -> list[Path]:
        return sorted(self.store.glob("*/unit-*.json"))

    def leftovers(self) -> list[str]:
        """Partial files; a process killed after its last unit may leave an empty lock, which holds nobody up."""
        return [path.name for path in self.store.glob("*/.*") if path.suffix != ".lock"]


def ends_well(process: subprocess.Popen) -> None:
    assert process.wait(60) == 0, process.stderr.read().decode()


def is_stopped(process: subprocess.Popen) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def place(corpus, tokenizer_dir, tmp_path) -> Place:
    return Place(corpus, tokenizer_dir, tmp_path)


@pytest.fixture(scope="module")
def alone(corpus, tokenizer_dir, tmp_path_factory) -> dict[int, dict[str, str]]:
    """The rows of a build that nobody disturbs, by the tokens asked of each subset."""
    found = {}
    for tokens in (30_000, 50_000):
        own = Place(corpus, tokenizer_dir, tmp_path_factory.mktemp("alone"))
        ends_well(own.start("one", tokens=tokens))
        assert len(own.units()) > 15
        found[tokens] = own.rows("one")
    return found


@pytest.mark.parametrize("misfortune", ["none", pytest.param("no-locks", marks=pytest.mark.slow)])
def test_two_builds_at_once_have_the_rows_of_each_alone(place, alone, misfortune):
    sizes = {"one": 30_000, "same": 30_000, "larger": 50_000}
    for process in [place.start(name, tokens=tokens, misfortune=misfortune) for name, tokens in sizes.items()]:
        ends_well(process)
    for name, tokens in sizes.items():
        assert place.rows(name) == alone[tokens]
    assert not place.leftovers()
    assert not [problem for folder in place.store.iterdir() if folder.is_dir() for problem in verify(folder)]


@pytest.mark.parametrize("misfortune", [pytest.param("stops", marks=pytest.mark.slow), "stops no-locks"])
def test_a_build_that_stands_still_before_a_rename_spoils_nothing(place, alone, misfortune):
    slow = place.start("slow", misfortune=misfortune)
    until(lambda: is_stopped(slow))
    quick = place.start("quick", misfortune=misfortune.replace("stops", ""))
    if "no-locks" in misfortune:
        ends_well(quick)
    else:
        time.sleep(1)  # it waits for the unit, or is on its way there
    slow.send_signal(signal.SIGCONT)
    ends_well(slow)
    ends_well(quick)
    assert place.rows("slow") == place.rows("quick") == alone[30_000]
    assert not place.leftovers()


def test_a_build_waits_for_a_unit_only_as_long_as_its_maker_lives(place, alone):
    dies = place.start("dies", misfortune="stops")
    until(lambda: is_stopped(dies))
    lives = place.start("lives")
    time.sleep(1)
    dies.kill()
    dies.wait()
    ends_well(lives)
    assert place.rows("lives") == alone[30_000]
    assert not place.leftovers()


def test_kills_at_many_moments_beside_a_living_build(place, alone):
    lives = place.start("lives", tokens=50_000)
    for moment in (1, 4, 9, 14):
        dies = place.start("dies")
        until(lambda moment=moment, dies=dies: len(place.units()) >= moment or dies.poll() is not None)
        dies.kill()
        dies.wait()
    ends_well(lives)
    ends_well(place.start("dies"))
    assert place.rows("lives") == alone[50_000]
    assert place.rows("dies") == alone[30_000]
    assert not place.leftovers()


def more_tokens(record: Path) -> None:
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "tokens": content["tokens"] + 277_000_000}))


def other_drops(record: Path) -> None:
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "drops": {"empty": 7}}))


def other_sizes(record: Path) -> None:
    content = json.loads(record.read_text())
    for entry in content["files"].values():
        entry["bytes"] += 100
    record.write_text(json.dumps(content))
    for name, entry in content["files"].items():
        os.truncate(record.with_name(name), entry["bytes"])


def no_json(record: Path) -> None:
    record.write_bytes(b"\0" * record.stat().st_size)


def cut_short(suffix: str):
    def spoil(record: Path) -> None:
        path = record.with_suffix(suffix)
        os.truncate(path, path.stat().st_size // 2)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [more_tokens, other_drops, other_sizes, no_json, cut_short(".tokens"), cut_short(".documents.npy")],
    ids=["tokens", "drops", "sizes", "no JSON", "ids cut", "documents cut"],
)
def test_a_unit_that_does_not_fit_its_record_is_found_and_made_again(place, spoil):
    source = Source(path=str(place.corpus / "code.jsonl"))
    recipe = Recipe(name="mix", context_length=64, subsets=(Subset(name="a", tokens=20_000, source=source),))
    options = {"tokenizer": place.tokenizer, "store": place.store, "progress": False}
    build_phases([recipe], place.folder / "before", **options)
    spoil(place.units()[0])
    assert verify(place.units()[0].parent)
    build_phases([recipe], place.folder / "after", **options)
    assert place.rows("after") == place.rows("before")
    assert not verify(place.units()[0].parent)
