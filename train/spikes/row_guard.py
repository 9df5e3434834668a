"""Rows that lie far outside their domain: looked for in every step, on the device, through a few tokens of each row.

The loss of a step tells little of one row among many: of 14 rows one of noise lifts it by less than steps differ among
themselves, of 1,008 by nothing that could be seen. Among the losses of rows it stands out all the same.
"""

from typing import Any

import torch
from torch import nn

from train.config import SpikeSettings
from train.curriculum.batches import IGNORED, MicroBatch
from train.curriculum.plan import Phase, StepPlan
from train.launch.world import World
from train.scoring.token_losses import token_losses
from train.spikes.guard import SpikePolicy

FEWEST_TOKENS = 12  # of a row are looked at; more would cost the miniature over 1 % of a step
SHARE = 64  # one token of so many, in rows long enough
FEWEST_ROWS = 8  # of a domain make a distribution; below, all rows of the window do
NONE = -1e9  # the highest loss of a domain without rows, finite so that a state can be written as JSON


class RowOutliers(SpikePolicy):
    """How far the most outlying row of a step lies above the mean of its domain, in the domain's deviations, and
    whether that is further than the phase's last `window` good steps explain.

    A row's loss is the mean over evenly spaced tokens. Text has a long tail: the largest deviation among a step's rows
    is itself compared with those of the window, and a row stands out when it lies `sigma` deviations above its domain
    and `sigma` deviations above the largest deviations of earlier steps.
    """

    name = "rows"

    def __init__(self, settings: SpikeSettings, model: Any, world: World) -> None:
        super().__init__(settings, model, world)
        self._slots = torch.arange(settings.window, device=world.device)
        self._batch: MicroBatch | None = None
        self._domain_of_subset = torch.zeros(0, dtype=torch.int64)
        self._losses: list[torch.Tensor] = []
        self._domains: list[torch.Tensor] = []
        self._latest: tuple[torch.Tensor, torch.Tensor] | None = None
        self._allocate(1)
        model.model.register_forward_hook(self._hook)

    def _allocate(self, domains: int) -> None:
        size = (self.settings.window, domains)
        options: dict[str, Any] = {"dtype": torch.float64, "device": self.world.device}
        self._moments = torch.zeros((*size, 3), **options)  # rows, sum and sum of squares of their losses
        self._highest = torch.full(size, NONE, **options)
        self._count = torch.zeros((), dtype=torch.int64, device=self.world.device)

    def reset(self) -> None:
        """Forget the past (a phase begins)."""
        self._count.zero_()

    def enter(self, phase: Phase) -> None:
        """Take the domains of the phase's subsets; what is remembered of the phase stays."""
        names = [domain or "other" for _, domain, _ in phase.subsets]
        domains = sorted(set(names))
        self._domain_of_subset = torch.tensor([domains.index(name) for name in names], device=self.world.device)
        if self._moments.shape[1] != len(domains):
            self._allocate(len(domains))

    def before_step(self) -> None:
        self._losses, self._domains = [], []

    def before_forward(self, batch: MicroBatch) -> None:
        self._batch = batch

    def _hook(self, module: nn.Module, args: Any, output: Any) -> None:
        if module.training and self._batch is not None:
            self._measure(output.last_hidden_state, self._batch)
            self._batch = None

    @torch.compiler.disable
    @torch.no_grad()
    def _measure(self, hidden_states: torch.Tensor, batch: MicroBatch) -> None:
        """hidden_states [rows, context, hidden]: what the head is multiplied with."""
        predicting = batch.labels.shape[1] - 1
        count = min(max(FEWEST_TOKENS, predicting // SHARE), predicting)
        places = torch.arange(count, device=hidden_states.device) * predicting // count
        targets = batch.labels[:, 1 + places]
        losses = token_losses(hidden_states[:, places].flatten(0, 1), targets.flatten(), self.model.lm_head)
        counted = (targets != IGNORED).sum(dim=1).clamp_min(1)
        self._losses.append(losses.view_as(targets).sum(dim=1) / counted)
        self._domains.append(self._domain_of_subset[batch.subset_ids])

    def judge(self, loss: torch.Tensor, grad_norm: torch.Tensor, record: dict[str, Any]) -> torch.Tensor:
        stands_out, deviations, farthest = self.judge_rows(torch.cat(self._losses), torch.cat(self._domains))
        record |= {"row_deviations": deviations, "farthest_row": farthest, "row_stands_out": stands_out}
        return stands_out

    def on_record(self, record: dict[str, Any], plan: StepPlan) -> str:
        if "farthest_row" in record:
            record["farthest_row"] = plan.row_start + int(record["farthest_row"])
        if not record.get("row_stands_out"):
            record.pop("row_stands_out", None)
            return ""
        return f"row {record['farthest_row']} lies {record['row_deviations']:.1f} deviations above its domain"

    @torch.no_grad()
    def judge_rows(
        self, losses: torch.Tensor, domains: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of a step with these losses (nats a token) and domains of its rows on this rank: whether a row stands out
        (0-dim bool), the largest deviation, and which row of the step has it (0-dim float64); alike on all ranks."""
        losses = losses.double().nan_to_num(nan=float("inf"))
        # The loss falls within a window, fast at first: a step counts half of what one 11 steps later does (of 128).
        size = self.settings.window
        age = (self._count - 1 - self._slots) % size
        weights = (self._slots < self._count) * torch.exp(-8 * age.double() / size)
        mean, deviation = _distributions(self._moments, weights)
        farthest, index = ((losses - mean[domains]) / deviation[domains]).max(dim=0)
        # One vector a rank, laid side by side by a sum: what all ranks need of each in one collective.
        known = len(mean)
        gathered = losses.new_zeros((self.world.size, 4 * known + 2))
        of_rank = gathered[self.world.rank]
        of_rank[: 3 * known].view(known, 3).index_add_(
            0, domains, torch.stack([torch.ones_like(losses), losses, losses.square()], dim=1)
        )
        of_rank[3 * known : -2] = losses.new_full((known,), NONE).scatter_reduce(0, domains, losses, "amax")
        of_rank[-2], of_rank[-1] = farthest, index + self.world.rank * len(losses)
        self.world.sum(gathered)
        self._latest = (gathered[:, : 3 * known].sum(dim=0).view(known, 3), gathered[:, 3 * known : -2].amax(dim=0))
        farthest, rank = gathered[:, -2].max(dim=0)
        earlier = ((self._highest - mean) / deviation).amax(dim=1)
        weights = weights / weights.sum().clamp_min(1e-12)
        usual = (earlier * weights).sum()
        spread = ((earlier - usual).square() * weights).sum().sqrt()
        sigma = self.settings.sigma
        stands_out = (farthest > (usual + sigma * spread).clamp_min(sigma)) & (self._count >= self.settings.min_steps)
        # Not `gathered[rank, -1]`: an index without dimensions is fetched to the host.
        row = gathered[:, -1].index_select(0, rank[None])[0]
        return stands_out, torch.where(self._count > 1, farthest, float("nan")), row

    def remember(self, spike: torch.Tensor) -> None:
        assert self._latest is not None
        moments, highest = self._latest
        good = ~spike
        slot = (self._slots == self._count % self.settings.window) & good
        self._moments = torch.where(slot[:, None, None], moments, self._moments)
        self._highest = torch.where(slot[:, None], highest, self._highest)
        self._count += good.long()

    def state_dict(self) -> dict[str, Any]:
        return {"moments": self._moments.tolist(), "highest": self._highest.tolist(), "count": int(self._count)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._allocate(len(state["highest"][0]))
        self._moments.copy_(torch.tensor(state["moments"], dtype=torch.float64))
        self._highest.copy_(torch.tensor(state["highest"], dtype=torch.float64))
        self._count.fill_(state["count"])


def _distributions(moments: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the row losses of each domain, float64 [domains].

    moments [steps, domains, 3]: rows, sum and sum of squares; weights [steps]. The deviation is that of rows of one
    step from each other, so that a loss that falls over the steps does not widen it.
    """
    rows, sums, squares = moments.unbind(dim=2)
    within = (squares - sums.square() / rows.clamp_min(1)).clamp_min(0)
    totals = torch.stack([rows, sums, squares, within, (rows - 1).clamp_min(0)], dim=2)
    by_domain = (totals * weights[:, None, None]).sum(dim=0)
    of_all = by_domain.sum(dim=0)
    mean_of_all = of_all[1] / of_all[0].clamp_min(1e-12)
    # Steps of a few rows may hold no two of one domain at all.
    total_variance = of_all[2] / of_all[0].clamp_min(1e-12) - mean_of_all.square()
    variance_of_all = torch.where(of_all[4] < FEWEST_ROWS, total_variance, of_all[3] / of_all[4].clamp_min(1e-12))
    rows, sums, _, within, freedom = by_domain.unbind(dim=1)
    mean = torch.where(rows < FEWEST_ROWS, mean_of_all, sums / rows.clamp_min(1e-12))
    variance = torch.where(freedom < FEWEST_ROWS, variance_of_all, within / freedom.clamp_min(1e-12))
    return mean, variance.clamp_min(1e-12).sqrt()
