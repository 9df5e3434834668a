"""Programs that try to do harm. `yulanmini eval runner` and the tests run all of them; none may reach its end.

Each is a program that ends normally only where it did what it tries. It finds in `SCENE` what was laid out for it
(`scene.py`): the caller's process, a folder that anyone may write to, listeners, a secret. What it did outside is
looked at from outside.
"""

from eval.code_runner.attacks_on_limits import EXHAUSTING, FORGING, SYSTEM_CALL, Attack, attack
from eval.code_runner.syscalls import ARCHITECTURES, DENIED

WRITING = (
    attack("delete", "delete a file outside", "import os; os.remove(SCENE['file'])"),
    attack("overwrite", "overwrite a file outside", "open(SCENE['file'], 'w').write('harm')"),
    attack("truncate", "empty a file outside without opening it", "import os; os.truncate(SCENE['file'], 0)"),
    attack("create", "make a file outside", "open(SCENE['folder'] + '/harm', 'w').write('harm')"),
    attack(
        "rights",
        "change the rights, the owner and the times of a file outside",
        """
        import os
        os.chmod(SCENE["file"], 0o777)
        os.utime(SCENE["file"], (0, 0))
        os.chown(SCENE["file"], 1, 1)
        assert os.stat(SCENE["file"]).st_mode & 0o777 == 0o777
        """,
    ),
    attack(
        "symbolic-link",
        "write outside through a symbolic link in its own folder",
        """
        import os
        os.symlink(SCENE["file"], "link")
        open("link", "w").write("harm")
        """,
    ),
    attack(
        "hard-link",
        "write outside through a hard link in its own folder",
        """
        import os
        os.link(SCENE["file"], "link")
        open("link", "w").write("harm")
        """,
    ),
    attack("rename", "move a file outside into its own folder", "import os; os.rename(SCENE['file'], 'taken')"),
    attack(
        "climbs-out",
        "write outside by a path of many ..",
        "open('../' * 40 + SCENE['file'].lstrip('/'), 'w').write('harm')",
    ),
    attack(
        "poisons-python",
        "append to a module of the interpreter",
        "import os; open(os.__file__, 'a').write('harm')",
    ),
    attack(
        "devices",
        "read the machine's memory or disks",
        """
        import os
        for name in ("mem", "kmem", "kmsg", "sda", "vda", "nvme0n1", "tty", "ptmx", "fuse", "kvm"):
            try:
                file = os.open("/dev/" + name, os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            break
        else:
            os.mknod("device", 0o20600, os.makedev(1, 1))
            os.read(os.open("device", os.O_RDONLY), 16)
        """,
    ),
)

READING = (
    attack(
        "environment",
        "read the caller's environment out of its own",
        """
        import os
        print(os.environ)
        assert any(SCENE["secret_name"] in name for name in os.environ)
        """,
    ),
    attack(
        "environment-of-caller",
        "read /proc/PARENT/environ of everything above it",
        """
        import os
        read = ""
        for process in {SCENE["caller"], SCENE["victim"], os.getppid(), os.getpid(), 1}:
            for name in ("environ", "cmdline", "maps", "root/etc/passwd"):
                try:
                    read += open(f"/proc/{process}/{name}", errors="replace").read()
                except OSError:
                    pass
        print(read)
        assert read
        """,
    ),
    attack(
        "home",
        "read keys, tokens and settings in the user's home",
        """
        import os
        read = ""
        for name in (".ssh", ".gnupg", ".aws", ".cache/huggingface", ".netrc", ".bashrc", ".profile", ".gitconfig"):
            path = os.path.join(SCENE["home"], name)
            try:
                files = [os.path.join(path, inner) for inner in os.listdir(path)] if os.path.isdir(path) else [path]
            except OSError:
                continue
            for file in files:
                try:
                    read += open(file, errors="replace").read() + " "
                except OSError:
                    pass
        print(read)
        assert read
        """,
    ),
    attack("secret", "read a file outside that anyone may read", "print(open(SCENE['secret_file']).read())"),
    attack("passwords", "read the list of users", "print(open('/etc/passwd').read()); open('/etc/shadow').read()"),
    attack(
        "memory-of-caller",
        "read the caller's memory",
        SYSTEM_CALL
        + """
for process in (SCENE["caller"], SCENE["victim"], os.getppid()):
    try:
        call(CALLS["process_vm_readv"], process, 0, 0, 0, 0, 0)
        break
    except OSError:
        pass
else:
    open(f"/proc/{os.getppid()}/mem", "rb").read(1)
""",
    ),
)

PROCESSES = (
    attack(
        "kills-caller",
        "end the caller and all other processes",
        """
        import os, signal
        done = 0
        for process in (SCENE["victim"], SCENE["caller"], -SCENE["caller"]):
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.kill(process, number)
                    done += 1
                except OSError:
                    pass
        assert done
        """,
    ),
    attack(
        "traces-caller",
        "attach to the caller as a debugger",
        SYSTEM_CALL
        + """
for process in (SCENE["victim"], SCENE["caller"], os.getppid()):
    try:
        call(CALLS["ptrace"], 16, process, 0, 0)
        break
    except OSError:
        pass
else:
    raise PermissionError
""",
    ),
    attack(
        "starves-caller",
        "take the caller's limits away, so that it ends by itself",
        """
        import os, resource
        done = 0
        for process in (SCENE["victim"], SCENE["caller"]):
            for limit in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE):
                try:
                    resource.prlimit(process, limit, (1, 1))
                    done += 1
                except OSError:
                    pass
            try:
                os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))
                done += 1
            except OSError:
                pass
        assert done
        """,
    ),
    attack(
        "daemon",
        "leave a process behind that goes on",
        """
        import os, time
        if os.fork() == 0:
            try:
                os.setsid()
            except OSError:
                pass
            if os.fork() == 0:
                for descriptor in range(3):
                    os.close(descriptor)
                time.sleep(600)
            os._exit(0)
        os.wait()
        os._exit(0)
        """,
    ),
    attack(
        "own-namespace",
        "become root in a namespace of its own, where more of the kernel is open to it",
        """
        import ctypes, os
        assert ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0
        """,
    ),
    attack(
        "own-namespace-by-clone",
        "the same by cloning",
        SYSTEM_CALL + "\nassert call(CALLS['clone'], 0x10000000 | 17, 0, 0, 0, 0) >= 0\n",
    ),
    attack("becomes-root", "take the identity of root", "import os; os.setuid(0); os.setgid(0); open('/etc/shadow')"),
    attack(
        "forbidden-calls",
        "make a system call that is forbidden",
        SYSTEM_CALL
        + """
made = []
for name, numbers in CALLS.items():
    if name == "clone":
        continue
    try:
        call(numbers, -1, 0, 0, 0, 0, 0)
    except PermissionError:
        continue
    except OSError:
        pass
    made.append(name)
print(made)
assert made
""",
    ),
)

NETWORK = (
    attack(
        "tcp",
        "connect to a TCP port of this machine",
        "import socket; socket.create_connection(('127.0.0.1', SCENE['tcp']), 1).send(b'harm')",
    ),
    attack(
        "udp",
        "send a UDP packet to a port of this machine",
        "import socket; socket.socket(2, 2).sendto(b'harm', ('127.0.0.1', SCENE['udp']))",
    ),
    attack(
        "listens",
        "open a port for others",
        "import socket; held = socket.socket(); held.bind(('0.0.0.0', 0)); held.listen()",
    ),
    attack(
        "unix-socket",
        "connect to a socket in a folder that anyone may use",
        "import socket; held = socket.socket(socket.AF_UNIX); held.connect(SCENE['unix']); held.send(b'harm')",
    ),
    attack(
        "abstract-socket",
        "connect to a socket that has a name but no file",
        "import socket; held = socket.socket(socket.AF_UNIX); held.connect('\\0' + SCENE['abstract'])",
    ),
    attack(
        "socket-pair",
        "send through one of a pair of sockets to another address",
        """
        import socket
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.sendto(b"harm", SCENE["unix_datagram"])
        """,
    ),
    attack(
        "io-uring",
        "open a ring, through which sockets and files are reached without system calls",
        SYSTEM_CALL + "\ncall(CALLS['io_uring_setup'], 8, (ctypes.c_char * 256)())\n",
    ),
)
GROUPS = {
    "using up the machine": EXHAUSTING,
    "writing outside": WRITING,
    "reading outside": READING,
    "other processes": PROCESSES,
    "network": NETWORK,
    "forging success": FORGING,
}
ATTACKS: tuple[Attack, ...] = tuple(attack for group in GROUPS.values() for attack in group)


def preamble(scene: dict[str, object]) -> str:
    """What stands before each attack: what it may know."""
    columns = {machine: column for machine, (_, column) in ARCHITECTURES.items()}
    calls = DENIED | {"clone": (56, 220)}
    return f"SCENE = {scene!r}\nCOLUMNS = {columns!r}\nCALLS = {calls!r}\n"
