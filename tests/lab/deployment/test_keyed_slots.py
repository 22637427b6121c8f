"""HAProxy itself before engines that ask for a key each: whoever answers was sent its own, whatever changed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.haproxy.config import Routing, Upstream
from slipway.agent.haproxy.process import HAProxyProcess, wait_until
from slipway.agent.haproxy.runtime import AdminSocket
from tests.support.pki import make_pki
from tests.support.switch_load import SwitchLoad
from tests.support.switch_site import SwitchSite

pytestmark = pytest.mark.usefixtures("haproxy")
Answer = tuple[int, dict[str, str], str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SwitchSite]:
    with SwitchSite(tmp_path / ("long" * 30) / "proxy", engine_keys=True) as site:
        site.serve("0001")
        yield site


def ask(site: SwitchSite, body: dict[str, Any] | None = None, **headers: str) -> Answer:
    """(status, headers, body) of one request on a connection of its own."""
    connection = http.client.HTTPConnection(site.settings.host, site.settings.port, timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body or {}), headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode()
    finally:
        connection.close()


def engine_of(answer: Answer) -> str:
    assert answer[0] == 200, answer
    return str(json.loads(answer[2])["engine"])


def serving(site: SwitchSite) -> Upstream:
    assert site.serving is not None
    return site.serving


def folder(site: SwitchSite) -> Path:
    return site.proxy._folder


def test_the_engine_gets_its_key_in_place_of_the_clients(site: SwitchSite) -> None:
    answer = ask(site, Authorization="Bearer a-client's-own")
    assert engine_of(answer) == "0001"
    assert json.loads(answer[2])["authorization"] == f"Bearer {serving(site).key}"
    files = {path.name: path for path in folder(site).iterdir() if path.is_file()}
    assert [name for name, path in files.items() if serving(site).key in path.read_text()] == ["engine.keys"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder(site).glob("*.keys")} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder(site).glob("slot_*.sock")} == {0o600}


def test_no_request_meets_another_engines_key_while_engines_change(site: SwitchSite) -> None:
    """Beside and held, with streams and short requests on new and kept connections."""
    with SwitchLoad("127.0.0.1", site.settings.port, streams=8, events=10) as load:
        for way, name in ((site.beside, "0002"), (site.beside, "0003"), (site.held, "0004"), (site.beside, "0005")):
            load.wait_for(20)
            way(name)
        load.wait_for(20)
    report = load.report(site.pointer)
    assert (report["failed"], report["strays"]) == ({}, [])
    assert set(report["engines"]) == {"0001", "0002", "0003", "0004", "0005"}


def test_a_share_of_the_requests_and_the_death_of_the_candidate_fail_nobody(site: SwitchSite) -> None:
    candidate = site.start("0002")
    for share in (10, 50):
        site.proxy.apply(Routing(serving(site), candidate, share))
        assert Counter(engine_of(ask(site)) for _ in range(100))["0002"] == pytest.approx(share, abs=2)
    site.stop(candidate)
    assert {engine_of(ask(site)) for _ in range(10)} == {"0001"}


def test_an_attempt_at_the_same_address_with_another_key_is_followed(site: SwitchSite) -> None:
    """A requeued job may meet its old port again."""
    old = serving(site)
    site.stop(old)
    site.serving = site.start("0001", port=old.port)
    assert site.serving.key != old.key
    assert ask(site)[0] == 401  # the old key is worth nothing
    site.proxy.apply(Routing(site.serving))
    assert engine_of(ask(site)) == "0001"


def test_started_from_its_files_by_anybody_it_sends_the_key_that_was_decided(site: SwitchSite) -> None:
    site.beside("0002")
    os.kill(site.proxy.status()["pids"][0], signal.SIGKILL)
    assert wait_until(lambda: not site.proxy.status()["running"], 60)
    HAProxyProcess(folder(site), ("haproxy",)).start()
    assert engine_of(ask(site)) == "0002"
    AdminSocket(folder(site)).give_key("a", "00")
    AdminSocket(folder(site)).give_key("b", "00")
    assert ask(site)[0] == 401
    site.proxy.apply(Routing(serving(site)))  # by hand: brought back
    assert engine_of(ask(site)) == "0002"


def test_those_who_wait_get_the_key_of_an_engine_that_did_not_exist_when_they_came(site: SwitchSite) -> None:
    old = serving(site)
    site.proxy.hold(old)
    site.stop(old)
    answers: list[Answer] = []
    long = {"pad": "x" * 100_000}  # longer than a buffer of HAProxy's
    waiting = [threading.Thread(target=lambda body=body: answers.append(ask(site, body))) for body in ({}, long)]
    for thread in waiting:
        thread.start()
    assert wait_until(lambda: AdminSocket(folder(site)).waiting() == 2, 60)
    site.serving = site.start("0002")
    site.proxy.apply(Routing(site.serving))
    for thread in waiting:
        thread.join(120)
    assert [engine_of(answer) for answer in answers] == ["0002", "0002"]


def test_without_an_engine_the_error_is_the_usual_one(site: SwitchSite) -> None:
    site.stop(serving(site))
    for body in ({}, {"pad": "x" * 100_000}):
        status, headers, text = ask(site, body)
        assert (status, headers["retry-after"]) == (503, "30")
        assert json.loads(text)["error"]["code"] == "engine_not_ready"


def test_an_engine_without_a_key_gets_what_the_client_sent(site: SwitchSite) -> None:
    keyless = Upstream("0002", "127.0.0.1", site.start("0002").port)
    site.proxy.apply(Routing(keyless))
    assert ask(site)[0] == 401
    assert site.proxy.status()["serving"] == [["127.0.0.1", keyless.port]]


def test_engines_with_and_without_tls_take_turns_and_a_strangers_certificate_gets_nothing(tmp_path: Path) -> None:
    own, other = (make_pki(tmp_path / name, chained=False, usage="serverAuth") for name in ("own", "other"))
    with SwitchSite(tmp_path / "proxy", engine_keys=True, engine_ca=own.root) as site:
        site.serve("0001")
        for name, tls in (("0002", True), ("0003", False), ("0004", True)):
            site.tls = (own.certificate, own.key) if tls else None
            site.beside(name)
            assert {engine_of(ask(site)) for _ in range(3)} == {name}
        os.kill(site.proxy.status()["pids"][0], signal.SIGKILL)
        assert wait_until(lambda: not site.proxy.status()["running"], 60)
        HAProxyProcess(folder(site), ("haproxy",)).start()
        assert engine_of(ask(site)) == "0004"
        site.tls = (other.certificate, other.key)
        site.proxy.apply(Routing(site.start("0005")))
        assert ask(site)[0] == 503


def test_a_proxy_of_before_keys_is_put_in_place_anew(tmp_path: Path) -> None:
    with SwitchSite(tmp_path / "proxy") as site:
        site.serve("0001")
        with SwitchSite(tmp_path / "proxy", port=site.settings.port, engine_keys=True) as keyed:
            keyed.serve("0002")
            assert engine_of(ask(keyed)) == "0002"
