"""Names of phases: the key that a user types (`7`, `26-4k`), the folder (`phase-07`), and the order of training."""

import re

# In the order of training: both variants of phase 26 follow phase 25; phase 27 follows the 28K one.
PUBLISHED_KEYS = (*(str(phase) for phase in range(1, 26)), "26-4k", "26", "27")
ANNEALING_PHASE = 26


def phase_key(name: str) -> str:
    """`7` for `7`, `07`, `phase-07`; `26-4k` for `phase-26-4k`; a name that is no phase as it is."""
    key = re.sub(r"^(phase-)?0*(?=\d)", "", name.strip().lower())
    return key if key.isdigit() or key in PUBLISHED_KEYS else name


def phase_number(name: str) -> int:
    """26 for `26` and `26-4k`, 0 for a name that is no phase."""
    key = phase_key(name)
    return int(key.partition("-")[0]) if key.isdigit() or key in PUBLISHED_KEYS else 0


def phase_folder(name: str) -> str:
    """What a phase's folders are called: `phase-07` for 7, `phase-26-4k` for 26-4k, else the name itself."""
    number, key = phase_number(name), phase_key(name)
    return name if number == 0 else f"phase-{number:02d}{key.removeprefix(str(number))}"


def training_order(name: str) -> tuple[int, bool, str]:
    """Sorts keys and folders: 1 to 25, the branch 26-4k, 26, 27, then all other names."""
    number, key = phase_number(name), phase_key(name)
    return (number or 10**6, key == str(number), name)


def is_annealing(name: str) -> bool:
    """Whether it is one of the published curriculum's annealing phases."""
    return phase_number(name) >= ANNEALING_PHASE


def is_branch(name: str) -> bool:
    """Whether no later phase continues from it, as from the 4K variant of phase 26."""
    return phase_number(name) > 0 and "-" in phase_key(name)
