"""Endpoints for who one is, for cards, and for collections."""

from typing import Any

import yaml

from hub_cards.loopback.protocol import Answer, Call, endpoint, page_of
from hub_cards.loopback.state import Collection
from hub_cards.loopback.storage import Refusal

COLLECTION = r"/api/collections/(?P<slug>[^/]+/[^/]+)"


@endpoint("whoami", "GET", "/api/whoami-v2")
def whoami(call: Call, _: Any) -> Answer:
    if call.user is None:
        raise Refusal(401, "Invalid username or password.")
    user = call.user
    orgs = [{"type": "org", "name": name, "fullname": name, "roleInOrg": role} for name, role in user.orgs.items()]
    token = {"displayName": "loopback", "role": user.role, "createdAt": "2026-01-01T00:00:00.000Z"}
    auth = {"type": "access_token", "accessToken": token}
    return Answer(
        {"type": "user", "id": user.name, "name": user.name, "fullname": user.name, "orgs": orgs, "auth": auth}
    )


@endpoint("validate-yaml", "POST", "/api/validate-yaml", receive=Call.json)
def validate_yaml(call: Call, wanted: dict[str, Any]) -> Answer:
    """Only that the header can be read: what its keys may be, the Hub alone knows."""
    try:
        header = front_matter(wanted["content"])
    except yaml.YAMLError as error:
        raise Refusal(400, "Invalid YAML", content={"errors": [{"message": f"YAML: {error}"}]}) from error
    if header is None:
        return Answer({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    if not isinstance(header, dict):
        raise Refusal(400, "Invalid YAML", content={"errors": [{"message": "the metadata is no mapping"}]})
    return Answer({"errors": [], "warnings": []})


def front_matter(card: str) -> Any:
    """The header of a card between its lines `---`; None without one."""
    lines = card.splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in lines[1:]:
        return None
    return yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))


@endpoint("list-collections", "GET", "/api/collections")
def list_collections(call: Call, _: Any) -> Answer:
    owner, item = (call.query.get(name, [None])[0] for name in ("owner", "item"))
    found = [
        collection
        for collection in call.state.collections.values()
        if (owner in (None, collection.owner) or owner in collection.owner)
        and (item is None or any(f"{one['type']}s/{one['id']}" == item for one in collection.items))
        and _is_seen(call, collection)
    ]
    return page_of(call, [described(collection, most=4) for collection in found])


@endpoint("create-collection", "POST", "/api/collections", receive=Call.json)
def create_collection(call: Call, wanted: dict[str, Any]) -> Answer:
    call.state.owned(wanted["namespace"], call.user, "collection")
    description, private = wanted.get("description") or "", bool(wanted.get("private"))
    made = call.state.make_collection(wanted["title"], wanted["namespace"], description, private)
    return Answer(described(made))


@endpoint("get-collection", "GET", COLLECTION)
def get_collection(call: Call, _: Any) -> Answer:
    return Answer(described(_find(call)))


@endpoint("update-collection", "PATCH", COLLECTION, receive=Call.json)
def update_collection(call: Call, wanted: dict[str, Any]) -> Answer:
    collection = _own(call)
    for name in {"title", "description", "private"} & set(wanted):
        setattr(collection, name, wanted[name])
    return Answer({"success": True, "data": described(collection)})


@endpoint("delete-collection", "DELETE", COLLECTION)
def delete_collection(call: Call, _: Any) -> Answer:
    del call.state.collections[_own(call).slug]
    return Answer({"success": True})


@endpoint("add-collection-item", "POST", f"{COLLECTION}/items", receive=Call.json)
def add_collection_item(call: Call, wanted: dict[str, Any]) -> Answer:
    collection = _own(call)
    item = {"type": wanted["item"]["type"], "id": wanted["item"]["id"]}
    call.state.readable(item["type"], item["id"], call.user)
    if any(one["type"] == item["type"] and one["id"] == item["id"] for one in collection.items):
        raise Refusal(409, "This item is already in the collection")
    if wanted.get("note"):
        item["note"] = {"text": wanted["note"], "html": wanted["note"]}
    collection.items.append(item)
    return Answer(described(collection))


def described(collection: Collection, *, most: int | None = None) -> dict[str, Any]:
    """A collection as the Hub's answers have it, in a list with few items and without its place."""
    items = [{**item, "_id": f"{number:024x}", "position": number} for number, item in enumerate(collection.items)]
    return {
        "slug": collection.slug,
        "title": collection.title,
        "description": collection.description,
        "owner": {"name": collection.owner, "type": "user"},
        "items": items[:most],
        "lastUpdated": collection.updated.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "private": collection.private,
        "theme": "green",
        "upvotes": 0,
        **({} if most else {"position": 0}),
    }


def _find(call: Call) -> Collection:
    collection = call.state.collections.get(call.match["slug"])
    if collection is None or not _is_seen(call, collection):
        raise Refusal(404, "Collection not found")
    return collection


def _own(call: Call) -> Collection:
    collection = _find(call)
    call.state.owned(collection.owner, call.user, "collection")
    return collection


def _is_seen(call: Call, collection: Collection) -> bool:
    return not collection.private or (call.user is not None and call.user.may_write(collection.owner))
