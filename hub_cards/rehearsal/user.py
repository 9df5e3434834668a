"""A user of the Hub, in a process of its own: publishes repos, then loads them by their ids. Reports as JSON lines.

It imports the modules that its arguments name, and then waits for a line of JSON that says what is asked.
`rehearse` starts it with a Hugging Face home and a Hub that are thrown away afterwards; with others it does nothing.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hub_cards.errors import HubError
from hub_cards.rehearsal.check import Check, Job, differs
from hub_cards.repos.folder import CARD_NAME, Branch, Repo, open_repo

LOOPBACK = "http://127.0.0.1:"
LARGEST_KEPT = 2**20


def main(asked: dict[str, Any]) -> None:
    given = [os.environ.get(name, "") for name in ("HF_HOME", "HF_ENDPOINT")]
    if given[0] != asked["home"] or not given[1].startswith(LOOPBACK):
        sys.exit("this is a part of `yulanmini hub rehearse`: it publishes, and clears a cache, but not yours")
    repos = {repo_id: open_repo(Path(folder)) for repo_id, folder in asked["repos"].items()}
    try:
        for check in publish(repos, asked["title"]):
            report(asdict(check))
    except HubError as error:
        report({"refused": str(error)})
        return
    for repo_id, repo in repos.items():
        for job in jobs_of(repo_id, repo, all_loaded=asked["all_loaded"]):
            report(asdict(done(job)))


def report(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


def publish(repos: dict[str, Repo], title: str) -> Iterator[Check]:
    """By the code of `hub publish-run`, but for its own download of every file, which comes below."""
    from hub_cards.publishing.publish import Asked
    from hub_cards.publishing.several import publish_run

    began = time.monotonic()
    published = publish_run(repos, Asked(download=False), title=title, progress=False)
    seconds = (time.monotonic() - began) / len(repos)
    for one in published.repos:
        yield Check(one.repo_id, "publish-run", "all branches", {"branches": len(one.commits)}, seconds)


def jobs_of(repo_id: str, repo: Repo, *, all_loaded: bool = True) -> Iterator[Job]:
    """What is tried with a repo that is published. Every branch is downloaded and compared; every model and config is
    loaded, or the first and the last of each repo."""
    models = [branch.name for branch in repo.branches if "config.json" in branch.files]
    configs = configs_of(repo) if repo.type == "dataset" else []
    if not all_loaded:
        models, configs = models[:: max(1, len(models) - 1)], configs[:: max(1, len(configs) - 1)]
    for branch in repo.branches:
        if branch.name in models:
            yield Job(repo_id, "from_pretrained", branch.name, load_model, (repo_id, branch))
        yield Job(repo_id, "snapshot_download", branch.name, load_files, (repo_id, branch, repo.type))
    for config in configs:
        yield Job(repo_id, "load_dataset", config["config_name"], load_rows, (repo_id, repo, config))


def done(job: Job) -> Check:
    """The check that a job is."""
    began = time.monotonic()
    compared: Mapping[str, int] = {}
    problem = None
    try:
        compared = job.load(*job.arguments)
    except Exception as error:  # whatever the libraries raise is what a user would see
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Check(job.repo, job.how, job.what, compared, time.monotonic() - began, problem)


def load_model(repo_id: str, branch: Branch) -> dict[str, int]:
    """Load the model of a branch, with its own code, and compare every tensor; let it generate."""
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        repo_id, revision=branch.name, trust_remote_code=True, output_loading_info=True
    )
    for name in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[name]:
            raise HubError(f"loaded with {name}: {', '.join(map(str, list(info[name])[:3]))}")
    loaded, compared = model.state_dict(), 0
    for path, file in branch.files.items():
        if path.endswith(".safetensors") and "/" not in path:
            with safe_open(file.place, framework="pt") as weights:
                for name in weights.keys():  # noqa: SIM118 -- no mapping
                    # Scales that the file has beside the base model are inside it when it is loaded.
                    tensor = loaded[name] if name in loaded else loaded[f"model.{name}"]
                    if not torch.equal(tensor.reshape(-1), weights.get_tensor(name).reshape(-1)):
                        raise HubError(f"{name} differs from {path}")
                    compared += 1
    answer = model.generate(input_ids=torch.tensor([[1]]), max_new_tokens=2, do_sample=False)
    return {"tensors": compared, "tokens written": answer.shape[1] - 1}


def load_files(repo_id: str, branch: Branch, repo_type: str) -> dict[str, int]:
    """Fetch every file of a branch and compare its hash."""
    from huggingface_hub import constants, snapshot_download

    from data_recipes.manifest import sha256_file

    folder = Path(snapshot_download(repo_id, repo_type=repo_type, revision=branch.name))
    there = {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}
    there.pop(".gitattributes", None)
    wrong = differs({path: file.sha256 for path, file in branch.files.items()}, there)
    if wrong:
        raise HubError(wrong)
    # Of a large run the disk would not hold all weights twice. Small files are the same in many branches.
    for blob in Path(constants.HF_HUB_CACHE).glob("*/blobs/*"):
        if blob.stat().st_size > LARGEST_KEPT:
            blob.unlink()
    return {"files": len(there)}


def load_rows(repo_id: str, repo: Repo, config: dict[str, Any]) -> dict[str, int]:
    """Load a config of a data set and compare every row with its files."""
    from datasets import load_dataset

    splits = load_dataset(repo_id, config["config_name"])
    rows = 0
    for entry in config["data_files"]:
        found = splits[entry["split"]].data.table
        expected = table_of(sorted(repo.folder.glob(entry["path"])))
        if not found.cast(expected.schema).equals(expected):
            raise HubError(f"the rows of {entry['split']} differ from {entry['path']}")
        rows += found.num_rows
    return {"rows": rows}


def table_of(files: list[Path]) -> Any:
    """The rows of Parquet or Arrow files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def read(file: Path) -> Any:
        if file.suffix == ".parquet":
            return pq.read_table(file)
        with pa.memory_map(str(file)) as source:
            try:
                return pa.ipc.open_stream(source).read_all()
            except pa.ArrowInvalid:
                return pa.ipc.open_file(source).read_all()

    return pa.concat_tables([read(file) for file in files])


def configs_of(repo: Repo) -> list[dict[str, Any]]:
    """The configs in the header of a data set's card."""
    from huggingface_hub import DatasetCard

    header = DatasetCard.load(repo.folder / CARD_NAME).data.to_dict()
    return header.get("configs") or []


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    if line := sys.stdin.readline():  # none where the rehearsal has ended before there was anything to ask
        main(json.loads(line))
    sys.stdout.flush()
    os._exit(0)  # what the libraries clean up in seconds is thrown away anyway
