"""The config of `yulanmini train select`. Numbers of LESS are from Xia et al. 2024 (arXiv 2402.04333), section 4.1 and
appendix B; the report names LESS ("accelerated") and InsTag for the annealing stage and gives no numbers."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from train.config import AdamWSettings, ModelPlace, Settings


class WarmUpSettings(AdamWSettings):
    """Adapters trained on a random part of the candidates, so that gradients and Adam's moments mean something."""

    share: float = Field(default=0.05, gt=0, le=1)
    epochs: int = Field(default=4, gt=0)
    batch_size: int = Field(default=128, gt=0)
    lr: float = Field(default=2e-5, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)


class AdapterSettings(Settings):
    """The low-rank adapters whose gradients stand for a dialogue's; LESS puts them on the attention's matrices."""

    rank: int = Field(default=128, gt=0)
    alpha: float = Field(default=512, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    target_modules: str | list[str] = Field(default=["q_proj", "k_proj", "v_proj", "o_proj"])


class AmountSettings(Settings):
    """How much is selected: a share of the candidates, or a number of dialogues."""

    share: float | None = Field(default=None, gt=0, le=1)
    count: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_of_them(self) -> "AmountSettings":
        if (self.share is None) == (self.count is None):
            raise ValueError("give either share or count")
        return self

    def of(self, candidates: int) -> int:
        """The number of dialogues, of so many."""
        wanted = self.count if self.count is not None else round(self.share * candidates)  # type: ignore[operator]
        return min(max(1, wanted), candidates)


class TaggerSettings(Settings):
    """A model on a server that names what an instruction asks for. The key is in OPENAI_API_KEY."""

    endpoint: str
    model: str
    concurrency: int = Field(default=64, gt=0)


class DiversitySettings(Settings):
    """Of the most similar candidates, `pool` times as many as are selected, those that add to the tags seen (InsTag,
    Lu et al. 2023, arXiv 2308.07074, algorithm 1).

    `column`: the key of a candidate's line that holds its tags, a list of texts; or `tagger`, which is asked for them.
    Tags that fewer than `min_count` of the pool have are noise (InsTag drops those under 8 of its 51 thousand).
    `first`: which candidates are looked at first, the most similar ones, or, as InsTag, those with the most tags.
    """

    pool: float = Field(default=3.0, ge=1)
    column: str | None = None
    tagger: TaggerSettings | None = None
    min_count: int = Field(default=2, ge=1)
    first: Literal["similarity", "complexity"] = "similarity"

    @model_validator(mode="after")
    def _tags_come_from_one_place(self) -> "DiversitySettings":
        if (self.column is None) == (self.tagger is None):
            raise ValueError("give either column or tagger: where the tags come from")
        return self


class SelectConfig(Settings):
    """One selection; see docs/selection.md. `candidates` and `targets` are files of dialogues by name; a target is a
    handful of examples of what the model shall become better at."""

    output_dir: Path
    model: ModelPlace
    tokenizer: ModelPlace | None = None
    candidates: dict[str, Path] = Field(min_length=1)
    targets: dict[str, Path] = Field(min_length=1)
    seed: int = 0
    max_length: int = Field(default=2048, gt=1)
    micro_batch_size: int = Field(default=8, gt=0)
    attention: str = "sdpa"
    dtype: Literal["float32", "bfloat16"] = "float32"
    warm_up: WarmUpSettings = WarmUpSettings()
    adapters: AdapterSettings = AdapterSettings()
    dimension: int = Field(default=8192, gt=0)
    select: AmountSettings = AmountSettings(share=0.05)
    diversity: DiversitySettings | None = None
