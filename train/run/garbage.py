"""Python's garbage collection at set steps, the same on all ranks: a rank that collects keeps the others waiting."""

import gc


class GarbageCollection:
    """With `every` steps given Python does not collect on its own, but then; without, it does as ever."""

    def __init__(self, every: int | None) -> None:
        self._every = every
        if every:
            gc.collect()
            gc.disable()

    def after(self, step: int) -> None:
        """Step `step` is done (from 1)."""
        if self._every and step % self._every == 0:
            gc.collect()

    def close(self) -> None:
        """Leave it to Python again."""
        if self._every:
            gc.enable()
