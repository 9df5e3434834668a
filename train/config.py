"""The typed config of a pretraining run: what may be set, its default, and where a default comes from.

Read with `load_config` (train/config_file.py), saved resolved as `config.yaml` of the run. Unknown keys are refused.
The configs of other scripts (train/tuning/config.py) build on `Settings` and call the same thing by the same key.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema, core_schema

from data_recipes.errors import DataError
from data_recipes.places import local_folder

PhaseName = int | str
# `auto`: as many as fit the device by estimate, chosen anew at each start (train/model_setup/memory.py).
Rows = Annotated[int, Field(gt=0)] | Literal["auto"]


class Settings(BaseModel):
    """Base of every section: no unknown key, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPlace(type(Path())):  # type: ignore[misc]
    """A folder with a model or tokenizer, or the Hub's `owner/name`: what is no folder here and has that form."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, handler(Path))

    @property
    def hub_id(self) -> str | None:
        """The id of a repository of the Hub; None for a path, be it there or not."""
        try:
            return str(self) if local_folder(self, "folder") is None else None
        except DataError:
            return None


class DataSettings(Settings):
    """`dir` holds a folder of packed rows for each phase: a number, `26-4k`, a range `1-25`, or a folder's name."""

    dir: Path
    phases: list[PhaseName] | PhaseName = "1-27"


class HeldoutSettings(Settings):
    """Held-out text, `<domain>.jsonl` files in `dir`; the first `bytes_per_domain` bytes of each are scored.

    Scored before the first step, at each phase's end and every `every_steps` steps (train/scoring/heldout.py).
    `context_length` is the length of a scoring window, by default the shortest of the curriculum, so that phases can
    be compared.
    """

    dir: Path
    bytes_per_domain: int = Field(default=1_000_000, gt=0)
    every_steps: int | None = Field(default=None, gt=0)
    context_length: int | None = Field(default=None, gt=1)


class EvaluationSettings(Settings):
    """Tasks on the exported model at each phase's end, by a command of yours: a process of its own, as training knows
    nothing of evaluation and a task that fails must not end a run. It runs beside training, on rank 0's machine, and
    the run waits for the last one at its end: give it a device of its own, or let it hand over to a job queue.

    In `command`, `{model}` stands for the exported folder, `{scores}` for the folder that the command writes,
    `{python}` for this interpreter: `yulanmini eval run {model} --data CORPUS --suite problems --out {scores}`.
    """

    command: str

    @field_validator("command")
    @classmethod
    def _names_both_folders(cls, value: str) -> str:
        if "{model}" not in value or "{scores}" not in value:
            raise ValueError(f"'{value}' does not name both {{model}} and {{scores}}.")
        return value


class AdamWSettings(Settings):
    """What every optimizer section has: AdamW, and the norm that gradients are clipped at (null: not at all)."""

    lr: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float | None = Field(default=1.0, gt=0)


class OptimizerSettings(AdamWSettings):
    """Defaults are the published ones (facts.md 3.1); `lr` is the base rate, before the groups' factors.

    `kind`: `adamw` is torch's fused one, `compiled-adamw` the same update by torch.compile, `muon` a study: Muon for
    the layers' matrices, AdamW for all else (train/model_setup/optimizers.py).

    `weight_decay_on`: `everything` as released, scales, norms, biases and embedding included, or `matrices` of the
    layers only, the habit elsewhere. What it takes off a weight per step is lr * the group's factor * `weight_decay`.
    """

    kind: Literal["adamw", "compiled-adamw", "muon"] = "adamw"
    lr: float = Field(default=1e-2, gt=0)
    eps: float = Field(default=1e-15, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    weight_decay_on: Literal["everything", "matrices"] = "everything"


class ParametrizationSettings(Settings):
    """A column of Table 3; `base_width` is the report's d_base, so m_width = hidden_size / base_width.

    `overrides` changes single properties of the column (train/model_setup/parametrization.py), for ablations.
    """

    name: Literal["yulanmini", "cerebras-gpt", "minicpm", "standard"] = "yulanmini"
    base_width: int = Field(default=256, gt=0)
    overrides: dict[str, Any] = {}


class AnnealingSettings(Settings):
    """The tail: begins with the first step of phase `start`; `floor` is a fraction of the base rate.

    `steps` is the length of the curve (published: 19,000); by default all steps from there to the end. `shape`:
    one of `TAIL_SHAPES` (train/curriculum/schedule.py).
    """

    start: PhaseName
    steps: int | None = Field(default=None, gt=0)
    shape: str = "1-sqrt"
    floor: float = Field(default=0.0, ge=0, lt=1)


class ScheduleSettings(Settings):
    """Linear warm-up (in steps or in tokens), constant, then the annealing tail if there is one."""

    warmup_steps: int | None = Field(default=None, ge=0)
    warmup_tokens: int | None = Field(default=None, ge=0)
    annealing: AnnealingSettings | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> "ScheduleSettings":
        if self.warmup_steps is not None and self.warmup_tokens is not None:
            raise ValueError("warmup_steps and warmup_tokens are both given; give one of them.")
        return self


class RecomputationSettings(Settings):
    """Which activations are computed again in the backward pass instead of kept.

    `every` is the published rule: all layers but those with index % k == 0. `selective` keeps the outputs of
    matrix products and attention and recomputes the rest. `budget` lets torch.compile choose what is cheapest to
    recompute within the share `budget` of what a layer keeps by itself (0: its input alone); it needs `compile`.
    """

    mode: Literal["none", "every", "full", "selective", "budget"] = "none"
    k: int = Field(default=7, gt=0)
    budget: float = Field(default=0.5, ge=0, le=1)


class StageSettings(Settings):
    """What holds for a range of phases. `context_length`, if given, is checked against the data.

    `rebalance`: at the end of each of these phases, bring every scaled matrix to their mean RMS and let its alpha take
    up the rest. The function stays the same; a step relative to the weights changes by what the run then says
    (docs/merging.md). The authors did such a step and saw no difference in ablation, so it is off.
    """

    phases: list[PhaseName] | PhaseName
    rope_theta: float | None = Field(default=None, gt=0)
    document_mask: bool = False
    context_length: int | None = Field(default=None, gt=1)
    micro_batch_rows: Rows | None = None
    recomputation: RecomputationSettings | None = None
    rebalance: bool = False


class CheckpointSettings(Settings):
    """A checkpoint at each phase's end and every `every_steps`; of the latter the last `keep_last` stay."""

    every_steps: int | None = Field(default=None, gt=0)
    keep_last: int = Field(default=2, gt=0)
    asynchronous: bool = False


class ExportSettings(Settings):
    """The model in the Hugging Face layout at each phase's end."""

    phase_ends: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"


class InitSettings(Settings):
    """Start from a checkpoint of a run (`.../checkpoints/step-N`) or a model folder, instead of at random."""

    path: Path
    optimizer: bool = False


class MonitorSettings(Settings):
    """`interval`: steps between two measurements (at 20 the default set costs under 1 % of a step:
    benchmarks/train_step.py); `flush_every`: steps between two writes of metrics.jsonl
    (default 1 on a CPU, 10 on an accelerator, where a write costs a synchronisation). `names`: those of
    train/monitors that measure, by default all.
    `trackers`: accelerate's names (tensorboard, trackio, wandb, ...), which log under `project`. `peak_tflops`:
    dense peak of one device for MFU, where modeling_yulanmini/counts.py does not know it."""

    interval: int = Field(default=20, gt=0)
    flush_every: int | None = Field(default=None, gt=0)
    names: list[str] | None = None
    trackers: list[str] = []
    project: str = "yulanmini"
    peak_tflops: float | None = Field(default=None, gt=0)


class SpikeSettings(Settings):
    """A step is a spike when loss or gradient norm is not finite, or the loss or the norm's logarithm is `sigma`
    deviations above those of the last `window` good steps of the phase, of which there must be `min_steps`, or when a
    row is as far above its domain and what is usual for the largest of a step. `policies`: which of these look for
    spikes, by default all (train/spikes/: `steps`, `rows`); what is not finite is one in any case.

    Its update is left out; `rollback_after` of them within `within` steps go back to the last good checkpoint and
    never read those rows again."""

    policies: list[str] | None = None
    sigma: float = Field(default=6.0, gt=0)
    window: int = Field(default=128, gt=7)
    min_steps: int = Field(default=16, gt=3)
    rollback_after: int = Field(default=3, gt=0)
    within: int = Field(default=20, gt=0)
    max_rollbacks: int = Field(default=5, ge=0)

    @model_validator(mode="after")
    def _window_holds_them(self) -> "SpikeSettings":
        if self.min_steps > self.window:
            raise ValueError(f"min_steps {self.min_steps} is more than the window of {self.window} steps.")
        return self


class Limit(Settings):
    """A signal warns when it is `above` for `in_a_row` measurements."""

    above: float
    in_a_row: int = Field(default=1, gt=0)


class WarningSettings(Settings):
    """When a run warns that it may diverge: one of the signals with a limit is above it. What they are says
    train/monitors/early_warning.py; null is no limit. What is usual is the median of the last `history` measurements of
    hidden states and logits, of which there must be `at_least`, and of the last `window` steps' gradient norms. The
    defaults are the rule that the early-warning study chose (docs/studies/early-warning.md)."""

    variance_growth: Limit | None = Limit(above=30.0)
    grad_norm: Limit | None = Limit(above=12.0)
    attention_logit: Limit | None = Limit(above=200.0)
    attention_growth: Limit | None = None
    history: int = Field(default=4, gt=3)
    at_least: int = Field(default=4, gt=1)
    window: int = Field(default=64, gt=15)

    @model_validator(mode="after")
    def _history_holds_them(self) -> "WarningSettings":
        if self.at_least > self.history:
            raise ValueError(f"at_least {self.at_least} is more than the history of {self.history} measurements.")
        return self

    @property
    def limits(self) -> dict[str, Limit]:
        """The signals that have a limit."""
        return {name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), Limit)}


class TimeoutSettings(Settings):
    """Minutes that a rank waits for the others: `init_minutes` until the first step is done, which includes reading a
    checkpoint and compiling; `step_minutes` from then on."""

    init_minutes: float = Field(default=30.0, gt=0)
    step_minutes: float = Field(default=10.0, gt=0)


class PretrainConfig(Settings):
    """A pretraining or annealing run.

    `precision`, `recomputation`, `compile` and `reshard_after_forward` can be left to `accelerate config`, which a run
    file must not contradict (train/launch/answers.py). `collect_garbage_every`: steps between two collections by
    Python, which otherwise come at other times on each rank (train/run/garbage.py).
    """

    output_dir: Path
    model: dict[str, Any] | Path
    tokenizer: Path
    data: DataSettings
    tokens_per_step: int = Field(gt=0)
    heldout: HeldoutSettings | None = None
    evaluation: EvaluationSettings | None = None
    init: InitSettings | None = None
    parametrization: ParametrizationSettings = ParametrizationSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    stages: list[StageSettings] = []
    max_steps: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, gt=0)
    precision: Literal["float32", "bfloat16", "fp8"] = "float32"
    attention: str = "auto"
    micro_batch_rows: Rows | None = None
    recomputation: RecomputationSettings = RecomputationSettings()
    reshard_after_forward: bool = True
    compile: bool = False
    collect_garbage_every: int | None = Field(default=None, gt=0)
    timeouts: TimeoutSettings = TimeoutSettings()

    checkpoint: CheckpointSettings = CheckpointSettings()
    export: ExportSettings = ExportSettings()
    monitors: MonitorSettings = MonitorSettings()
    spikes: SpikeSettings = SpikeSettings()
    warnings: WarningSettings = WarningSettings()

    @model_validator(mode="after")
    def _scores_need_models(self) -> "PretrainConfig":
        if self.evaluation is not None and not self.export.phase_ends:
            raise ValueError("evaluation needs the exported models: set export.phase_ends to true.")
        return self

    @field_validator("micro_batch_rows", "max_steps", "threads", mode="before")
    @classmethod
    def _whole_number(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"{value} is not a whole number.")
        return value


def phase_names(phases: list[PhaseName] | PhaseName) -> list[str]:
    """`[1, "3-5", "26-4k", "mine"]` as `["1", "3", "4", "5", "26-4k", "mine"]`."""
    names = []
    for item in phases if isinstance(phases, list) else [phases]:
        first, dash, last = str(item).partition("-")
        if dash and first.isdigit() and last.isdigit():
            names += [str(number) for number in range(int(first), int(last) + 1)]
        else:
            names.append(str(item))
    return names
