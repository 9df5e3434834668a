"""Seeded orders that stay the same for ever: sorting by a hash, not a library's random generator.

NumPy may change what its generators return from one version to the next; a built phase must not change.
"""

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def seed_of(*parts: int | str) -> int:
    """A 64-bit seed, different for every use that the parts name."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def permutation(size: int, seed: int) -> np.ndarray:
    """A seeded order of `range(size)`: int64 `[size]`."""
    return np.argsort(mix64(np.arange(size, dtype=np.uint64), seed), kind="stable").astype(np.int64)


def mix64(values: np.ndarray, seed: int) -> np.ndarray:
    """splitmix64 of `values` under a seed: uint64, the same shape."""
    with np.errstate(over="ignore"):
        state = (values + np.uint64(1)) * _GOLDEN + np.uint64(seed)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
