"""The commands of the README and the guides, held to what they say.

A fenced ```bash or ```python block follows an HTML comment that says what the tests do with it:

    <!-- test: run -->           run it, in a copy of the repository with a finished run in runs/tiny
    <!-- test: help -->          check that its commands, verbs and options exist, without running them
    <!-- test: skip REASON -->   leave it alone

Every such block of the README carries one. Blocks of docs/ may; without one, bash is checked like `help`, and
python must compile and import names that exist. Each block runs by itself; `--scale tiny` is run as `--scale smoke`.
"""

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from yulanmini.cli import run as run_yulanmini

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("modeling_yulanmini", "data_recipes", "train", "eval", "hub_cards", "yulanmini")
MARK = re.compile(r"<!-- test: (?P<mode>\S+)\s*(?P<reason>.*?)\s*-->")
FENCE = re.compile(r"^```(?P<language>\w*)\s*$")
MODES = ("run", "help", "skip")
# What stands around our commands and is not ours to check.
OTHER_PROGRAMS = ("cd", "export", "source", "git", "pip", "python3", "curl", "ls", "head", "cat", "vllm", "sglang")
RUN_SECONDS = 240


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its mark (None where it has none) and its text."""

    file: str
    line: int
    language: str
    mode: str | None
    reason: str
    code: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def blocks_of(path: Path) -> Iterator[Block]:
    """The bash and python blocks of a Markdown file, each with the mark on the line above."""
    mark: re.Match[str] | None = None
    opened: re.Match[str] | None = None
    first, code = 0, [""]
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if opened is not None:
            if line.strip() == "```":
                if opened["language"] in ("bash", "sh", "shell", "console", "python", "py"):
                    yield Block(
                        path.relative_to(REPOSITORY).as_posix(),
                        first,
                        "python" if opened["language"].startswith("py") else "bash",
                        mark["mode"] if mark else None,
                        mark["reason"] if mark else "",
                        "\n".join(code),
                    )
                mark = opened = None
            else:
                code.append(line)
        elif (fence := FENCE.match(line)) is not None:
            opened, first, code = fence, number, []
        elif line.strip():
            mark = MARK.fullmatch(line.strip())


README = list(blocks_of(REPOSITORY / "README.md"))
GUIDES = [block for path in sorted((REPOSITORY / "docs").rglob("*.md")) for block in blocks_of(path)]
BLOCKS = README + GUIDES


def chosen(language: str, *modes: str | None) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and block.mode in modes]


@dataclass(frozen=True)
class Workplace:
    """A folder that looks like the repository, with a finished run that may be changed."""

    folder: Path

    def run(self, command: list[str], block: Block) -> None:
        environment = os.environ | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(self.folder),
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS
        )
        if done.returncode != 0:
            told = (done.stdout[-1500:] + done.stderr[-4000:]).strip()
            pytest.fail(f"{block}: exit code {done.returncode}\n{block.code}\n---\n{told}", pytrace=False)


@pytest.fixture
def workplace(smoke_run: Path, tmp_path: Path) -> Iterator[Workplace]:
    for entry in REPOSITORY.iterdir():
        if entry.name not in ("runs", ".git", ".venv"):
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    shutil.copytree(smoke_run, tmp_path / "runs" / "tiny", symlinks=True)
    yield Workplace(tmp_path)
    # pytest keeps the folders of the last sessions; a run in each would fill a small disk.
    shutil.rmtree(tmp_path / "runs")


@pytest.mark.parametrize("block", README, ids=str)
def test_every_block_of_the_readme_says_how_it_is_tested(block: Block) -> None:
    assert block.mode is not None, f"{block}: put <!-- test: run|help|skip REASON --> above it\n{block.code}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.mode is not None], ids=str)
def test_marks_are_known_and_a_skip_has_its_reason(block: Block) -> None:
    assert block.mode in MODES, f"{block}: no mode '{block.mode}', expected one of {', '.join(MODES)}"
    assert block.mode != "skip" or block.reason, f"{block}: say why it is skipped"


@pytest.mark.parametrize("block", chosen("bash", "run"), ids=str)
def test_bash_block_runs(block: Block, workplace: Workplace) -> None:
    code = block.code.replace("--scale tiny", "--scale smoke")
    workplace.run(["bash", "-euo", "pipefail", "-c", code], block)


@pytest.mark.parametrize("block", chosen("python", "run"), ids=str)
def test_python_block_runs(block: Block, workplace: Workplace) -> None:
    workplace.run([sys.executable, "-c", block.code], block)


@pytest.mark.parametrize("block", chosen("bash", "help", None), ids=str)
def test_commands_and_options_of_a_bash_block_exist(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands_of(block.code):
        problem = check_command(command, capsys)
        assert problem is None, f"{block}: {shlex.join(command)}\n{problem}"


@pytest.mark.parametrize("block", chosen("python", "help", None), ids=str)
def test_python_block_compiles_and_its_imports_exist(block: Block) -> None:
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ROOMS:
            module = importlib.import_module(node.module)
            missing = [name.name for name in node.names if not hasattr(module, name.name)]
            assert not missing, f"{block}: {node.module} has no {', '.join(missing)}"


def commands_of(code: str) -> Iterator[list[str]]:
    """The simple commands of a script: words without comments, redirections and leading assignments."""
    joined = re.sub(r"\\\n\s*", " ", code)
    for line in joined.splitlines():
        # `<name>` and `[...]` are placeholders in a guide, not redirections and globs.
        words = shlex.shlex(re.sub(r"<[\w-]+>", "NAME", line), posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if not set(word) - set("();|&"):
                if command:
                    yield command
                command = []
            elif command or not re.fullmatch(r"\w+=.*", word):
                command.append(word)


def check_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """None when the command exists and takes these options, else what is wrong with it."""
    words = command[: next((at for at, word in enumerate(command) if word in (">", ">>", "<", "2>")), None)]
    program = Path(words[0]).name
    if program == "make":
        done = subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, capture_output=True, text=True)
        return done.stderr if done.returncode else None
    if program == "yulanmini":
        ours = words[1 : words.index("--") if "--" in words else None]  # what follows is for another program
        with pytest.raises(SystemExit) as stopped:
            run_yulanmini([*ours, "--help"])
        output = capsys.readouterr()
        return output.err or output.out if stopped.value.code else None
    script = next((word for word in words if word.endswith(".py")), None)
    if program in ("accelerate", "python", "torchrun") and script is not None:
        return check_script(script, words[words.index(script) + 1 :])
    return None if program in OTHER_PROGRAMS else f"not a program these tests know: {program} (mark the block 'skip')"


def check_script(script: str, arguments: list[str]) -> str | None:
    """A script of the repository is there, and its help names each of the options."""
    if not (REPOSITORY / script).is_file():
        return f"no such file: {script}"
    options = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
    known = set(re.findall(r"--[\w-]+", help_of(script)))
    return f"unknown options: {', '.join(sorted(options - known))}" if options - known else None


@cache
def help_of(script: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    command = [sys.executable, str(REPOSITORY / script), "--help"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_commands_are_found_in_a_script() -> None:
    script = "A=1 yulanmini recipe list --json | head  # comment\nmake test && cd x\nyulanmini data \\\n  build 1 > log"
    found = [" ".join(command) for command in commands_of(script)]
    assert found == ["yulanmini recipe list --json", "head", "make test", "cd x", "yulanmini data build 1 > log"]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("yulanmini reproduce --scale tiny --out runs/tiny", None),
        ("yulanmini reproduce --scael tiny", "--scael"),
        ("yulanmini recipes list", "recipes"),
        ("make reproduce", None),
        ("make reproduec", "reproduec"),
        ("python train/absent.py", "no such file"),
        ("frobnicate", "not a program"),
    ],
)
def test_a_wrong_command_is_noticed(command: str, problem: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    found = check_command(command.split(), capsys)
    assert (found is None) == (problem is None), found
    assert problem is None or problem in str(found)
