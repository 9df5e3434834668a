"""The next phase's mix, proposed from how held-out loss went by domain and what is left of the sources.

The authors nudged the mixture at each phase boundary by perplexity and benchmarks, within 3 % of the mix (report,
section 4); their formula is not public. The rule here, `shares_of_domains`, is ours: a domain that learns more slowly
than the others, or forgets, gets more. What comes out is a recipe file to be read and changed, not a decision.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import DataError
from data_recipes.manifest import read_manifest
from data_recipes.recipes.curriculum import SHARE_CHANGE_RULE, domain_tokens
from data_recipes.recipes.phases import is_annealing, phase_key
from data_recipes.recipes.quotas import proportional_shares
from data_recipes.recipes.recipe import DOMAINS, published_recipes

# A domain whose loss falls by 1 % a phase less than the average gets 10 % more of its share. Ours.
GAIN = 10.0
# Phases over which the change of loss is taken, so that one noisy end of a phase does not decide. Ours.
WINDOW = 3
# Report, section 4: at most 5 % instruction data in the stable stage.
MOST_INSTRUCTION = 0.05
INSTRUCTION, WEB = "instruction-synthetic", ("web-en", "web-zh")
# Up to four epochs of repeated text are worth almost as much as new text (Muennighoff et al. 2023, section 5).
MOST_EPOCHS = 4.0


@dataclass(frozen=True)
class Rule:
    """What bounds a proposal; `annealing` lifts the limit on instruction data and the floor of web text."""

    gain: float = GAIN
    window: int = WINDOW
    most_change: float = SHARE_CHANGE_RULE
    most_epochs: float = MOST_EPOCHS
    annealing: bool = False


@dataclass
class DomainProposal:
    """A domain's shares of the mix before and after; bits per byte at the window's begin and end, and the relative
    change a phase (negative: learning); epochs of its most repeated source so far; why the share is what it is."""

    domain: str
    share_before: float
    bits_per_byte: tuple[float, float] | None = None
    change: float | None = None
    epochs: float | None = None
    share: float = 0.0
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Proposal:
    """A recipe as its YAML has it, and what led to it."""

    recipe: dict[str, Any]
    domains: list[DomainProposal]
    after: str
    phases: tuple[str, str]

    def text(self) -> str:
        """The recipe file, with the reasons as comments."""
        lines = [
            f"# Proposed by `yulanmini recipe propose` to follow {self.after}: held-out loss from phase "
            f"{self.phases[0]} to {self.phases[1]}.",
            "# Read and change it: the rule is in docs/recipes.md. `after`: each source continues where that stopped.",
        ]
        for item in self.domains:
            lines.append(f"# {item.domain}: {item.share_before:.2%} -> {item.share:.2%}; {'; '.join(item.reasons)}.")
        body = yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=None)
        return "\n".join(lines) + "\n\n" + body


def propose(
    heldout: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    tokens: int | None = None,
    rule: Rule | None = None,
) -> Proposal:
    """The mix to follow the phase built in `folder`, by the records of the run's `heldout.jsonl`.

    Each record has `phase`, `domain` and `bits_per_byte`; `tokens` is the new phase's size, by default the last one's.
    Raises `DataError` where there are too few phases to see a change, or too little text is left.
    """
    built = read_manifest(folder, kind="packed-rows")
    name = built["name"]
    rule = rule or Rule(annealing=is_annealing(name))
    subsets = built["subsets"]
    outside = sorted({row["name"] for row in subsets if row["domain"] is None})
    if outside:
        raise DataError(f"{name}: subset '{outside[0]}' has no domain; a share can only be proposed for one with it.")
    drawn = sum(row["quota_tokens"] for row in subsets)
    total = tokens or drawn
    curves, phases = curves_by_domain(heldout, rule.window)
    left = {source["name"]: tokens_left(source, built, rule.most_epochs) for source in built["sources"]}
    domains, limits = [], {}
    for domain in DOMAINS:
        rows = [row for row in subsets if row["domain"] == domain]
        if not rows:
            continue
        epochs = [row["epochs"] for row in rows if row["epochs"] is not None]
        share = sum(row["quota_tokens"] for row in rows) / drawn
        item = DomainProposal(domain, share, epochs=max(epochs, default=None))
        if domain in curves:
            item.bits_per_byte = (curves[domain][0], curves[domain][-1])
            item.change = (curves[domain][-1] / curves[domain][0]) ** (1 / (len(curves[domain]) - 1)) - 1
        domains.append(item)
        limits[domain] = sum(left[source] for source in {row["source"] for row in rows}) / total
    shares_of_domains(domains, limits, rule)
    recipe = {
        "name": f"after-{phase_key(name)}",
        "context_length": built["context_length"],
        "tokenizer": built["tokenizer"]["location"],
        "after": str(folder.resolve()),
        "subsets": _subsets(built, domains, total, left),
    }
    return Proposal(recipe, domains, phase_key(name), phases)


def shares_of_domains(domains: Sequence[DomainProposal], limits: Mapping[str, float], rule: Rule) -> None:
    """Set each domain's `share` and `reasons`; the shares add up to 1.

    Before any bound, share' = share * exp(gain * (own change - mean change)) up to a common factor, the mean being
    weighted by share. Bounds, in this order: no share moves by more than `most_change` of the mix; web text does not
    fall below the least share of a published stable mix, nor instruction data rise above 5 % (where they are beyond it
    already they stay); no more than `limits` (the share that the text left for `most_epochs` epochs makes up).
    """
    known = [item for item in domains if item.change is not None]
    mean = sum(item.share_before * (item.change or 0) for item in known) / sum(item.share_before for item in known)
    wanted, lowest, highest = {}, {}, {}
    for item in domains:
        before, name = item.share_before, item.domain
        slower = item.change - mean if item.change is not None else 0.0
        wanted[name] = before * math.exp(rule.gain * slower)
        lowest[name], highest[name] = max(before - rule.most_change, 0.0), before + rule.most_change
        if item.change is None or item.bits_per_byte is None:
            item.reasons.append("no held-out text, so its share is kept")
        else:
            first, last = item.bits_per_byte
            verb = "loss rises" if item.change > 0 else "learns more slowly" if slower > 0 else "learns faster"
            item.reasons.append(
                f"{first:.4f} -> {last:.4f} bits a byte, {item.change:+.2%} a phase against {mean:+.2%}: {verb}"
            )
        if not rule.annealing and name in WEB:
            lowest[name] = max(lowest[name], min(_least_published(name), before))
        if not rule.annealing and name == INSTRUCTION:
            highest[name] = min(highest[name], max(MOST_INSTRUCTION, before))
        if limits[name] < highest[name]:
            highest[name] = limits[name]
            lowest[name] = min(lowest[name], limits[name])
    if sum(highest.values()) < 1 - 1e-9:
        raise DataError(
            f"too little text is left: with at most {rule.most_epochs:g} epochs of each source and shares that move by "
            f"at most {rule.most_change:.0%}, only {sum(highest.values()):.1%} of the tokens can be drawn. Give fewer "
            "--tokens, allow more --most-epochs or a larger --most-change, or add a source."
        )
    found = fill(wanted, lowest, highest, total=1.0)
    for item in domains:
        item.share = found[item.domain]
        bound = {
            "no more text is left within the epochs allowed": item.share >= limits[item.domain] - 1e-9,
            f"held at {MOST_INSTRUCTION:.0%} instruction data or where it was": item.domain == INSTRUCTION
            and not rule.annealing
            and item.share >= max(MOST_INSTRUCTION, item.share_before) - 1e-9,
            "held at the least share of web text in a published stable mix or where it was": item.domain in WEB
            and not rule.annealing
            and item.share <= min(_least_published(item.domain), item.share_before) + 1e-9,
            f"moved by at most {rule.most_change:.0%} of the mix": abs(item.share - item.share_before)
            >= rule.most_change - 1e-9,
        }
        item.reasons += [reason for reason, holds in bound.items() if holds][:1]


def fill(
    wanted: Mapping[str, float], lowest: Mapping[str, float], highest: Mapping[str, float], *, total: float
) -> dict[str, float]:
    """Amounts in proportion to `wanted` wherever no bound holds, adding up to `total`.

    There is one factor such that the amounts, each kept within its bounds, add up: found by bisection.
    """

    def amounts(factor: float) -> dict[str, float]:
        return {name: min(max(factor * wanted[name], lowest[name]), highest[name]) for name in wanted}

    low, high = 0.0, 1.0
    while sum(amounts(high).values()) < total and high < 1e12:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(amounts(middle).values()) < total else (low, middle)
    return amounts(high)


def curves_by_domain(
    heldout: Sequence[Mapping[str, Any]], window: int
) -> tuple[dict[str, list[float]], tuple[str, str]]:
    """Bits per byte of each domain at the ends of the last `window` + 1 phases, and the first and last of these.

    Loss before training (phase 0) does not count: what the first phase gains says nothing about a mix.
    """
    last: dict[str, dict[str, float]] = {}
    for record in heldout:
        if str(record["phase"]) != "0":
            phase = last.setdefault(str(record["phase"]), {})
            phase[record["domain"]] = record["bits_per_byte"]
    if len(last) < 2:
        raise DataError(
            f"held-out loss of {len(last)} finished phase{'s' * (len(last) != 1)}: at least two are needed to see how "
            "it changes. Train with `heldout: {dir: FOLDER}` in the config, and ask again after the second phase."
        )
    phases = list(last)[-(window + 1) :]
    domains = {domain for phase in phases for domain in last[phase]}
    curves = {domain: [last[phase][domain] for phase in phases if domain in last[phase]] for domain in sorted(domains)}
    return {domain: curve for domain, curve in curves.items() if len(curve) > 1}, (phases[0], phases[-1])


def tokens_left(source: Mapping[str, Any], built: Mapping[str, Any], most_epochs: float) -> float:
    """Tokens of a source until it has been read `most_epochs` times; infinite while its size is not known."""
    consumed, epochs = built["consumed"].get(source["store"], 0), source["epochs"]
    if not epochs:
        return math.inf
    return max(consumed / epochs * most_epochs - consumed, 0.0)


def _least_published(domain: str) -> float:
    """The least share that a domain has in a published mix of the stable stage."""
    stable = [recipe for recipe in published_recipes() if not is_annealing(recipe.key)]
    return min(domain_tokens(recipe)[domain] / recipe.tokens for recipe in stable)


def _subsets(
    built: Mapping[str, Any], domains: Sequence[DomainProposal], total: int, left: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Subsets as a recipe has them: inside a domain they keep their proportions as far as their sources last."""
    rows = built["subsets"]
    amounts: dict[str, float] = {}
    for item in domains:
        members = [row for row in rows if row["domain"] == item.domain]
        by_source: dict[str, float] = {}
        for row in members:
            by_source[row["source"]] = by_source.get(row["source"], 0.0) + row["quota_tokens"]
        nothing = dict.fromkeys(by_source, 0.0)
        drawn = fill(by_source, nothing, {name: left[name] for name in by_source}, total=item.share * total)
        for row in members:
            amounts[row["name"]] = drawn[row["source"]] * row["quota_tokens"] / by_source[row["source"]]
    kept = [row for row in rows if amounts[row["name"]] >= 0.5]
    tokens = proportional_shares([round(amounts[row["name"]]) for row in kept], total)
    entries = {subset["name"]: subset for subset in built["recipe"]["subsets"]}
    places = {source["name"]: source["location"] for source in built["sources"]}
    subsets = []
    for row, count in zip(kept, tokens, strict=True):
        entry = {**entries[row["name"]], "tokens": count}
        entry.pop("target_tokens", None)
        if places[row["source"]] is not None:  # a relative path counts from the recipe file, which is a new one
            entry["source"] = {**entry["source"], "path": places[row["source"]]}
        subsets.append(entry)
    return subsets


def heldout_records(file: Path) -> list[dict[str, Any]]:
    """The lines of a run's `heldout.jsonl`; `DataError` when it is not there or is something else."""
    try:
        records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        assert all({"phase", "domain", "bits_per_byte"} <= record.keys() for record in records)
    except FileNotFoundError:
        raise DataError(
            f"{file}: not there, so nothing says how held-out loss went. Train with `heldout: {{dir: FOLDER}}` in the "
            "config, or give the folder of a run that did."
        ) from None
    except (ValueError, AttributeError, AssertionError) as error:
        raise DataError(
            f"{file}: not the held-out scores of a run; expected lines with phase, domain, bits_per_byte."
        ) from error
    return records
