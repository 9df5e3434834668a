"""The loopback Hub fails where it is told to, in each way, and never half."""

import re
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import httpx2
import pytest
from hub_clients import point_at
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import http_backoff

from hub_cards.errors import HubError
from hub_cards.loopback.faults import Fault
from hub_cards.loopback.hub import LoopbackHub
from hub_cards.loopback.protocol import ENDPOINTS

CONTENT = b"0123456789" * 1000


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with LoopbackHub() as hub:
        point_at(monkeypatch, hub.url, tmp_path)
        hub.put("model", "someone/model", {"file.txt": CONTENT})
        yield hub


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token=hub.token)


def send(api: HfApi, content: bytes = b"new", path: str = "new.txt") -> str:
    return api.create_commit("someone/model", [CommitOperationAdd(path, content)], commit_message="New").oid


CONNECTION = (httpx2.NetworkError, httpx2.RemoteProtocolError)


@pytest.mark.parametrize("kind", ["drop", "500", "404 RepoNotFound", "lost", "truncated"])
def test_only_a_fault_before_the_commit_keeps_it_away(hub, api, kind):
    fault = hub.breaks(kind, "commit", times=1)
    with pytest.raises((HfHubHTTPError, *CONNECTION)):
        send(api)
    assert fault.struck == 1
    assert ("new.txt" in hub.files("model", "someone/model")) is (kind in ("lost", "truncated"))
    send(api, b"newer")
    assert hub.files("model", "someone/model")["new.txt"] == b"newer"


def test_a_crash_between_blob_and_commit_leaves_the_blob_and_ends_with_a_restart(hub, api, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.breaks("crash", "commit", times=1)
    head = hub.head("model", "someone/model")
    for _ in range(2):
        with pytest.raises(CONNECTION):
            send(api, b"\0weights", "w.safetensors")
    hub.restart()
    assert hub.head("model", "someone/model") == head
    hub.requests.clear()
    send(api, b"\0weights", "w.safetensors")
    assert "lfs-upload" not in [request.endpoint for request in hub.requests]


def test_truncated_answers_say_their_whole_size(hub):
    url = f"{hub.url}/someone/model/resolve/main/file.txt"
    hub.breaks("truncated", "resolve")
    with httpx2.stream("GET", url) as answer:
        assert answer.headers["Content-Length"] == str(len(CONTENT))
        with pytest.raises(CONNECTION):
            answer.read()
    with pytest.raises(CONNECTION):
        httpx2.head(url)


def test_slow_and_silent_answers(hub):
    url = f"{hub.url}/api/models/someone/model"
    hub.breaks("slow", "info", seconds=0.3, times=1)
    began = time.monotonic()
    assert httpx2.get(url).json()["id"] == "someone/model"
    assert time.monotonic() - began > 0.25
    hub.breaks("silence", "info", seconds=30)
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.get(url, timeout=0.2)


def test_too_many_requests_say_how_long_to_wait(hub, monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    hub.breaks("429", "info", times=1, seconds=7)
    assert http_backoff("GET", f"{hub.url}/api/models/someone/model").status_code == 200
    assert waited == [8]  # the client adds a second


def test_faults_are_counted_by_place(hub, api):
    fault = hub.breaks("503", "resolve", where="b.txt", after=1, times=1)
    hub.put("model", "someone/model", {"a.txt": b"a", "b.txt": b"b"})
    statuses = [
        httpx2.get(f"{hub.url}/someone/model/resolve/main/{name}.txt").status_code for name in ("a", "b", "b", "b")
    ]
    assert statuses == [200, 200, 503, 200]
    assert fault.struck == 1
    hub.breaks("500")
    hub.heals()
    assert httpx2.get(f"{hub.url}/someone/model/resolve/main/a.txt").content == b"a"


@pytest.mark.parametrize("name", sorted(ENDPOINTS))
def test_every_endpoint_can_fail_by_its_name(hub, name):
    """A request of each is found under its name, so no fault is for an endpoint that does not exist."""
    parts = {
        "types": "models" if "api" in ENDPOINTS[name].pattern.pattern else "",
        "type": "model",
        "id": "someone/model",
        "sha256": "0" * 64,
        "number": "1",
        "slug": "someone/models",
    }
    path = re.sub(r"\(\?:([^()]*|\([^()]*\))*\)\??", "", ENDPOINTS[name].pattern.pattern)
    for group in re.findall(r"\(\?P<(\w+)>", ENDPOINTS[name].pattern.pattern):
        path = re.sub(rf"\(\?P<{group}>(?:[^()]|\([^()]*\))*\)\??", parts.get(group, "main"), path)
    path = path.replace("\\", "").replace(".+", "x")
    fault = hub.breaks("503", name)
    method = ENDPOINTS[name].methods[0]
    assert httpx2.request(method, hub.url + path).status_code == 503, path
    assert fault.struck == 1


def test_a_fault_that_cannot_happen_is_refused(hub):
    with pytest.raises(HubError, match=r"fault at 'comit': no such endpoint\. Did you mean 'commit'"):
        Fault("500", "comit")
    with pytest.raises(HubError, match="fault 'explode': expected a status or one of drop"):
        Fault("explode")


def test_half_a_request_is_no_request(hub):
    """A client that is killed while it sends: what has arrived is not taken for all of it."""
    head = hub.head("model", "someone/model")
    ended = threading.Event()
    hub.listener = lambda hub, request: ended.set()
    lines = b'{"key": "header", "value": {"summary": "x"}}\n{"key": "deletedFile", "value": {"path": "file.txt"}}\n'
    address = urlsplit(hub.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        request = (
            f"POST /api/models/someone/model/commit/main HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {hub.token}\r\nContent-Length: {len(lines) + 1000}\r\n\r\n"
        )
        connection.sendall(request.encode() + lines)
    assert ended.wait(10)
    assert hub.requests[-1].status is None
    assert hub.head("model", "someone/model") == head


def test_the_listener_sees_the_state_after_each_request_and_its_complaint_is_heard(monkeypatch, tmp_path):
    seen: list[tuple[str, int | None, int]] = []

    def watch(hub, request):
        seen.append((request.endpoint, request.status, len(hub.repo("model", "someone/model").commits)))
        assert "bad.txt" not in hub.files("model", "someone/model"), "a bad file"

    def work() -> None:
        with LoopbackHub(listener=watch) as hub:
            point_at(monkeypatch, hub.url, tmp_path)
            hub.put("model", "someone/model")
            api = HfApi(endpoint=hub.url, token=hub.token)
            send(api)
            hub.breaks("500", "commit", times=1)
            with pytest.raises(HfHubHTTPError):
                send(api, b"2")
            send(api, b"3", "bad.txt")

    with pytest.raises(AssertionError, match="a bad file"):
        work()
    assert [one for one in seen if one[0] == "commit"] == [("commit", 200, 2), ("commit", 500, 2), ("commit", 200, 3)]


def test_a_child_process_gets_a_cache_and_an_account_of_its_own(hub, tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, str(tmp_path / "of-the-user"))
    program = (
        "from huggingface_hub import HfApi, hf_hub_download, constants\n"
        "print(HfApi().whoami()['name'], hf_hub_download('someone/model', 'file.txt'), constants.HF_TOKEN_PATH)"
    )
    environment = hub.environment(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    name, file, token = done.stdout.split()
    assert name == "someone"
    assert file.startswith(str(tmp_path / "home"))
    assert token.startswith(str(tmp_path / "home"))
    assert not (tmp_path / "of-the-user").exists()
