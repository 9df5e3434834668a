"""Start a training script with `accelerate launch`, and pass on how it ended."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from train.launch.stop import EXIT_CODE_FILE, FOLDER_VARIABLE, PID_FILE, PID_VARIABLE


def launch(script: Path, config: Path, *, processes: int = 1) -> None:
    """Run `accelerate launch SCRIPT CONFIG` on the CPU and wait for it.

    accelerate turns every exit code into 1 and dies of a Ctrl-C before the script has saved, so the script
    leaves its process id and exit code in a folder (train/launch/stop.py) and is signalled directly.
    Raises SystemExit with the script's code when it did not succeed; its message is on stderr already.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--cpu"]
    command += ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", str(script), str(config)]
    with TemporaryDirectory(prefix="yulanmini-") as folder:
        environment = os.environ | {
            FOLDER_VARIABLE: folder,
            PID_VARIABLE: str(os.getpid()),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            # Threads that spin while they wait cost a factor of ten as soon as anything else runs on the machine.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            with suppress(OSError, ValueError):
                os.kill(int((Path(folder) / PID_FILE).read_text()), signal.SIGTERM)
                process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        if code != 0:
            exit_code = Path(folder) / EXIT_CODE_FILE
            sys.exit(int(exit_code.read_text()) if exit_code.is_file() else 1)
