"""Start a training script with `accelerate launch` from any folder, and pass on signals and the exit code.

Loads torch and accelerate only where it has to ask them; how the script answers is in stop.py.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import psutil

from data_recipes.errors import nearest
from train.errors import TrainError

FOLDER_VARIABLE = "YULANMINI_DRIVER_FOLDER"
PID_VARIABLE = "YULANMINI_DRIVER_PID"
PID_FILE = "pid"
EXIT_CODE_FILE = "exit_code"

TRAIN_FOLDER = Path(__file__).resolve().parents[1]
# Said in full: for each that is missing accelerate prints a notice.
PLAIN = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
ONE_ON_THE_CPU = ("--cpu", "--num_processes", "1", *PLAIN)


def launch(
    script: str, arguments: Sequence[str], *, options: Sequence[str], environment: Mapping[str, str] | None = None
) -> None:
    """Run `accelerate launch OPTIONS train/SCRIPT.py ARGUMENTS` and wait for it.

    accelerate turns every exit code into 1 and dies of a Ctrl-C before the script has saved, so the script
    leaves its process id and exit code in a folder (train/launch/stop.py) and is signalled directly.
    Raises SystemExit with the script's code when it did not succeed; its message is on stderr already.
    """
    # -P: a module in the current folder is not taken for one of ours. The script's own first place is its folder.
    command = [sys.executable, "-P", str(TRAIN_FOLDER / "launch" / "accelerate_main.py"), "--quiet"]
    command += [*thread_options(options), *options]
    command += [str(TRAIN_FOLDER / f"{script}.py"), *arguments]
    with TemporaryDirectory(prefix="yulanmini-") as folder:
        defaults = {
            "TOKENIZERS_PARALLELISM": "false",
            # Threads that spin while they wait cost a factor of ten as soon as anything else runs on the machine.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        driver = {FOLDER_VARIABLE: folder, PID_VARIABLE: str(os.getpid())}
        process = subprocess.Popen(
            command, env={**defaults, **os.environ, **(environment or {}), **driver}, start_new_session=True
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # A second one ends the wait for the script, which is saving.
            with suppress(OSError, ValueError, KeyboardInterrupt):
                os.kill(int((Path(folder) / PID_FILE).read_text()), signal.SIGTERM)
                process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        if code != 0:
            exit_code = Path(folder) / EXIT_CODE_FILE
            # Without one the script did not come to its end, or not to its beginning: 2 for a wrong option.
            sys.exit(int(exit_code.read_text()) if exit_code.is_file() else max(code, 1))


def thread_options(options: Sequence[str]) -> list[str]:
    """The share of the cores that accelerate would give each process on the CPU, said so that it prints no notice."""
    if "--cpu" not in options or "--num_processes" not in options or "OMP_NUM_THREADS" in os.environ:
        return []
    processes = int(options[options.index("--num_processes") + 1])
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return ["--num_cpu_threads_per_process", str(max(cores // processes, 1))]


def accelerate_options(
    processes: int | None = None, *, config_file: Path | None = None, more: Sequence[str] = ()
) -> list[str]:
    """Options of `accelerate launch`: a file's, else those of the user's `accelerate config`, else all GPUs or the CPU.

    `more` comes last and so wins over them.
    """
    import torch
    from accelerate.commands.config.config_args import default_config_file

    if more:
        _check_options(more)
    config_file = _find_accelerate_config(config_file) if config_file is not None else None
    if config_file is not None or Path(default_config_file).is_file():
        options = ["--config_file", str(config_file)] if config_file is not None else []
        return [*options, *(["--num_processes", str(processes)] if processes else []), *more]
    gpus = torch.cuda.device_count()
    count = processes or gpus or 1
    device = ["--cpu"] if gpus == 0 else ["--multi_gpu"] if count > 1 else []
    return [*device, "--num_processes", str(count), *PLAIN, *more]


def _find_accelerate_config(typed: Path) -> Path:
    """A file where there is one, else the package's own of that name: `8-gpus`, `cpu`, ..."""
    own = {path.stem: path for path in sorted((TRAIN_FOLDER / "configs" / "accelerate").glob("*.yaml"))}
    if typed.is_file():
        return typed
    if str(typed) in own:
        return own[str(typed)]
    raise TrainError(f"{typed}: no such file; expected what `accelerate config` has written.{nearest(typed.stem, own)}")


def _check_options(options: Sequence[str]) -> None:
    """Say in one line what accelerate would say below two pages of usage."""
    from accelerate.commands.launch import launch_command_parser

    parser = launch_command_parser()

    def refuse(message: str) -> NoReturn:
        raise TrainError(f"{message}: {' '.join(options)} is given to `accelerate launch`; see its --help.")

    parser.error = refuse
    parser.parse_args([*options, "script.py"])
