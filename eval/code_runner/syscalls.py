"""The system calls that a generated program may not make, as the BPF program that the kernel checks each call with.

The second wall behind whatever hides files, network and processes, and the same on every machine, so that a program's
verdict does not depend on where it ran. A list of what is denied, not of what is allowed: Python and the libraries
that tests import make hundreds of different calls, and what harms is known.
"""

import errno
import platform
import struct

# Audit architecture of the kernel, and numbers of the calls (x86-64, then the generic table that arm64 uses).
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
X32_CALLS = 0x40000000  # x86-64: the same calls under other numbers

DENIED = {
    # Network, abstract and named sockets; io_uring makes all of these without a system call each.
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "sendmsg": (46, 211),  # also carries open files, which nobody sees while they are on their way
    "sendmmsg": (307, 269),
    "accept": (43, 202),
    "accept4": (288, 242),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Other processes.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    # Leaving the process group, by which all that a program started is ended.
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # Memory that no limit of a process counts.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # Mounts and namespaces; `clone` is looked at below.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "unshare": (272, 97),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # Parts of the kernel that programs have no use for and that flaws were often found in.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "personality": (135, 92),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "reboot": (169, 142),
}
# Modes, owners, times and attributes of files, which Landlock does not guard: nothing happens, and the program goes on.
IGNORED: dict[str, tuple[int, int | None]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
}
CLONE3 = (435, 435)  # its flags lie in memory, where a filter cannot look: "not implemented" makes libc use clone
CLONE, NAMESPACE_FLAGS = (56, 220), 0x7E020000
SOCKETPAIR, SOCK_TYPE_MASK, SOCK_STREAM = (53, 199), 0xF, 1  # asyncio needs it; a datagram pair can address others
# Calls that name a process, allowed only with 0, the calling one: a limit or a slot taken from the parent stops it.
ONLY_ITSELF = {
    "prlimit64": (302, 261),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE = 0, 4  # offsets in the kernel's struct seccomp_data


def argument(index: int) -> int:
    """Offset of the low half of a call's argument."""
    return 16 + 8 * index


def filter_program(machine: str | None = None) -> bytes | None:
    """The filter as an array of struct sock_filter; None for a processor whose calls are not listed here."""
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        return None
    architecture, column = ARCHITECTURES[machine]
    steps: list[tuple[int, int, int, int]] = []

    def add(code: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        steps.append((code, if_true, if_false, value))

    def deny(error: int = errno.EPERM) -> None:
        add(RETURN, ERRNO | error)

    add(LOAD, ARCHITECTURE)
    add(JUMP_EQUAL, architecture, 1, 0)
    deny()
    add(LOAD, NUMBER)
    if machine == "x86_64":
        add(JUMP_AT_LEAST, X32_CALLS, 0, 1)
        deny()
    for numbers in DENIED.values():
        add(JUMP_EQUAL, numbers[column], 0, 1)
        deny()
    for ignored in IGNORED.values():
        number = ignored[column]
        if number is not None:
            add(JUMP_EQUAL, number, 0, 1)
            deny(0)
    add(JUMP_EQUAL, CLONE3[column], 0, 1)
    deny(errno.ENOSYS)
    add(JUMP_EQUAL, CLONE[column], 0, 4)
    add(LOAD, argument(0))
    add(JUMP_ANY_BIT, NAMESPACE_FLAGS, 0, 1)
    deny()
    add(RETURN, ALLOW)
    add(JUMP_EQUAL, SOCKETPAIR[column], 0, 5)
    add(LOAD, argument(1))
    add(AND, SOCK_TYPE_MASK)
    add(JUMP_EQUAL, SOCK_STREAM, 1, 0)
    deny()
    add(RETURN, ALLOW)
    for numbers in ONLY_ITSELF.values():
        add(JUMP_EQUAL, numbers[column], 0, 4)
        add(LOAD, argument(0))
        add(JUMP_EQUAL, 0, 1, 0)
        deny()
        add(RETURN, ALLOW)
    add(RETURN, ALLOW)
    return b"".join(struct.pack("HBBI", *step) for step in steps)
