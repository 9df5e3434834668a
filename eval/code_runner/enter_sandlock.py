"""Starts a program under sandlock's Landlock rules and supervisor.

A script by itself, started with a fresh interpreter: `enter_sandlock.py REQUEST COMMAND...`. The supervisor, which
answers the program's system calls, thus lives in this small process and not in the caller's.
"""

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def end_children():
    """Kill what the program left behind; it comes to this process when its parent is gone."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            children = [int(number) for number in file.read().split()]
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.wait()
        except ChildProcessError:
            return


def main():
    request, command = json.loads(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
    sys.path[:0] = request["path"]
    import sandlock

    sandbox = sandlock.Sandbox(
        fs_readable=[path for path in request["readable"] if os.path.exists(path)],
        fs_writable=[request["folder"]],
        cwd=request["folder"],
        clean_env=True,
        env=request["environment"],
        max_processes=request["processes"],
    )
    with sandbox.popen(command) as process:
        result = process.wait()
        end_children()
    # A negative exit code: a signal that the library does not name.
    number = result.signal if result.signal > 0 else signal.SIGKILL if result.exit_code < 0 else 0
    os._exit(128 + number if number else result.exit_code)


if __name__ == "__main__":
    main()
