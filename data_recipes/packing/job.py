"""A build as tasks of an executor see it: the request for any folder and machine, where its work lies, and by what it
is known, so that for other contents or another request nothing counts as done.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_recipes.files import write_whole
from data_recipes.manifest import MANIFEST_NAME, fingerprint_of
from data_recipes.packing.build import JOBS, WORK
from data_recipes.packing.request import BuildRequest
from data_recipes.reading.files import SourceMissing, list_files, state_of
from data_recipes.recipes.source import Source, resolve_source


@dataclass(frozen=True)
class Job:
    """A build as any task sees it. `attempt` counts how often all that is done had to be looked at again; `submitted`:
    no command waits for the tasks, so these keep other builds out of the folder."""

    request: BuildRequest
    fingerprint: str
    attempt: int
    submitted: bool

    @property
    def work(self) -> Path:
        return self.request.out / WORK

    @property
    def jobs(self) -> Path:
        """Logs, and marks of what is done."""
        return self.request.out / JOBS / f"{self.fingerprint[:16]}-{self.attempt}"

    @property
    def finished(self) -> Path:
        return self.jobs / "finished"

    def units(self, round: int) -> Path:
        return self.work / f"units-{round}.json"

    def look_again(self) -> None:
        """Marks of finished tasks mean nothing any more: the next command looks at everything there is."""
        write_whole(self.work / "attempt", str(self.attempt + 1))


def is_built(folder: Path) -> bool:
    return (folder / MANIFEST_NAME).is_file()


def anywhere(request: BuildRequest) -> BuildRequest:
    """The same request for a task that runs in another folder."""
    here = Path.cwd()

    def placed(recipe: Any) -> Any:
        subsets = [
            subset.model_copy(update={"source": subset.source.beside(here)})
            if isinstance(subset.source, Source) and subset.source._folder is None
            else subset
            for subset in recipe.subsets
        ]
        return recipe.model_copy(update={"subsets": tuple(subsets)})

    location = Path(request.loaded_tokenizer.location)
    return replace(
        request,
        recipes=[placed(recipe) for recipe in request.recipes],
        before=[placed(recipe) for recipe in request.before],
        out=request.out.absolute(),
        store=request.store_folder.absolute(),
        fetched=(request.fetched_folder or request.natural_fetched).absolute() if reads_hub(request) else None,
        tokenizer=location.absolute() if location.exists() else request.loaded_tokenizer.location,
    )


def job_of(request: BuildRequest, *, submitted: bool) -> Job:
    """The job of a request for the sources as they are now: for other contents, nothing counts as done."""
    files = {str(path): state_of(path) for source in local_sources(request) for path in files_of(source)}
    fingerprint = fingerprint_of(
        {
            "recipes": [recipe.model_dump(mode="json") for recipe in request.chain],
            "asked": [recipe.key for recipe in request.recipes],
            "tokenizer": request.loaded_tokenizer.fingerprint,
            "seed": request.base_seed,
            "options": [request.bos, request.dropout, request.packing, request.missing],
            "places": [str(request.store_folder), str(request.fetched)],
            "files": files,
        }
    )
    counted = request.out / WORK / "attempt"
    attempt = counted.read_text().strip() if counted.is_file() else "0"
    return Job(request, fingerprint, int(attempt) if attempt.isdecimal() else 0, submitted)


def named_sources(request: BuildRequest) -> list[Source]:
    """The sources that the chain names, each once."""
    named = [resolve_source(one.source, where=one.name) for recipe in request.chain for one in recipe.subsets]
    return list({(one.model_dump_json(), one._folder): one for one in named}.values())


def local_sources(request: BuildRequest) -> list[Source]:
    """Those with files on this machine."""
    return [one for one in named_sources(request) if one.path is not None]


def reads_hub(request: BuildRequest) -> bool:
    """Whether files are to be fetched."""
    return any(one.hub is not None and one.readable != "no" for one in named_sources(request))


def files_of(source: Source) -> list[Path]:
    """The files of a source; none where it is missing, of which the plan says what becomes."""
    try:
        return list_files(source)
    except SourceMissing:
        return []
