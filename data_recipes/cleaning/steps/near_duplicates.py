"""Documents that are much the same as another: MinHash finds candidates, and only their true similarity decides.

A document is dropped where a kept one that goes before it (`duplicates/copies.py` has the order) is a candidate of at
least the given similarity; never as a copy of a copy. Of up to 16 different texts with one key all are compared with
each other; in a larger group each is compared with the first 16 that are similar to none before them, so that a group
of a million takes some million comparisons.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.duplicates.minhash import MOST_BANDS, band_keys, set_keys, shingles
from data_recipes.cleaning.duplicates.near import NearDuplicates
from data_recipes.cleaning.steps.base import Batch, Corpus, CorpusStep, StepSettings, Threshold
from data_recipes.cleaning.words import UNICODE
from data_recipes.executors.stage import Stage

COLUMN = "minhash"


class NearDuplicatesSettings(StepSettings):
    """Texts of Jaccard similarity s are compared with probability 1 - (1 - s ** rows) ** bands: at the defaults, which
    are datatrove's, 0.92 for s = 0.8 and 0.9996 for s = 0.9. `bands` times `rows` are the permutations."""

    shingle_words: int = Field(5, ge=1)
    bands: int = Field(14, ge=1, le=MOST_BANDS)
    rows: int = Field(8, ge=1, le=256)
    similarity: Annotated[float, Threshold()] = Field(0.8, gt=0, le=1)
    """Of the sets of shingles, runs of `shingle_words` words: shared ones by all."""


class NearDuplicateStep(CorpusStep[NearDuplicatesSettings]):
    """Keeps of each set of similar documents one, or several that are not similar to each other."""

    name: ClassVar[str] = "near-duplicates"
    Settings: ClassVar[type[StepSettings]] = NearDuplicatesSettings

    def inputs(self) -> dict[str, str]:
        return {"Unicode": UNICODE}

    def schema(self) -> pa.Schema:
        """A key of the shingles, then the keys of the bands; null where a text has no words."""
        return pa.schema([(COLUMN, pa.binary(8 * (1 + self.settings.bands)))])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any] | pa.Array]:
        hashes, offsets = shingles(batch.texts, self.settings.shingle_words)
        bands = band_keys(hashes, offsets, bands=self.settings.bands, rows=self.settings.rows)
        keys = np.concatenate([set_keys(hashes, offsets)[:, None], bands], axis=1)
        valid = np.packbits(np.diff(offsets) > 0, bitorder="little")
        buffers = [pa.py_buffer(valid), pa.py_buffer(np.ascontiguousarray(keys))]
        return {COLUMN: pa.Array.from_buffers(self.schema().field(COLUMN).type, len(batch.texts), buffers)}

    def stages(self, corpus: Corpus) -> list[Stage]:
        search = NearDuplicates(
            corpus,
            column=COLUMN,
            shingle_words=self.settings.shingle_words,
            similarity=self.settings.similarity,
            reason="near duplicate of another document",
        )
        return search.stages()
