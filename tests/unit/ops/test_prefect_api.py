"""What is asked of Prefect's API, against a small HTTP server; the deployment lab proves it on the real one."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from slipway.errors import ResourceError
from slipway.ops import prefect_api
from slipway.ops.credentials import ensure_credentials
from slipway.ops.services import Services
from slipway.system.ports import any_port

ROOT = Path(__file__).resolve().parents[3]


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers each path as `answers` says, 404 elsewhere, and notes what was asked."""

    answers: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[list[tuple[str, str, str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
        self.asked.append((self.command, self.path, self.headers["Authorization"], body))
        answer = self.answers.get(self.path)
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(404 if answer is None else 200)
        self.end_headers()
        self.wfile.write(text)

    do_DELETE = do_POST

    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    Recorder.answers, Recorder.asked = {}, []
    ensure_credentials(tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Services(ROOT, tmp_path, server.server_address[1], any_port())
    server.shutdown()
    server.server_close()


def test_a_call_carries_the_credentials_and_returns_the_document(services: Services) -> None:
    Recorder.answers["/api/flows/count"] = 3
    assert prefect_api.call(services, "POST", "/flows/count", {"limit": 1}) == 3
    login = ensure_credentials(services.data).authorization
    assert Recorder.asked == [("POST", "/api/flows/count", login, {"limit": 1})]


def test_a_refusal_garbage_and_silence_are_none(services: Services) -> None:
    Recorder.answers["/api/garbage"] = b"<html>"
    assert prefect_api.call(services, "POST", "/unknown") is None
    assert prefect_api.call(services, "POST", "/garbage") is None
    assert prefect_api.call(Services(ROOT, services.data, any_port(), 1), "POST", "/flows/count") is None


@pytest.mark.parametrize(
    ("workers", "online"),
    [([{"status": "OFFLINE"}, {"status": "ONLINE"}], True), ([{"status": "OFFLINE"}], False), ([], False)],
)
def test_a_worker_is_online_by_its_status(services: Services, workers: list[dict[str, str]], online: bool) -> None:
    Recorder.answers["/api/work_pools/slipway-local/workers/filter"] = workers
    assert prefect_api.worker_online(services) is online


def test_automations_replace_those_of_their_name_and_a_refusal_is_named(services: Services) -> None:
    Recorder.answers |= {"/api/automations/filter": [{"id": "old"}], "/api/automations/old": {}}
    with pytest.raises(ResourceError, match=r"automation .*refused by the server"):
        prefect_api._install_automations(services)
    Recorder.answers["/api/automations/"] = {"id": "new"}
    Recorder.asked.clear()
    prefect_api._install_automations(services)
    assert [(method, path) for method, path, _, _ in Recorder.asked] == [
        ("POST", "/api/automations/filter"),
        ("DELETE", "/api/automations/old"),
        ("POST", "/api/automations/"),
    ] * len(list((ROOT / "infra/local/automations").glob("*.json")))


def test_a_deployment_is_made_again_when_a_source_changes(tmp_path: Path) -> None:
    """The digest covers prefect.yaml, conf/, flows/ and the automations, by name and content."""
    root = tmp_path / "clone"
    for part in ("conf", "flows", "infra/local/automations"):
        shutil.copytree(ROOT / part, root / part)
    shutil.copy(ROOT / "prefect.yaml", root)
    services = Services(root, tmp_path, 1, 2)
    digests = {prefect_api._sources_digest(services)}
    for file in (
        "prefect.yaml",
        "conf/base.yaml",
        "flows/finetune_and_ship.py",
        "infra/local/automations/zombies.json",
    ):
        (root / file).write_text((root / file).read_text() + "\n")
        digests.add(prefect_api._sources_digest(services))
    assert len(digests) == 5
    assert prefect_api._sources_digest(services) in digests


def test_what_is_deployed_already_is_left_alone(services: Services) -> None:
    (services.data / "deployed").write_text(prefect_api._sources_digest(services))
    assert prefect_api.deploy(services) is False
    assert Recorder.asked == []
