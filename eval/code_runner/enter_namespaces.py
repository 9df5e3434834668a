"""Starts a program in namespaces of its own: no network, its own processes, and only the folders that are named.

A script by itself, started with a fresh interpreter: `enter_namespaces.py REQUEST COMMAND...`, where the request is
JSON: `readable` paths, the `folder` to write to, `bytes` and `files` that it may hold. As root it needs no user
namespace; as anybody else it makes one. What bubblewrap does, for machines without it.
"""

import ctypes
import json
import os
import signal
import sys

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH, PR_SET_PDEATHSIG = 2, 1
OLD, NEW = "/old", "/new"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source, target, kind, flags, options=""):
    result = libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    check(result, f"cannot mount {target}")


def die_with_parent():
    check(libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0), "prctl")


def own_user():
    """The same user inside, but with the right to mount there."""
    user, group = os.geteuid(), os.getegid()
    check(libc.unshare(CLONE_NEWUSER), "user namespaces are not allowed here")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def bind(path, target, *, devices=False):
    """Show what lies at `path` of the old root read-only at `target`; a link is shown as a link."""
    old = OLD + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(old):
        if not os.path.lexists(target):
            os.symlink(os.readlink(old), target)
        return
    if os.path.isdir(old):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o444))
    mount(old, target, "", MS_BIND | MS_REC)
    # In a user namespace a remount must keep the flags that the mount has.
    kept = os.statvfs(target).f_flag & ~MS_RDONLY
    flags = MS_BIND | MS_REMOUNT | MS_NOSUID | kept | (0 if devices else MS_RDONLY | MS_NODEV)
    mount("", target, "", flags)


def lay_root(request):
    """A root that holds the readable paths, a few devices and a writable folder of limited size, and nothing else."""
    mount("", "/", "", MS_REC | MS_PRIVATE)
    base = "/tmp"  # any folder that exists: what lies under it is reached through the old root
    mount("root", base, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for name in (OLD, NEW):
        os.mkdir(base + name)
    check(libc.pivot_root(base.encode(), (base + OLD).encode()), "pivot_root")
    os.chdir("/")
    mount("root", NEW, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for path in request["readable"]:
        if os.path.lexists(OLD + path):
            bind(path, NEW + path)
    for path in DEVICES:
        bind(path, NEW + path, devices=True)
    folder = NEW + request["folder"]
    os.makedirs(folder, exist_ok=True)
    options = f"mode=1777,size={request['bytes']},nr_inodes={request['files']}"
    mount("files", folder, "tmpfs", MS_NOSUID | MS_NODEV, options)
    os.symlink(request["folder"], NEW + "/dev/shm")
    check(libc.umount2(OLD.encode(), MNT_DETACH), "umount2")
    os.chroot(NEW)
    os.chdir("/")
    mount("", "/", "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def wait_for(child):
    """A child's end as an exit code, 128 and more for a signal; others that end meanwhile are reaped."""
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main():
    request, command = json.loads(sys.argv[1]), sys.argv[2:]
    die_with_parent()
    if os.geteuid() != 0 or not request["root"]:
        own_user()
    names = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
    check(libc.unshare(names), "namespaces are not allowed here")
    first = os.fork()
    if first:
        os._exit(wait_for(first))
    # Process 1 of the new namespace: when it ends, the kernel ends all others in it.
    die_with_parent()
    lay_root(request)
    program = os.fork()
    if program:
        os._exit(wait_for(program))
    os.execv(command[0], command)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(f"{error.strerror or error}", file=sys.stderr, flush=True)
        os._exit(1)
