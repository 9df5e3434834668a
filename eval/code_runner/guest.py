"""What runs inside the isolation: takes the last rights away, then runs a program and its tests.

The runner hands this file's text to a fresh interpreter, so it imports nothing of this project, and as little of the
standard library as it can. Its input 0 is a socket of the runner's: the job comes in over it; "confined" goes out
once nothing is left to take away; and after the last test, what the runner sent beside the job goes back. Only then
has the program passed: leaving early, by whatever exit code, sends nothing.
"""

import ctypes
import marshal
import os
import resource
import sys

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 4, 22, 24, 38, 47
SECCOMP_MODE_FILTER, PR_CAP_AMBIENT_CLEAR_ALL, CAPABILITY_VERSION_3 = 2, 4, 0x20080522
NONCE_BYTES = 32


class FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def read_exactly(descriptor, count):
    """`count` bytes, or the end of this process where the runner is gone."""
    parts = []
    while count:
        part = os.read(descriptor, count)
        if not part:
            os._exit(1)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def confine(job):
    """Limits, identity, capabilities, system calls, in this order: each needs a right that the next takes away."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(option, *values, needed=True):
        padded = (*values, 0, 0, 0, 0)[:4]
        if libc.prctl(option, *map(ctypes.c_ulong, padded)) and needed:
            raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")

    os.chdir(job["folder"])
    os.umask(0o077)
    for name, value in job["limits"].items():
        hard = resource.getrlimit(getattr(resource, name))[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(getattr(resource, name), (value, value))
    if job["user"] is not None:
        os.setgroups([])
        os.setresgid(job["user"], job["user"], job["user"])
        os.setresuid(job["user"], job["user"], job["user"])
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, needed=False)
    for capability in range(64):
        prctl(PR_CAPBSET_DROP, capability, needed=False)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "cannot drop the capabilities")
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    steps = job["filter"]
    program = FilterProgram(len(steps) // 8, steps)
    if libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "cannot set the filter of system calls")


def lay_input(text):
    """Descriptor 0 reads `text`: from memory, because a pipe holds only so much."""
    descriptor = os.memfd_create("input", 0)
    view = memoryview(text)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.dup2(descriptor, 0)
    os.close(descriptor)


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 (contextlib takes time to import)
            stream.flush()
        except BaseException:
            pass


def tell(error, parts, write):
    """The traceback as the interpreter would print it, without the frames of this file."""
    flush()
    try:
        if isinstance(error, SystemExit):
            write(2, f"The program ended itself (SystemExit: {error.code!r}) before the last test.\n".encode())
            return
        import linecache
        import traceback

        for name, text in parts:
            linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        write(2, "".join(traceback.format_exception(type(error), error, trace)).encode("utf-8", "backslashreplace"))
    except BaseException:
        write(2, type(error).__name__.encode() + b"\n")


def main():
    control = os.dup(0)
    job = marshal.loads(read_exactly(control, int.from_bytes(read_exactly(control, 8), "big")))
    try:
        lay_input(job["stdin"])
        confine(job)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os.write(control, b"confined")
    sys.path += job["packages"]
    sys.argv[:] = ["program.py"]
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    parts = [("program.py", job["source"]), ("tests.py", job["tests"])]
    # Taken before the program can put others in their place: `builtins.exec = print` is no way past the tests, and
    # `os._exit = print` no way from a failed one to the marker.
    execute, exit_now, write, receive = exec, os._exit, os.write, read_exactly
    try:
        for code in [compile(text, name, "exec", dont_inherit=True) for name, text in parts]:
            execute(code, module.__dict__)
    except BaseException as error:
        tell(error, parts, write)
        exit_now(1)
    else:
        flush()
        write(control, receive(control, NONCE_BYTES))
        exit_now(0)


if __name__ == "__main__":
    main()
