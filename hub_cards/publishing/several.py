"""All repos of a run, in an order in which a card links to what is there already, and the collection of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from huggingface_hub import HfApi
from huggingface_hub.hf_api import Collection

from hub_cards.errors import HubError
from hub_cards.publishing.plan import Plan
from hub_cards.publishing.publish import Asked, Published, plan_publish, publish
from hub_cards.publishing.remote import HubFailure, ask, persist
from hub_cards.repos.folder import CARD_NAME, Repo

DESCRIPTION = "Checkpoints by phase, models, data and results of one run, published with yulanmini."


@dataclass(frozen=True)
class PublishedRun:
    """What was published, in order, and the address of the collection."""

    repos: list[Published]
    collection: str


def plan_run(repos: Mapping[str, Repo], asked: Asked, *, api: HfApi | None = None) -> dict[str, Plan]:
    """What `publish_run` would do, by repo in the order of publishing."""
    return {repo_id: plan_publish(repos[repo_id], repo_id, asked, api=api) for repo_id in order_of(repos)}


def publish_run(
    repos: Mapping[str, Repo], asked: Asked, *, title: str, api: HfApi | None = None, progress: bool = True
) -> PublishedRun:
    """Publish laid-out repos by their ids, and put them into a collection of this title.

    HubError as of `publish`; it says which repos are published. Given again it goes on.
    """
    done: list[Published] = []
    try:
        for repo_id in order_of(repos):
            done.append(publish(repos[repo_id], repo_id, asked, api=api, progress=progress))
        collection = persist(lambda: collect(api or HfApi(), repos, title, private=asked.private))
    except HubFailure as failure:
        raise HubError(f"the repos are published; {failure}. The same command makes the collection.") from failure
    except HubError as error:
        finished = ", ".join(one.repo_id for one in done)
        raise HubError(f"{error} Published before: {finished}." if finished else str(error)) from error
    return PublishedRun(done, collection)


def order_of(repos: Mapping[str, Repo]) -> list[str]:
    """The ids in an order in which each card links only to repos before it, as far as that is possible.

    Where cards link to each other, the one with the fewest links to what is not there yet goes first; of equal ones
    data sets, then as they were given.
    """
    links = {repo_id: links_of(repo, set(repos) - {repo_id}) for repo_id, repo in repos.items()}
    order: list[str] = []
    while len(order) < len(repos):
        left = [repo_id for repo_id in repos if repo_id not in order]
        order.append(min(left, key=lambda one: (len(links[one] - set(order)), repos[one].type != "dataset")))
    return order


def links_of(repo: Repo, others: set[str]) -> set[str]:
    """Those of the other repos that a card names. `me/tiny` is not named by `me/tiny-data`."""
    text = (repo.folder / CARD_NAME).read_text(encoding="utf-8")
    return {other for other in others if re.search(rf"(?<![\w./-]){re.escape(other)}(?![\w-]|\.\w)", text)}


def collect(api: HfApi, repos: Mapping[str, Repo], title: str, *, private: bool | None) -> str:
    """The collection of this title in the namespace of the repos, with all of them in it; its address."""
    namespace = next(iter(repos)).partition("/")[0]

    def make() -> Collection:
        return api.create_collection(
            title, namespace=namespace, description=DESCRIPTION, private=bool(private), exists_ok=True
        )

    collection = ask(f"make the collection {title}", make)
    slug = collection.slug
    if private not in (None, collection.private):
        ask("set who sees the collection", lambda: api.update_collection_metadata(slug, private=private))
    there = {(item.item_type, item.item_id) for item in collection.items}
    for repo_id in order_of(repos):
        kind = repos[repo_id].type
        if (kind, repo_id) not in there:
            add = api.add_collection_item
            ask(f"add {repo_id} to the collection", lambda: add(slug, repo_id, kind, exists_ok=True))  # noqa: B023
    return f"{api.endpoint}/collections/{slug}"
