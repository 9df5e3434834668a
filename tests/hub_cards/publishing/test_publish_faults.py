"""A run is published while the Hub fails: at every endpoint, in every way, in passing and for good."""

import random

import pytest
from laid_out_repos import Promise, assert_complete, lay_out_run, wanted

from hub_cards.errors import HubError
from hub_cards.loopback.hub import LoopbackHub
from hub_cards.publishing import remote
from hub_cards.publishing.publish import Asked
from hub_cards.publishing.several import publish_run

# What a publication of a new run asks for, in this order; test_these_are_all_endpoints compares.
ENDPOINTS = (
    *("whoami", "info", "create-repo", "refs", "tree", "commits", "create-branch", "preupload", "lfs-batch"),
    *("lfs-upload", "lfs-verify", "validate-yaml", "commit", "delete-branch", "create-tag", "resolve"),
    *("lfs-download", "create-collection", "add-collection-item"),
)
KINDS = ("drop", "lost", "truncated", "silence", "crash", "page", "500", "429", "401", "403", "404 RepoNotFound", "413")
SHORT = {"silence": 5.0, "slow": 0.3, "429": 0.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return lay_out_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def second_run(tmp_path_factory):
    """The same repos with other contents, the weights in more files."""
    return lay_out_run(tmp_path_factory.mktemp("second-run"), version="second", shards=3)


@pytest.fixture
def watched(hub, api, run):
    """The Hub, which looks after every request whether the promise holds."""
    hub.listener = Promise({(repo.type, repo_id): [wanted(repo)] for repo_id, repo in run.items()})
    return hub


def publish_all(run, api, asked=None):
    return publish_run(run, asked or Asked(), title="tiny", api=api, progress=False)


def assert_all_complete(hub: LoopbackHub, run) -> None:
    for repo_id, repo in run.items():
        assert_complete(hub, repo_id, repo)
    (collection,) = hub.state.collections.values()
    assert {item["id"] for item in collection.items} == set(run)
    assert not hub.problems, hub.problems[0]


def fail_and_go_on(hub, api, run, fault, *, passes: bool, asked=None):
    """One publication under a fault, and one after it: the first may end with a message, the second is complete."""
    with pytest.MonkeyPatch.context() as patch:
        if fault.kind == "silence":
            patch.setattr(remote, "SILENCE_SECONDS", 0.5)
        message = message_of(run, api, asked)
    if message:
        assert "The same command" in message or "token" in message, message
        assert message.count("\n") <= 2
        assert hub.token not in message
        assert not passes, message
    hub.heals()
    assert not hub.problems, hub.problems[0]
    publish_all(run, api, asked)
    assert_all_complete(hub, run)
    assert fault.struck > 0


def message_of(run, api, asked) -> str:
    """How a publication ends; empty where it is complete."""
    try:
        publish_all(run, api, asked)
    except HubError as error:
        return str(error)
    return ""


def test_these_are_all_endpoints(watched, api, run):
    publish_all(run, api)
    assert_all_complete(watched, run)
    assert sorted({request.endpoint for request in watched.requests}) == sorted(ENDPOINTS)


# The whole table takes minutes; these stand for the others.
CASES = [(endpoint, kind) for endpoint in ENDPOINTS for kind in KINDS]
CHOSEN = [
    ("whoami", "401"),
    ("create-repo", "403"),
    ("refs", "page"),
    ("create-branch", "lost"),
    ("preupload", "413"),
    ("lfs-upload", "crash"),
    ("commit", "lost"),
    ("commit", "500"),
    ("create-tag", "drop"),
    ("resolve", "truncated"),
]


def cases(chosen: bool):
    return [pytest.param(*case, id="-".join(case)) for case in CASES if (case in CHOSEN) == chosen]


@pytest.mark.parametrize(("endpoint", "kind"), cases(True))
def test_a_fault_for_good_shows_nothing_wrong_and_the_same_command_goes_on(watched, api, run, endpoint, kind):
    lasting(watched, api, run, endpoint, kind)


@pytest.mark.slow
@pytest.mark.parametrize(("endpoint", "kind"), cases(False))
def test_every_fault_for_good_shows_nothing_wrong_and_the_same_command_goes_on(watched, api, run, endpoint, kind):
    lasting(watched, api, run, endpoint, kind)


def lasting(hub, api, run, endpoint, kind):
    after = random.Random(f"{endpoint} {kind}").randrange(3)
    once = endpoint == "create-collection"
    fault = hub.breaks(kind, endpoint, after=0 if once else after, seconds=SHORT.get(kind, 1))
    fail_and_go_on(hub, api, run, fault, passes=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["drop", "lost", "truncated", "silence", "page", "500", "429", "503"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_fault_in_passing_is_got_over_in_the_same_run(watched, api, run, endpoint, kind):
    fault = watched.breaks(kind, endpoint, times=1, seconds=SHORT.get(kind, 1))
    fail_and_go_on(watched, api, run, fault, passes=True)


@pytest.mark.parametrize("kind", ["lost", "500"])
def test_faults_in_passing_at_all_endpoints_are_got_over_in_the_same_run(watched, api, run, kind):
    faults = [watched.breaks(kind, endpoint, after=number % 2, times=1) for number, endpoint in enumerate(ENDPOINTS)]
    publish_all(run, api)
    assert_all_complete(watched, run)
    assert sum(fault.struck for fault in faults) > len(faults) // 2


# What replacing a version asks for: other requests than a new one, and branches that are seen meanwhile.
REPLACING = (
    "settings",
    "refs",
    "tree",
    "create-branch",
    "preupload",
    "lfs-upload",
    "commit",
    "delete-tag",
    "create-tag",
)
REPLACING_CASES = [(endpoint, kind) for endpoint in REPLACING for kind in KINDS if kind != "silence"]
REPLACING_CHOSEN = [("settings", "403"), ("commit", "crash"), ("delete-tag", "lost"), ("create-tag", "500")]


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [
        pytest.param(*case, marks=[] if case in REPLACING_CHOSEN else [pytest.mark.slow], id="-".join(case))
        for case in REPLACING_CASES
    ],
)
def test_a_version_is_replaced_under_a_fault_branch_by_branch(watched, api, run, second_run, endpoint, kind):
    publish_all(run, api)
    versions = {(repo.type, name): [wanted(repo), wanted(second_run[name])] for name, repo in run.items()}
    watched.listener = Promise(versions)
    after = 0 if endpoint == "settings" else random.Random(f"{endpoint} {kind}").randrange(3)
    fault = watched.breaks(kind, endpoint, after=after, seconds=SHORT.get(kind, 1))
    fail_and_go_on(watched, api, second_run, fault, passes=False, asked=Asked(private=True))
    assert all(watched.repo(repo.type, name).private for name, repo in run.items())
