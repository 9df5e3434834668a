"""What is not published, what others put there, and two publishers at once."""

import json
import os
import threading

import pytest
from laid_out_repos import PHASES, Promise, assert_complete, lay_out_checkpoints, lay_out_data, wanted
from tqdm import tqdm

from hub_cards.errors import HubError
from hub_cards.loopback.hub import LoopbackHub
from hub_cards.publishing import publish as publishing
from hub_cards.publishing import sending
from hub_cards.publishing.publish import Asked, plan_publish, publish
from hub_cards.publishing.turn import STAGING
from hub_cards.repos.folder import open_repo

REPO = ("model", "someone/tiny")


def writes(hub: LoopbackHub) -> list[str]:
    return [request.endpoint for request in hub.requests if request.method not in ("GET", "HEAD")]


def test_a_publisher_that_writes_main_first_breaks_the_promise(api, hub, tmp_path, monkeypatch):
    """The promise is one that can be broken, and the listener sees it."""

    def main_first(plan, remote, turn, result, *, progress):
        sender = sending.Sender(remote, turn, tqdm(disable=True))
        for change in reversed(plan.changes):
            bring = sender.make if change.head is None else sender.replace
            result.commits[change.branch.name] = bring(change)

    monkeypatch.setattr(publishing, "carry_out", main_first)
    repo = lay_out_checkpoints(tmp_path / "repo")
    hub.listener = Promise({REPO: [wanted(repo)]})
    publish(repo, REPO[1], Asked(download=False), api=api)
    assert_complete(hub, REPO[1], repo)
    assert "the index on main names" in str(hub.problems[0])
    hub.problems.clear()


def test_a_branch_cut_from_main_breaks_the_promise(api, hub, tmp_path, monkeypatch):
    """As it was once: a branch is made, and shows what main holds until its own commit comes."""
    repo = lay_out_checkpoints(tmp_path / "repo", phases=PHASES[:1])
    more = lay_out_checkpoints(tmp_path / "more")
    publish(repo, REPO[1], Asked(), api=api)
    hub.listener = Promise({REPO: [wanted(repo), wanted(more)]})
    api.create_branch(REPO[1], branch=PHASES[1])
    assert f"{PHASES[1]} holds" in str(hub.problems[0])
    hub.problems.clear()


@pytest.mark.parametrize("branch", ["main", PHASES[1]])
def test_files_of_others_are_not_overlaid(api, hub, tmp_path, branch):
    repo = lay_out_checkpoints(tmp_path / "repo")
    hub.put(*REPO, {"README.md": b"# mine", "model.safetensors": b"somebody's weights"}, branch=branch)
    before = dict(hub.repo(*REPO).branches)
    with pytest.raises(HubError, match=rf"its branch {branch} holds files that were not published from here"):
        publish(repo, REPO[1], Asked(), api=api)
    assert writes(hub) == []
    assert hub.repo(*REPO).branches == before
    with pytest.raises(HubError, match="--replace-foreign"):
        plan_publish(repo, REPO[1], Asked(), api=api)
    done = publish(repo, REPO[1], Asked(replace_foreign=True), api=api)
    assert f"{branch}: files of somebody else are replaced" in done.notes
    assert_complete(hub, REPO[1], repo)


def test_another_repo_of_ours_is_not_overlaid(api, hub, tmp_path):
    publish(lay_out_checkpoints(tmp_path / "one"), REPO[1], Asked(), api=api)
    other = lay_out_checkpoints(tmp_path / "other", version="second", name="someone/other")
    with pytest.raises(HubError, match=r"the repo someone/tiny, and .*other is someone/other"):
        publish(other, REPO[1], Asked(), api=api)


def test_a_new_repo_with_a_card_and_branches_of_an_earlier_try_are_not_in_the_way(api, hub, tmp_path):
    hub.put(*REPO, {"README.md": b"made on the Hub's page"})
    first = lay_out_checkpoints(tmp_path / "first")
    hub.breaks("403", "commit", where="/commit/main")
    with pytest.raises(HubError, match=f"Sure to be on the Hub as in .*first: {PHASES[0]}"):
        publish(first, REPO[1], Asked(), api=api)
    hub.heals()
    again = lay_out_checkpoints(tmp_path / "again", version="second")
    publish(again, REPO[1], Asked(), api=api)
    assert_complete(hub, REPO[1], again)


def test_a_branch_that_is_not_in_the_repo_any_more_is_left_and_named(api, hub, tmp_path):
    publish(lay_out_checkpoints(tmp_path / "more"), REPO[1], Asked(), api=api)
    fewer = lay_out_checkpoints(tmp_path / "fewer", version="second", phases=PHASES[1:])
    done = publish(fewer, REPO[1], Asked(), api=api)
    assert PHASES[0] in hub.repo(*REPO).branches
    assert any(PHASES[0] in note and "left as they are" in note for note in done.notes)


def test_a_tag_that_stands_elsewhere_is_moved_and_named(api, hub, tmp_path):
    repo = lay_out_checkpoints(tmp_path / "repo")
    publish(repo, REPO[1], Asked(), api=api)
    there = hub.repo(*REPO)
    there.tags["phase01"] = there.branches[PHASES[1]]
    plan = plan_publish(repo, REPO[1], Asked(), api=api)
    assert [plan.tag_will(change) for change in plan.changes] == ["move", "keep", "keep", ""]
    hub.requests.clear()
    done = publish(repo, REPO[1], Asked(), api=api)
    assert any(note.startswith("moved the tag phase01 from") for note in done.notes)
    assert_complete(hub, REPO[1], repo)
    assert writes(hub) == ["create-branch", "delete-tag", "create-tag", "delete-branch"]


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("longer", [b"", b"!"])
def test_a_file_changed_since_the_check_stops_before_the_commit(api, hub, tmp_path, monkeypatch, file, longer):
    repo = lay_out_checkpoints(tmp_path / "repo")
    place = tmp_path / "repo" / "revisions" / PHASES[1] / file
    send = sending.Sender._send

    def change_then_send(self, batch, revision):
        if PHASES[1] in revision:
            place.write_bytes(place.read_bytes()[:-1] + b"?" + longer)
        return send(self, batch, revision)

    monkeypatch.setattr(sending.Sender, "_send", change_then_send)
    with pytest.raises(HubError, match=rf"{PHASES[1]}/{file}: changed since the repo was laid out"):
        publish(repo, REPO[1], Asked(), api=api)
    assert sorted(hub.repo(*REPO).branches) == sorted(["main", PHASES[0]])


def damage(folder, what):
    target = folder / "revisions" / PHASES[0] / "config.json"
    if what == "link":
        target.rename(folder.parent / "elsewhere")
        target.symlink_to(folder.parent / "elsewhere")
    elif what == "folder-link":
        (folder / "revisions").rename(folder.parent / "elsewhere")
        (folder / "revisions").symlink_to(folder.parent / "elsewhere")
    elif what == "gone":
        target.unlink()
    elif what == "shorter":
        target.write_text("{}")
    elif what == "fifo":
        target.unlink()
        os.mkfifo(target)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("link", "config.json: a symbolic link"),
        ("folder-link", "a symbolic link"),
        ("gone", "config.json: missing"),
        ("shorter", "config.json: 2 bytes, expected"),
        ("fifo", "config.json: not a plain file"),
    ],
)
def test_what_is_no_plain_file_or_another_one_never_leaves(api, hub, tmp_path, what, message):
    repo = lay_out_checkpoints(tmp_path / "repo")
    damage(tmp_path / "repo", what)
    with pytest.raises(HubError, match=message):
        publish(repo, REPO[1], Asked(), api=api)
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", ["data/../x.json", "a\\b.json", "a\nb.json", ".git/config", "ä.json", "a//b.json", "-/ x"]
)
def test_a_manifest_with_a_name_that_leads_astray_is_refused(api, hub, tmp_path, name):
    lay_out_data(tmp_path / "repo")
    path = tmp_path / "repo" / "manifest.json"
    manifest = path.read_text()
    content = json.loads(manifest)
    content["files"][name] = content["files"].pop("README.md")
    path.write_text(json.dumps(content))
    with pytest.raises(HubError, match=r"not published: .*(not a name that may be published|no file of a folder)"):
        publish(open_repo(tmp_path / "repo"), "someone/data", Asked(), api=api)
    assert hub.requests == []


@pytest.mark.parametrize(
    "repo_id", ["tiny", "a/b/c", "some one/tiny", "someone/tiny.git", "someone/-tiny", "me/" + "x" * 97]
)
def test_a_repo_name_that_is_not_allowed_is_refused(api, hub, tmp_path, repo_id):
    with pytest.raises(HubError, match="--repo-id"):
        publish(lay_out_data(tmp_path / "repo"), repo_id, Asked(), api=api)
    assert hub.requests == []


def test_a_token_that_may_not_write_there_ends_with_a_message(api, hub, tmp_path):
    repo = lay_out_data(tmp_path / "repo")
    with pytest.raises(HubError, match="needs the right to write there"):
        publish(repo, "others/data", Asked(), api=api)
    api.token = hub.add_user("reader", role="read")
    with pytest.raises(HubError, match="may only read"):
        publish(repo, "reader/data", Asked(), api=api)
    assert hub.repos() == []


def test_what_a_killed_run_left_is_cleared_and_not_sent_again(api, hub, tmp_path):
    repo = lay_out_checkpoints(tmp_path / "repo")
    hub.put(*REPO)
    first = hub.repo(*REPO).branches["main"]
    left = [f"{STAGING}{'0' * 12}", f"{STAGING}{'0' * 12}-{PHASES[0]}"]
    for name in left:
        hub.repo(*REPO).branches[name] = first
    hub.repo(*REPO).branches[f"{STAGING}of-my-own"] = first
    done = publish(repo, REPO[1], Asked(), api=api)
    assert any(all(name in note for name in left) for note in done.notes if note.startswith("cleared"))
    assert sorted(set(hub.repo(*REPO).branches) - {"main", *PHASES}) == [f"{STAGING}of-my-own"]


class Rival:
    """Lets a second publisher do something when the first has made its n-th request that writes."""

    def __init__(self, after: int, act) -> None:
        self.after, self.act = after, act

    def __call__(self, hub, request) -> None:
        if self.after >= 0 and request.method not in ("GET", "HEAD"):
            self.after -= 1
            if self.after < 0:
                self.act()


@pytest.mark.parametrize("after", [3, 9, 16, 24])
def test_of_two_publishers_of_different_versions_one_wins_and_nothing_is_mixed(api, hub, tmp_path, after):
    """The second takes over at some moment of the first's work, on the same repo, with other weights."""
    ours = lay_out_checkpoints(tmp_path / "ours")
    theirs = lay_out_checkpoints(tmp_path / "theirs", version="second")
    promise = Promise({REPO: [wanted(ours), wanted(theirs)]})
    ended = []

    def second():
        try:
            publish(theirs, REPO[1], Asked(download=False), api=api)
            ended.append("complete")
        except HubError as error:
            ended.append(str(error))

    rival = threading.Thread(target=second)
    begin = Rival(after, rival.start)
    hub.listener = lambda hub, request: (promise(hub, request), begin(hub, request))
    try:
        publish(ours, REPO[1], Asked(download=False), api=api)
        ended.append("complete")
    except HubError as error:
        ended.append(str(error))
    rival.join(60)
    assert len(ended) == 2
    assert not hub.problems, hub.problems[0]
    assert "complete" in ended
    for message in set(ended) - {"complete"}:
        assert "publisher" in message
    hub.listener = promise
    publish(theirs, REPO[1], Asked(), api=api)
    assert_complete(hub, REPO[1], theirs)
