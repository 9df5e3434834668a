"""The stages of `reproduce`, one function each: what it reads, which room does the work, what it leaves.

A stage's folder appears whole, with a manifest (data_recipes/manifest.py). Only pretraining fills its folder
as it goes; its manifest comes last.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_recipes.files import write_whole
from data_recipes.manifest import MANIFEST_NAME, folder_state, read_manifest, whole_folder, write_manifest
from data_recipes.recipes.phases import ANNEALING_PHASE, phase_folder
from yulanmini.reproduce.settings import Settings
from yulanmini.run_layout import (
    CORPUS,
    DATA,
    DPO,
    HUB,
    MERGED,
    MODELS,
    ON_POLICY,
    PAIRS,
    PAIRS_FILE,
    PRETRAIN,
    PROMPTS_FILE,
    REHEARSAL_FILE,
    SCORES,
    SFT,
    TOKENIZER,
    card_files,
)

if TYPE_CHECKING:
    from hub_cards.rehearsal.rehearse import User

NAMESPACE = "your-name"
PAIRS_KIND = "preference-pairs"
SKIPPED_NAMED = 5
REPLAYED_PHASES = 14  # of which the tuning mixes some text among the dialogues
ANSWER_TOKENS = 24  # of on-policy training; the problems of its prompts are those of short answers
SHORT_CONTEXT, LONG_CONTEXT = 4096, 28_672


@dataclass(frozen=True)
class Run:
    """The settings of a run, and its folder."""

    out: Path
    scale: str
    settings: Settings
    corpus: Path | None
    phases: list[int]
    seed: int
    threads: int

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same; a folder with another identity is refused."""
        return {
            "scale": self.scale,
            "corpus": str(self.corpus.resolve()) if self.corpus else None,
            "phases": f"1-{self.phases[-1]}",
            "seed": self.seed,
            "threads": self.threads,
            "settings": self.settings.model_dump(mode="json"),
        }

    def folder(self, name: str) -> Path:
        return self.out / name

    def fingerprints(self, **stages: str) -> dict[str, str]:
        """Inputs of a stage's manifest: a name for each, and the folder of the stage that made it."""
        return {name: read_manifest(self.folder(stage))["fingerprint"] for name, stage in stages.items()}

    @property
    def context_length(self) -> int:
        """Tokens a row of the last phase trained."""
        published = LONG_CONTEXT if self.phases[-1] >= ANNEALING_PHASE else SHORT_CONTEXT
        return self.settings.context_lengths[published]

    @property
    def tuning_length(self) -> int:
        """Tokens of the longest row in tuning."""
        return min(self.settings.sft_max_length, self.context_length)

    @property
    def base_model(self) -> Path:
        """The unmerged model after the last phase trained."""
        return self.folder(PRETRAIN) / "models" / phase_folder(str(self.phases[-1]))


@dataclass(frozen=True)
class Stage:
    """One step of the way; `folder` holds a manifest once it is done. `note`: what the user should know of it then."""

    name: str
    folder: str
    summary: str
    run: Callable[[Run], None]
    note: Callable[[Run], str | None] = lambda run: None


def collect_corpus(run: Run) -> None:
    from data_recipes.corpus.build import build_corpus

    build_corpus(
        run.folder(CORPUS),
        corpus=run.corpus,
        seed=run.seed,
        target_bytes=run.settings.corpus_bytes,
        dialogues=run.settings.dialogues,
        progress=True,
    )


def skipped_files(run: Run) -> str | None:
    """Which files of the user's folder gave nothing, or not all of their text."""
    skipped = read_manifest(run.folder(CORPUS)).get("skipped")
    if not skipped:
        return None
    named = [f"  {entry['file']}: {entry['reason']}" for entry in skipped[:SKIPPED_NAMED]]
    more = len(skipped) - len(named)
    return "\n".join(
        [
            f"{len(skipped):,} {'file was' if len(skipped) == 1 else 'files were'} skipped, whole or in part:",
            *named,
            *([f"  and {more:,} more"] if more else []),
            f"  (all of them: 'skipped' in {run.folder(CORPUS) / MANIFEST_NAME}, and the report)",
        ]
    )


def train_tokenizer(run: Run) -> None:
    from data_recipes.tokens.train import train_tokenizer

    train_tokenizer(run.folder(CORPUS), run.folder(TOKENIZER), vocab_size=run.settings.vocab_size, seed=run.seed)


def build_data(run: Run) -> None:
    from data_recipes.packing.build import build_phases
    from data_recipes.packing.request import corpus_sources
    from data_recipes.recipes.recipe import published_recipes

    sources = corpus_sources(run.folder(CORPUS))
    recipes = [
        recipe.scaled(
            tokens=run.settings.tokens_per_phase,
            context_length=run.settings.context_lengths[recipe.context_length],
        ).with_sources(sources)
        for recipe in published_recipes()
        if recipe.phase in run.phases
    ]
    with whole_folder(run.folder(DATA)) as partial:
        build_phases(
            recipes,
            partial,
            tokenizer=run.folder(TOKENIZER),
            store=partial / "store",
            seed=run.seed,
            workers=run.threads,
            missing="fail",
        )
        write_manifest(
            partial,
            kind="data",
            inputs=run.fingerprints(corpus=CORPUS, tokenizer=TOKENIZER),
            config={"phases": run.phases, "tokens_per_phase": run.settings.tokens_per_phase},
            counts={"mixes": len(recipes)},
            seed=run.seed,
        )


def run_script(run: Run, script: str, config: str, overrides: dict[str, Any]) -> None:
    """Start a training script, with a config of the package, the run's paths and the scale's changes.

    The file lies in the run's folder and its paths count from there, so that it works wherever the run is moved.
    """
    from train.config_file import changed_settings, configs, settings_text
    from train.launch.launcher import ONE_ON_THE_CPU, launch

    values = changed_settings(configs()[config], overrides)
    path = run.out / f"{script}.yaml"
    write_whole(path, settings_text(values))
    launch(script, [str(path)], options=ONE_ON_THE_CPU, environment={"HF_HUB_OFFLINE": "1"})


def pretrain(run: Run) -> None:
    run_script(
        run,
        "pretrain",
        run.settings.pretrain_config,
        {
            "output_dir": PRETRAIN,
            "tokenizer": TOKENIZER,
            "data.dir": DATA,
            "data.phases": run.phases,
            "heldout.dir": f"{CORPUS}/heldout",
            "seed": run.seed,
            "threads": run.threads,
            # Stopped before phase 26, a run stays at the constant rate, as the published one was until then.
            **({"schedule.annealing": None} if run.phases[-1] < ANNEALING_PHASE else {}),
            **run.settings.pretrain_overrides,
        },
    )


def merge(run: Run) -> None:
    from yulanmini.merged import write_merged

    write_merged(run.base_model, run.folder(MERGED), dtype="bfloat16", inputs=run.fingerprints(pretraining=PRETRAIN))


def instruct(run: Run) -> None:
    run_script(
        run,
        "sft",
        run.settings.sft_config,
        {
            "output_dir": SFT,
            "model": MERGED,
            "tokenizer": TOKENIZER,
            "dialogues": f"{CORPUS}/dialogues/train.jsonl",
            "pretraining.dir": DATA,
            "pretraining.phases": run.phases[-REPLAYED_PHASES:],
            "max_length": run.tuning_length,
            "seed": run.seed,
            "threads": run.threads,
            **run.settings.sft_overrides,
        },
    )


def prefer(run: Run) -> None:
    if folder_state(run.folder(PAIRS), kind=PAIRS_KIND) != "finished":
        draw_pairs(run)
    run_script(
        run,
        "dpo",
        run.settings.dpo_config,
        {
            "output_dir": DPO,
            "model": SFT,
            "pairs": f"{PAIRS}/{PAIRS_FILE}",
            "max_length": run.tuning_length,
            "seed": run.seed,
            "threads": run.threads,
            **run.settings.dpo_overrides,
        },
    )


def draw_pairs(run: Run) -> None:
    import torch

    from yulanmini.reproduce.pairs import write_pairs

    torch.set_num_threads(run.threads)
    settings: dict[str, Any] = {
        "per_kind": run.settings.pair_problems,
        "samples": run.settings.pair_samples,
        "seed": run.seed,
    }
    with whole_folder(run.folder(PAIRS)) as partial:
        counts = write_pairs(run.folder(CORPUS) / "dialogues" / "train.jsonl", run.folder(SFT), partial, **settings)
        write_manifest(
            partial,
            kind=PAIRS_KIND,
            inputs=run.fingerprints(corpus=CORPUS, sft=SFT),
            config=settings,
            counts=counts,
            seed=run.seed,
        )


def reward(run: Run) -> None:
    answer = min(ANSWER_TOKENS, run.tuning_length // 2)
    run_script(
        run,
        "on_policy",
        run.settings.on_policy_config,
        {
            "output_dir": ON_POLICY,
            "model": DPO,
            "prompts": f"{PAIRS}/{PROMPTS_FILE}",
            "max_prompt_length": run.tuning_length - answer,
            "max_completion_length": answer,
            "seed": run.seed,
            "threads": run.threads,
            **run.settings.on_policy_overrides,
        },
    )


def score(run: Run) -> None:
    import torch
    import yaml
    from transformers.utils import logging

    from eval.suites import run_suite

    logging.disable_progress_bar()  # of loading weights; the questions have one
    torch.set_num_threads(run.threads)
    trained = yaml.safe_load((run.folder(PRETRAIN) / "config.yaml").read_text())
    with whole_folder(run.folder(SCORES)) as partial:
        for name, (folder, _) in MODELS.items():
            settings = {
                "prompt": "question" if folder == MERGED else "chat",
                "context": min(run.settings.context_lengths.values()),
                # as in pretraining: one figure a domain, whichever measured it
                "bytes_per_domain": trained["heldout"]["bytes_per_domain"],
                "per_kind": run.settings.problems_per_kind,
            }
            run_suite(run.folder(folder), data=run.folder(CORPUS), settings=settings, out=partial / name, progress=True)
        write_manifest(
            partial,
            kind="scores",
            inputs=run.fingerprints(corpus=CORPUS, **{name: folder for name, (folder, _) in MODELS.items()}),
            config={"problems_per_kind": run.settings.problems_per_kind},
            counts={"models": len(MODELS)},
        )


def publish(run: Run) -> None:
    from hub_cards.rehearsal.rehearse import LIBRARIES, user_of_hub

    with whole_folder(run.folder(HUB)) as partial:
        # The user's process imports what it needs while the repos are laid out here.
        with user_of_hub(NAMESPACE, imports=LIBRARIES) as user:
            from hub_cards.layout.run_repos import publish_local

            repos = publish_local(card_files(run.out), partial, namespace=NAMESPACE, name=f"YuLan-Mini-{run.scale}")
            checks = rehearse_repos({repo.folder.relative_to(partial).as_posix(): repo.folder for repo in repos}, user)
        (partial / REHEARSAL_FILE).write_text(json.dumps({"checks": checks}, indent=2) + "\n", encoding="utf-8")
        write_manifest(
            partial,
            kind="hub-repos",
            inputs=run.fingerprints(scores=SCORES),
            config={"namespace": NAMESPACE},
            counts={"repos": len(repos), "loaded_back": sum(row["tried"] for row in checks)},
        )


def rehearse_repos(repos: dict[str, Path], user: "User") -> list[dict[str, Any]]:
    """Let a user of a Hub in this process publish laid-out repos and load them back; what was compared."""
    from data_recipes.errors import listed
    from hub_cards.errors import HubError
    from hub_cards.rehearsal.check import summed
    from hub_cards.rehearsal.rehearse import rehearse

    # Every file comes back and is compared; `hub rehearse` also loads all that this leaves out.
    checks = list(rehearse(repos, title=next(iter(repos)).partition("/")[2], all_loaded=False, user=user))
    wrong = [f"{check.repo}, {check.what}, {check.how}: {check.problem}" for check in checks if check.problem]
    if wrong:
        raise HubError(f"the repos do not come back from a Hub as they were laid out:\n{listed(wrong)}")
    # Without the times, so that two runs have the same file.
    return [{name: row[name] for name in ("repo", "how", "tried", "compared")} for row in summed(checks)]


STAGES = (
    Stage(
        "corpus",
        CORPUS,
        "real text by domain, generated problems, held-out text set aside",
        collect_corpus,
        skipped_files,
    ),
    Stage("tokenizer", TOKENIZER, "byte-fallback BPE trained on that corpus", train_tokenizer),
    Stage("data", DATA, "the 28 published mixes, scaled down, packed and mixed", build_data),
    Stage("pretrain", PRETRAIN, "warm-up, stable, 1-sqrt annealing with a longer context", pretrain),
    Stage("merge", MERGED, "scales folded into a plain Llama, logits compared", merge),
    Stage("sft", SFT, "instruction tuning on generated dialogues", instruct),
    Stage("dpo", DPO, "preferences: its right answers before its wrong ones", prefer),
    Stage("on-policy", ON_POLICY, "its own answers, rewarded where they are right", reward),
    Stage("scores", SCORES, "held-out bits per byte, unseen problems, samples", score),
    Stage("hub", HUB, "cards, folders laid out as Hub repos, published to a Hub here and loaded back", publish),
)
