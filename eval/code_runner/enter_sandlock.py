"""Starts a program under sandlock's Landlock rules and supervisor.

A script by itself, started with a fresh interpreter: `enter_sandlock.py REQUEST COMMAND...`. The supervisor, which
answers the program's system calls, thus lives in this small process and not in the caller's. There is no process
namespace that would end with its first process, so this one ends what the program leaves behind, and all of it when
the caller is killed.
"""

import ctypes
import json
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
CALLER_ENDED = signal.SIGRTMIN + 7  # a signal that nothing else uses; programs inherit that it is blocked


def end_all(group):
    """Kill the program's group, which it cannot leave, then who is left; orphans come to this process."""
    try:  # noqa: SIM105 (contextlib takes time to import)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
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


def end_with_caller(group, folder, caller_ended):
    signal.sigwait([CALLER_ENDED])
    caller_ended.set()
    end_all(group)
    os.execv("/bin/rm", ["rm", "-rf", "--one-file-system", "--", folder])


def main():
    request, command = json.loads(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, [CALLER_ENDED])
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(CALLER_ENDED), 0, 0, 0)
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
        group = os.getpgid(process.pid)
        if group == os.getpgrp():
            raise RuntimeError("sandlock gave the program no process group of its own, so it could not be ended")
        caller_ended = threading.Event()
        clearing = threading.Thread(target=end_with_caller, args=(group, request["folder"], caller_ended), daemon=True)
        clearing.start()
        result = process.wait()
        end_all(group)
        if caller_ended.is_set():
            clearing.join()  # it removes the folder in this process's place
    # A negative exit code: a signal that the library does not name.
    number = result.signal if result.signal > 0 else signal.SIGKILL if result.exit_code < 0 else 0
    os._exit(128 + number if number else result.exit_code)


if __name__ == "__main__":
    main()
