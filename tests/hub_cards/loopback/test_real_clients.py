"""The loopback Hub speaks to huggingface_hub and datasets as they are installed."""

import hashlib
import io
import json
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_clients import point_at
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub_cards.loopback.hub import LoopbackHub

WEIGHTS = bytes(range(256)) * 5000  # more than one read of the socket
CARD = b"---\nlicense: mit\n---\n# A card\n"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with LoopbackHub(orgs=["team"]) as hub:
        point_at(monkeypatch, hub.url, tmp_path)
        yield hub


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token=hub.token)


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def commit(api: HfApi, *changes, repo_id: str = "team/model", **settings):
    return api.create_commit(repo_id, list(changes), commit_message="Change files", **settings)


def asked(hub: LoopbackHub, endpoint: str) -> list:
    return [request for request in hub.requests if request.endpoint == endpoint]


def test_files_arrive_by_git_and_by_lfs_and_come_back(hub, api, tmp_path):
    api.create_repo("team/model")
    files = {"README.md": CARD, "model.safetensors": WEIGHTS, "deep/er/notes.txt": "å".encode() * 300, "empty": b""}
    info = commit(api, *(add(path, content) for path, content in files.items()))
    assert info.oid == hub.head("model", "team/model")
    assert files.items() <= hub.files("model", "team/model").items()
    assert [len(asked(hub, name)) for name in ("lfs-batch", "lfs-upload", "lfs-verify", "commit")] == [1, 1, 1, 1]
    place = snapshot_download("team/model", local_dir=tmp_path / "got")
    for path, content in files.items():
        assert (tmp_path / "got" / path).read_bytes() == content, place
    assert api.verify_repo_checksums("team/model", local_dir=tmp_path / "got").mismatches == []
    hub.requests.clear()
    # The storage service is another origin: it never sees the token.
    snapshot_download("team/model", cache_dir=tmp_path / "cache")
    assert {request.user for request in asked(hub, "lfs-download")} == {None}
    # What is there already is neither sent nor committed again.
    hub.requests.clear()
    commit(api, *(add(path, content) for path, content in files.items()))
    assert asked(hub, "lfs-upload") == asked(hub, "commit") == []


def test_git_agrees_with_the_names_of_files_and_folders(hub, api, tmp_path):
    api.create_repo("team/model")
    files = {"a": b"1", "a.b/c": b"2", "a0": b"3", "a1/b/c": b"4", "model.bin": WEIGHTS}
    commit(api, *(add(path, content) for path, content in files.items()))
    entries = {entry.path: entry for entry in api.list_repo_tree("team/model", recursive=True)}
    for path, content in hub.files("model", "team/model").items():
        if path == "model.bin":
            digest = hashlib.sha256(content).hexdigest()
            content = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n".encode()
        (tmp_path / "git" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "git" / path).write_bytes(content)
    git = ["git", "-c", "core.autocrlf=false", "-C", str(tmp_path / "git")]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A", "-f"], check=True)
    tree = subprocess.run([*git, "write-tree"], check=True, capture_output=True, text=True).stdout.strip()
    listed = subprocess.run([*git, "ls-tree", "-r", "-t", tree], check=True, capture_output=True, text=True).stdout
    for line in listed.splitlines():
        (_, kind, oid), path = line.split("\t")[0].split(), line.split("\t")[1]
        assert oid == (entries[path].tree_id if kind == "tree" else entries[path].blob_id), path


def test_a_commit_on_another_parent_is_refused_and_changes_nothing(hub, api):
    api.create_repo("team/model")
    first = api.repo_info("team/model").sha
    second = commit(api, add("a", b"1"), parent_commit=first).oid
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as refused:
        commit(api, add("a", b"2"), parent_commit=first)
    assert refused.value.response.status_code == 412
    assert hub.head("model", "team/model") == second
    history = api.list_repo_commits("team/model")
    assert [(one.commit_id, one.authors) for one in history] == [(second, ["someone"]), (first, ["someone"])]
    assert hub.repo("model", "team/model").commits[second].parents == (first,)
    assert history[0].created_at > history[1].created_at


def test_files_and_folders_are_deleted_and_copied_in_one_commit(hub, api):
    api.create_repo("team/model")
    commit(api, *(add(path, path.encode()) for path in ("keep", "old/a", "old/b/c", "gone")), add("w.bin", WEIGHTS))
    commit(
        api,
        CommitOperationDelete("old/"),
        CommitOperationDelete("gone"),
        CommitOperationCopy("w.bin", "again.bin"),
        add("new", b"new"),
    )
    files = hub.files("model", "team/model")
    assert sorted(files) == [".gitattributes", "again.bin", "keep", "new", "w.bin"]
    assert files["again.bin"] == WEIGHTS
    for missing in ("nothing", "nothing/"):
        with pytest.raises(EntryNotFoundError, match="with this name doesn't exist"):
            commit(api, CommitOperationDelete(missing))


def test_branches_and_tags(hub, api):
    api.create_repo("team/data", repo_type="dataset")
    first = api.repo_info("team/data", repo_type="dataset").sha
    second = commit(api, add("a", b"1"), repo_id="team/data", repo_type="dataset").oid
    api.create_branch("team/data", branch="from/first", revision=first, repo_type="dataset")
    api.create_branch("team/data", branch="from-main", repo_type="dataset")
    api.create_tag("team/data", tag="v1", revision="from/first", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch("team/data", branch="from-main", repo_type="dataset")
    api.create_branch("team/data", branch="from-main", repo_type="dataset", exist_ok=True)
    with pytest.raises(RevisionNotFoundError):
        api.create_branch("team/data", branch="x", revision="nowhere", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="Invalid reference name"):
        api.create_branch("team/data", branch="a..b", repo_type="dataset")
    third = commit(api, add("b", b"2"), repo_id="team/data", repo_type="dataset", revision="from/first").oid
    refs = api.list_repo_refs("team/data", repo_type="dataset")
    branches = {ref.name: ref.target_commit for ref in refs.branches}
    assert branches == {"main": second, "from/first": third, "from-main": second}
    assert [(ref.ref, ref.target_commit) for ref in refs.tags] == [("refs/tags/v1", first)]
    assert api.repo_info("team/data", revision="v1", repo_type="dataset").sha == first
    api.delete_branch("team/data", branch="from/first", repo_type="dataset")
    api.delete_tag("team/data", tag="v1", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        commit(api, add("b", b"2"), repo_id="team/data", repo_type="dataset", revision="from/first")
    with pytest.raises(HfHubHTTPError, match="403"):
        api.delete_branch("team/data", branch="main", repo_type="dataset")


def test_lists_come_in_pages_and_names_of_paths_are_looked_up(hub, api):
    hub.state.page_size = 7
    names = [f"folder/{number:02d}.txt" for number in range(20)]
    head = hub.put("model", "team/model", {name: name.encode() for name in names})
    listed = [entry.path for entry in api.list_repo_tree("team/model", recursive=True, expand=True)]
    assert listed == sorted([".gitattributes", "folder", *names])
    assert len(asked(hub, "tree")) == 4
    assert [entry.path for entry in api.list_repo_tree("team/model")] == [".gitattributes", "folder"]
    assert len(list(api.list_repo_tree("team/model", "folder"))) == 20
    found = api.get_paths_info("team/model", ["folder", "folder/03.txt", "nothing"], expand=True)
    assert [entry.path for entry in found] == ["folder", "folder/03.txt"]
    assert found[1].last_commit.oid == head
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("team/model", "nothing"))


def test_what_is_not_named_as_lfs_but_is_binary_or_large_gets_a_line_of_its_own(hub, api):
    api.create_repo("team/model")
    large = b"x" * (10 * 2**20 + 1)
    commit(api, add("figures/loss.png", b"\x89PNG\0"), add("big.txt", large), add("small.txt", b"x"))
    attributes = hub.files("model", "team/model")[".gitattributes"].decode()
    lines = [line.split()[0] for line in attributes.splitlines()[-2:]]
    assert sorted(lines) == ["big.txt", "figures/loss.png"]
    in_lfs = {path: blob.lfs for path, blob in hub.repo("model", "team/model").find("main").files.items()}
    assert in_lfs == {".gitattributes": False, "big.txt": True, "figures/loss.png": True, "small.txt": False}


def test_large_files_come_in_parts_where_the_hub_wants_that(monkeypatch, tmp_path):
    with LoopbackHub(part_size=300_000) as hub:
        point_at(monkeypatch, hub.url, tmp_path)
        api = HfApi(endpoint=hub.url, token=hub.token)
        api.create_repo("someone/model")
        (tmp_path / "w.bin").write_bytes(WEIGHTS)
        commit(api, CommitOperationAdd("w.bin", tmp_path / "w.bin"), repo_id="someone/model")
        assert hub.files("model", "someone/model")["w.bin"] == WEIGHTS
        assert len(asked(hub, "lfs-part")) == 5


def test_a_range_of_a_file_is_given_alone(hub, api):
    hub.put("model", "team/model", {"w.bin": WEIGHTS, "t.txt": b"0123456789"})
    from huggingface_hub import HfFileSystem

    files = HfFileSystem(endpoint=hub.url, token=hub.token)
    with files.open("team/model/w.bin", block_size=1000) as file:
        file.seek(70_000)
        assert file.read(10) == WEIGHTS[70_000:70_010]
    assert files.cat_file("team/model/t.txt", start=3, end=5) == b"34"


@pytest.mark.parametrize("settings", [{}, {"private": True}])
def test_who_may_do_what(hub, api, settings):
    anyone, other = HfApi(endpoint=hub.url, token=False), HfApi(endpoint=hub.url, token=hub.add_user("other"))
    assert api.whoami()["orgs"][0]["name"] == "team"
    api.create_repo("team/model", **settings)
    commit(api, add("a", b"1"))
    private = bool(settings)
    assert api.repo_info("team/model").private is private
    for reader in (anyone, other):
        assert reader.repo_exists("team/model") is not private
    with pytest.raises(HfHubHTTPError, match=r"don't have the rights to create a model under the namespace .team."):
        other.create_repo("team/another")
    with pytest.raises(RepositoryNotFoundError if private else HfHubHTTPError):
        commit(other, add("a", b"2"))
    wrong = HfApi(endpoint=hub.url, token="wrong")
    with pytest.raises(HfHubHTTPError, match="Invalid"):
        wrong.create_repo("team/model")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("team/model")
    reader = HfApi(endpoint=hub.url, token=hub.add_user("reader", {"team": "admin"}, role="read"))
    assert reader.repo_exists("team/model")
    with pytest.raises(HfHubHTTPError, match="403"):
        commit(reader, add("a", b"2"))
    assert hub.files("model", "team/model")["a"] == b"1"
    api.update_repo_settings("team/model", private=not private)
    assert hub.repo("model", "team/model").private is not private
    api.delete_repo("team/model")
    assert hub.repos() == []


def test_a_gated_repo_shows_its_name_and_keeps_its_files(hub, api):
    hub.put("model", "team/model", {"a": b"1"})
    api.update_repo_settings("team/model", gated="auto")
    other = HfApi(endpoint=hub.url, token=hub.add_user("other"))
    assert other.model_info("team/model").gated == "auto"
    for reader in (other, HfApi(endpoint=hub.url, token=False)):
        with pytest.raises(GatedRepoError):
            reader.hf_hub_download("team/model", "a")
    hub.repo("model", "team/model").admitted.add("other")
    assert Path(other.hf_hub_download("team/model", "a")).read_bytes() == b"1"


def test_collections(hub, api):
    hub.put("model", "team/model")
    made = api.create_collection("Our models", namespace="team", description="All", private=True)
    api.add_collection_item(made.slug, "team/model", "model", note="The base")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.add_collection_item(made.slug, "team/model", "model")
    api.add_collection_item(made.slug, "team/model", "model", exists_ok=True)
    assert api.create_collection("Our models", namespace="team", exists_ok=True).slug == made.slug
    api.update_collection_metadata(made.slug, private=False, description="Some")
    found = HfApi(endpoint=hub.url, token=False).get_collection(made.slug)
    assert [(item.item_id, item.note) for item in found.items] == [("team/model", "The base")]
    assert found.description == "Some"
    assert [one.slug for one in api.list_collections(owner="team")] == [made.slug]
    api.delete_collection(made.slug)
    api.delete_collection(made.slug, missing_ok=True)


def test_a_card_whose_header_cannot_be_read_is_refused(hub, api):
    api.create_repo("team/model")
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        commit(api, add("README.md", b"---\nlicense: [mit\n---\n"))
    commit(api, add("README.md", CARD))
    assert api.model_info("team/model").card_data.license == "mit"


def test_load_dataset_reads_a_config_of_a_revision(hub, api):
    from datasets import load_dataset

    def parquet(rows: list[int]) -> bytes:
        stream = io.BytesIO()
        pq.write_table(pa.table({"n": rows}), stream)
        return stream.getvalue()

    configs = [{"config_name": name, "data_files": f"{name}/*.parquet"} for name in ("one", "two")]
    header = f"---\nconfigs: {json.dumps(configs)}\n---\n".encode()
    api.create_repo("team/data", repo_type="dataset", private=True)
    changes = [add("README.md", header), *(add(f"{name}/0.parquet", parquet([len(name)])) for name in ("one", "two"))]
    commit(api, *changes, repo_id="team/data", repo_type="dataset")
    api.create_branch("team/data", branch="old", repo_type="dataset")
    commit(api, add("two/0.parquet", parquet([7, 8])), repo_id="team/data", repo_type="dataset")
    assert load_dataset("team/data", "two", split="train", token=hub.token)["n"][:] == [7, 8]
    assert load_dataset("team/data", "two", split="train", revision="old", token=hub.token)["n"][:] == [3]
    assert list(load_dataset("team/data", "one", split="train", streaming=True, token=hub.token)) == [{"n": 3}]


def test_a_repo_under_a_new_name_is_found_by_its_old_one(hub, api):
    hub.put("model", "team/new", {"a": b"1"})
    hub.move("model", "team/old", "team/new")
    assert api.model_info("team/old").id == "team/new"
    assert Path(api.hf_hub_download("team/old", "a")).read_bytes() == b"1"
