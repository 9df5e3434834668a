"""What publishing does, in which order, and what it refuses, against the loopback Hub."""

import pytest
from laid_out_repos import (
    PHASES,
    Promise,
    assert_complete,
    lay_out_checkpoints,
    lay_out_data,
    lay_out_run,
    wanted,
)

from hub_cards.errors import HubError
from hub_cards.publishing.publish import Asked, publish
from hub_cards.publishing.several import links_of, order_of

REPO = ("model", "someone/tiny")


def writes(hub):
    return [request.endpoint for request in hub.requests if request.method not in ("GET", "HEAD")]


def test_every_branch_arrives_whole_with_its_tag_and_the_index_last(hub, api, tmp_path):
    repo = lay_out_checkpoints(tmp_path / "repo")
    hub.listener = Promise({REPO: [wanted(repo)]})
    done = publish(repo, REPO[1], Asked(), api=api)
    assert_complete(hub, REPO[1], repo)
    assert done.done == {**dict.fromkeys(PHASES, "created"), "main": "created"}
    commits = [request.path.rpartition("/")[2] for request in hub.requests if request.endpoint == "commit"]
    assert len(commits) == len(PHASES) + 1
    assert commits[-1] == "main"
    assert hub.listener.checked == len(hub.requests)


def test_published_again_nothing_is_written(hub, api, tmp_path):
    repo = lay_out_checkpoints(tmp_path / "repo")
    publish(repo, REPO[1], Asked(), api=api)
    hub.requests.clear()
    done = publish(repo, REPO[1], Asked(), api=api)
    assert set(done.done.values()) == {"kept"}
    assert writes(hub) == []


def test_a_sharded_model_over_a_single_file_leaves_no_old_weights(hub, api, tmp_path):
    old = lay_out_checkpoints(tmp_path / "old")
    new = lay_out_checkpoints(tmp_path / "new", version="second", shards=3)
    publish(old, REPO[1], Asked(), api=api)
    hub.listener = Promise({REPO: [wanted(old), wanted(new)]})
    before = dict(hub.repo(*REPO).branches)
    hub.requests.clear()
    done = publish(new, REPO[1], Asked(), api=api)
    assert_complete(hub, REPO[1], new)
    assert writes(hub).count("commit") == len(PHASES) + 1
    for name, commit in hub.repo(*REPO).branches.items():
        assert hub.repo(*REPO).commits[commit].parents == (before[name],)
    assert sorted(note.split()[3] for note in done.notes if note.startswith("moved")) == [
        "phase01",
        "phase02",
        "phase26",
    ]


def test_one_branch_can_be_published_alone_and_main_only_where_the_others_are(hub, api, tmp_path):
    repo = lay_out_checkpoints(tmp_path / "repo")
    publish(repo, REPO[1], Asked(revision=PHASES[1]), api=api)
    assert sorted(hub.repo(*REPO).branches) == ["main", PHASES[1]]
    assert hub.repo(*REPO).tags == {"phase02": hub.repo(*REPO).branches[PHASES[1]]}
    with pytest.raises(HubError, match=f"its index names {PHASES[0]}; {PHASES[2]}, not on the Hub as in"):
        publish(repo, REPO[1], Asked(revision="main"), api=api)
    with pytest.raises(HubError, match=f"no such branch in .*repo. Did you mean '{PHASES[0]}'"):
        publish(repo, REPO[1], Asked(revision=PHASES[0].replace("tokens", "token")), api=api)
    for name in (PHASES[0], PHASES[2], "main"):
        publish(repo, REPO[1], Asked(revision=name), api=api)
    assert_complete(hub, REPO[1], repo)
    other = lay_out_checkpoints(tmp_path / "other", version="second")
    done = publish(other, REPO[1], Asked(revision=PHASES[0]), api=api)
    assert f"main still describes what {PHASES[0]} held before; publish it as well" in done.notes


def test_cards_link_to_what_is_there(tmp_path):
    run = lay_out_run(tmp_path)
    assert order_of(run) == ["someone/tiny-data", "someone/tiny-checkpoints", "someone/tiny"]
    assert links_of(run["someone/tiny"], set(run)) == {"someone/tiny-data", "someone/tiny-checkpoints"}


def test_a_dataset_goes_to_a_dataset_repo_in_one_commit(hub, api, tmp_path):
    repo = lay_out_data(tmp_path / "repo", files=80)
    publish(repo, "someone/data", Asked(), api=api)
    assert_complete(hub, "someone/data", repo)
    assert writes(hub).count("commit") == 1


@pytest.mark.parametrize("there", [True, False])
def test_visibility_is_changed_before_anything_is_sent(hub, api, tmp_path, there):
    repo = lay_out_data(tmp_path / "repo")
    hub.put("dataset", "someone/data", private=not there)
    publish(repo, "someone/data", Asked(private=there), api=api)
    assert hub.repo("dataset", "someone/data").private is there
    assert writes(hub).index("settings") < writes(hub).index("create-branch")
    publish(repo, "someone/data", Asked(), api=api)
    assert hub.repo("dataset", "someone/data").private is there


def test_a_repo_that_stays_public_gets_nothing(hub, api, tmp_path, monkeypatch):
    repo = lay_out_data(tmp_path / "repo")
    hub.put("dataset", "someone/data")
    monkeypatch.setattr(api, "update_repo_settings", lambda *_, **__: None)
    with pytest.raises(HubError, match="still public after it was to be made private"):
        publish(repo, "someone/data", Asked(private=True), api=api)
    assert set(writes(hub)) == set()
