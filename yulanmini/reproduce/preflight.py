"""What can be known to go wrong is said before the first stage, and before the run's folder is made."""

import shutil
from pathlib import Path

from data_recipes.manifest import MANIFEST_NAME
from yulanmini.errors import RunError
from yulanmini.reproduce.stages import Run
from yulanmini.run_layout import CORPUS

LARGEST_SEED = 2**32 - 1


def check_request(run: Run) -> None:
    """RunError for settings, a corpus or a disk with which the run could not come to its end; DataError for a corpus
    folder that is not there. Reads of a corpus only until it is large enough."""
    if run.threads < 1:
        raise RunError(f"--threads {run.threads}: expected 1 or more.")
    if not 0 <= run.seed <= LARGEST_SEED:
        raise RunError(f"--seed {run.seed}: expected 0 to {LARGEST_SEED}.")
    check_disk(run)
    if run.corpus is not None and not (run.folder(CORPUS) / MANIFEST_NAME).is_file():
        check_corpus(run, run.corpus)


def check_disk(run: Run) -> None:
    """RunError where the disk of the run's folder has less room than the scale needs."""
    place = next(place for place in [run.out, *run.out.absolute().parents] if place.is_dir())
    needed = run.settings.free_bytes
    free = shutil.disk_usage(place).free
    if free < needed:
        raise RunError(
            f"{run.out}: {free / 2**20:.0f} MiB free on the disk, the scale '{run.scale}' needs {needed / 2**20:.0f}. "
            "Make room, or choose another --out."
        )


def check_corpus(run: Run, corpus: Path) -> None:
    """RunError for a user's folder that holds too little text, or the run itself."""
    from data_recipes.corpus.build import READ_MULTIPLE
    from data_recipes.corpus.folder import Reading, list_files, read_folder

    files = list_files(corpus)
    if run.out.resolve().is_relative_to(corpus.resolve()):
        raise RunError(
            f"--out {run.out}: lies in the corpus {corpus}, which what the run writes would become a part of. "
            "Choose a place outside of it."
        )
    reading, found, least = Reading(), 0, run.settings.least_corpus_bytes
    limit = READ_MULTIPLE * run.settings.corpus_bytes
    for _, document in read_folder(corpus, seed=run.seed, reading=reading, max_bytes=limit):
        found += document.size
        if found >= least:
            return
    skipped = "; ".join(f"{entry['file']}: {entry['reason']}" for entry in reading.skipped[:2])
    raise RunError(
        f"{corpus}: {found:,} bytes of text in {len(files):,} files, the scale '{run.scale}' needs {least:,}"
        f"{f' (could not be read: {skipped})' if skipped else ''}. "
        "Expected .txt, .md, source code, .jsonl or .parquet with a text column."
    )
