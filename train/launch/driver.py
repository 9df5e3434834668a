"""What a training script owes the driver that launched it: its process id, its exit code, and not to outlive it.

`accelerate launch` stands between the two and passes on neither signals nor exit codes. Without a driver
(the environment variables unset) nothing here does anything.
"""

import os
import threading
import time
from pathlib import Path

FOLDER_VARIABLE = "YULANMINI_DRIVER_FOLDER"
PID_VARIABLE = "YULANMINI_DRIVER_PID"
PID_FILE = "pid"
EXIT_CODE_FILE = "exit_code"
# `accelerate launch` sets this variable for its processes; libraries may set it later, in processes it did not start.
_LAUNCHER = os.getppid() if "ACCELERATE_USE_CPU" in os.environ else None


def announce() -> None:
    """Tell the driver which process to signal, and end this process within a second of the driver's death.

    A script that went on after its driver was killed would write into the folder that the next run resumes.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None or int(os.environ.get("LOCAL_RANK", "0")) != 0:
        return
    (Path(folder) / PID_FILE).write_text(str(os.getpid()))
    driver = int(os.environ[PID_VARIABLE])

    def watch() -> None:
        while True:
            time.sleep(0.5)
            try:
                os.kill(driver, 0)
            except ProcessLookupError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def launcher_is_gone() -> bool:
    """Whether `accelerate launch`, which passes no signal on to a single process, started this one and has ended."""
    return _LAUNCHER is not None and os.getppid() != _LAUNCHER


def report_exit_code(code: int) -> None:
    """Leave the exit code where the driver looks for it."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is not None:
        (Path(folder) / EXIT_CODE_FILE).write_text(str(code))
