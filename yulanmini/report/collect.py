"""Read a run folder's files into one plain dict: the figures of the report, and the content of `report.json`."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError
from data_recipes.manifest import CLAIM_NAME
from data_recipes.recipes.phases import is_annealing, phase_key, training_order
from data_recipes.rows.reader import PackedRows
from data_recipes.rows.stats import continued_share
from eval.scores import SCORES_NAME, is_share, side_by_side
from yulanmini.errors import RunError
from yulanmini.report.reading import RunFolder, finite, mean
from yulanmini.report.training_curves import heldout, pretraining, tuning
from yulanmini.report.training_figures import PANELS
from yulanmini.run_layout import (
    CARD_PAGES,
    CORPUS,
    DATA,
    HUB,
    MERGED,
    MODELS,
    PRETRAIN,
    REHEARSAL_FILE,
    SCORES,
    STAGES,
    TIMINGS_FILE,
)

SCHEMA_VERSION = 1


def collect(run: Path) -> dict[str, Any]:
    """All figures of the run in `run`, JSON-able, with None for what was not run or could not be read.

    Raises RunError when `run` is not a folder. Byte counts are bytes, times seconds, losses nats a token.
    """
    if not Path(run).is_dir():
        raise RunError(f"{run}: not a folder. Give the --out folder of `yulanmini reproduce`.")
    folder = RunFolder(Path(run))
    manifests = {stage: folder.json(f"{name}/manifest.json") for stage, (name, _) in STAGES.items()}
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run": Path(run).resolve().name,
        "settings": (folder.json(CLAIM_NAME) or {}).get("made_from"),
        "stages": stage_figures(folder, manifests),
        "corpus": corpus(manifests["corpus"]),
        "cleaning": cleaning(folder.json(f"{CORPUS}/cleaning/summary.json")),
        "tokenizer": tokenizer(manifests["tokenizer"]),
        "mixture": mixture(folder),
        "continued_documents": continued_documents(folder),
        "pretraining": pretraining(folder, PRETRAIN, PANELS),
        "heldout": heldout(folder, PRETRAIN),
        "merge": folder.json(f"{MERGED}/merge_certificate.json"),
        "tuning": {
            stage: figures
            for stage, (name, _) in MODELS.items()
            if name != MERGED and (figures := tuning(folder, name))
        },
        "scores": scores(folder),
        "hub": hub(folder, manifests["hub"]),
        "provenance": provenance(folder, manifests),
    }
    report["headline"] = headline(report)
    report["notes"] = folder.notes
    return finite(report)


def collect_training(run: Path) -> dict[str, Any]:
    """The figures of a bare training run: what `pretraining` and `heldout` of a whole run's report hold.

    Raises RunError where `run` is no folder with a metrics.jsonl that holds a step.
    """
    folder = RunFolder(Path(run))
    report = {"run": Path(run).resolve().name, "pretraining": pretraining(folder, ".", PANELS), "notes": folder.notes}
    if report["pretraining"] is None:
        found = "; ".join(folder.notes) or (
            "no steps yet" if (folder.root / "metrics.jsonl").is_file() else "no such file"
        )
        raise RunError(f"{run}/metrics.jsonl: {found}. Expected the folder of a training run.")
    return finite(report | {"heldout": heldout(folder, ".")})


def in_order(domains: Iterable[str]) -> list[str]:
    """Domains in the order of the curriculum's tables, unknown ones after them."""
    from data_recipes.recipes.recipe import DOMAINS

    return sorted(domains, key=lambda domain: (DOMAINS.index(domain) if domain in DOMAINS else len(DOMAINS), domain))


def stage_figures(folder: RunFolder, manifests: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry a stage: done, interrupted or not run; time over all attempts, peak memory."""
    timings = folder.lines(TIMINGS_FILE)
    figures = []
    for stage, (name, title) in STAGES.items():
        attempts = [line for line in timings if line.get("stage") == stage]
        started = bool(attempts) or (folder.root / name).is_dir()
        status = "done" if manifests[stage] else "interrupted" if started else "not run"
        figures.append(
            {
                "stage": stage,
                "title": title,
                "folder": name,
                "status": status,
                "seconds": sum(line.get("seconds") or 0 for line in attempts) if attempts else None,
                "peak_rss_bytes": max((line.get("peak_rss_bytes") or 0 for line in attempts), default=None),
                "attempts": len(attempts),
            }
        )
    return figures


def corpus(manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the run learned from."""
    return manifest and {key: manifest.get(key) for key in ("counts", "config", "substitutes", "skipped")}


def cleaning(summary: dict[str, Any] | None) -> dict[str, Any] | None:
    """The funnel of the corpus: what is kept of each domain's documents after each step."""
    names = ("documents", "characters", "kept_documents", "kept_characters", "sources", "steps", "funnel")
    return {name: summary[name] for name in names} if summary and summary.keys() >= {*names} else None


def tokenizer(manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """Vocabulary size, and UTF-8 bytes a token on held-out text by domain."""
    return manifest and {"counts": manifest["counts"], "config": manifest["config"]}


@cache
def published_shares() -> dict[str, dict[str, float]]:
    """Share of each domain in each published mix, by phase name (`7`, `26-4k`)."""
    from data_recipes.recipes.curriculum import domain_tokens
    from data_recipes.recipes.recipe import published_recipes

    return {
        recipe.key: {domain: tokens / recipe.tokens for domain, tokens in domain_tokens(recipe).items()}
        for recipe in published_recipes()
    }


def mixture(folder: RunFolder) -> list[dict[str, Any]] | None:
    """One entry a mix: tokens by domain, and every subset with its share."""
    mixes = []
    for name in folder.folders(f"{DATA}/phase-*"):
        manifest = folder.json(f"{name}/manifest.json")
        if manifest is None:
            continue
        subsets = manifest["subsets"]
        total = sum(subset["tokens"] for subset in subsets) or 1
        by_domain: dict[str, int] = {}
        for subset in subsets:
            domain = subset["domain"] or "no domain"
            by_domain[domain] = by_domain.get(domain, 0) + subset["tokens"]
        phase = phase_key(Path(name).name)
        mixes.append(
            {
                "phase": phase,
                "context_length": manifest["context_length"],
                "rows": manifest["counts"]["rows"],
                "tokens": manifest["counts"]["tokens"],
                "documents": manifest["counts"].get("documents"),
                "domains": {domain: by_domain[domain] / total for domain in in_order(by_domain)},
                "published": published_shares().get(phase),
                "subsets": [
                    {
                        "name": subset["name"],
                        "domain": subset["domain"] or "no domain",
                        "tokens": subset["tokens"],
                        "share": subset["tokens"] / total,
                    }
                    for subset in sorted(subsets, key=lambda subset: -subset["tokens"])
                ],
            }
        )
    return sorted(mixes, key=lambda mix: training_order(mix["phase"])) or None


def continued_documents(folder: RunFolder) -> dict[str, Any] | None:
    """How much of the end of the last stable phase belongs to documents begun in it: what its loss gains by."""
    phases = [name for name in folder.folders(f"{DATA}/phase-*") if not is_annealing(phase_key(Path(name).name))]
    try:
        rows = PackedRows(folder.root / phases[-1])
        return {"phase": phase_key(Path(phases[-1]).name), "share": continued_share(rows)}
    except (IndexError, KeyError, DataError):
        return None


def scores(folder: RunFolder) -> dict[str, Any] | None:
    """The scores of each model that was scored, as `eval` wrote them, from the base to the last stage."""
    found = {model: folder.json(f"{SCORES}/{model}/{SCORES_NAME}") for model in MODELS}
    return {model: scored for model, scored in found.items() if scored} or None


def hub(folder: RunFolder, manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """The folders laid out as Hub repositories, the page of each one's card, and what a rehearsal found."""
    if manifest is None:
        return None
    repos = sorted(card.parent for card in (folder.root / HUB).glob("*/*/README.md"))
    return {
        "repos": [
            {
                "repo": f"{repo.parent.name}/{repo.name}",
                "folder": repo.relative_to(folder.root).as_posix(),
                "page": f"{CARD_PAGES}/{repo.name}.html",
            }
            for repo in repos
        ],
        "rehearsal": (folder.json(f"{HUB}/{REHEARSAL_FILE}") or {}).get("checks"),
        "counts": manifest["counts"],
    }


def provenance(folder: RunFolder, manifests: dict[str, Any]) -> dict[str, Any]:
    """What was made of what: a fingerprint a stage, the packages and the machines that made it."""
    machines = [line["machine"] for line in folder.lines(TIMINGS_FILE) if line.get("machine")]
    present = {stage: manifest for stage, manifest in manifests.items() if manifest}
    packages: dict[str, str] = {}
    for manifest in present.values():
        packages |= manifest.get("packages", {})
    return {
        "fingerprints": {stage: manifest["fingerprint"] for stage, manifest in present.items()},
        "inputs": {stage: manifest["inputs"] for stage, manifest in present.items()},
        "seeds": {stage: manifest["seed"] for stage, manifest in present.items() if manifest.get("seed") is not None},
        "packages": dict(sorted(packages.items())),
        "machines": [machine for at, machine in enumerate(machines) if machine not in machines[:at]],
    }


def headline(report: dict[str, Any]) -> dict[str, Any]:
    """The headline numbers."""
    run, stages = report["pretraining"] or {}, report["stages"]
    times = [stage["seconds"] for stage in stages if stage["seconds"] is not None]
    scored = side_by_side(list((report["scores"] or {}).values()))
    memory = [stage["peak_rss_bytes"] for stage in stages if stage["peak_rss_bytes"]]
    return {
        "parameters": run.get("parameters"),
        "tokens": run.get("tokens"),
        "steps": run.get("steps"),
        "phases": len(run.get("phases", [])) or None,
        "seconds": sum(times) if times else None,
        "peak_rss_bytes": max(memory, default=None),
        "finished": all(stage["status"] == "done" for stage in stages),
        "bits_per_byte": bits_per_byte(report["heldout"]),
        "easiest": next((entry for entry in scored if is_share(entry)), None),
    }


def bits_per_byte(measured: dict[str, Any] | None) -> dict[str, Any] | None:
    """Mean over domains (each counts the same) before training, before annealing and at the end."""
    if measured is None:
        return None
    phases = measured["phase"]
    curves = [domain["bits_per_byte"] for domain in measured["domains"].values()]
    averages = [mean(curve[index] for curve in curves) for index in range(len(phases))]
    stable = [index for index, phase in enumerate(phases) if not is_annealing(phase or "")]
    annealed = stable and stable[-1] < len(phases) - 1
    return {
        "first": averages[0],
        "before_annealing": averages[stable[-1]] if annealed else None,
        "last": averages[-1],
    }
