"""HAProxy itself, as it is installed: whatever was killed, edited or forgotten, the address serves what was decided."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.haproxy.address import HAProxy
from slipway.agent.haproxy.config import REFUSING, Routing, Upstream
from slipway.agent.haproxy.listeners import listeners
from slipway.agent.haproxy.process import HAProxyProcess, find_haproxy, wait_until
from slipway.agent.haproxy.runtime import AdminSocket
from slipway.agent.haproxy.settings import proxy_settings
from slipway.errors import ResourceError
from tests.support.switch_site import SwitchSite

pytestmark = pytest.mark.usefixtures("haproxy")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SwitchSite]:
    # a socket's path is at most 107 bytes; a target's root may be longer
    with SwitchSite(tmp_path / ("long" * 30) / "proxy") as site:
        site.serve("0001")
        yield site


def ask(site: SwitchSite, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    """(status, headers, body) of one request on a connection of its own."""
    connection = http.client.HTTPConnection(site.settings.host, site.settings.port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body or {}), headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode()
    finally:
        connection.close()


def engine_of(answer: tuple[int, dict[str, str], str]) -> str:
    assert answer[0] == 200, answer
    return str(json.loads(answer[2])["engine"])


def folder(site: SwitchSite) -> Path:
    return site.proxy._folder


def test_report_11_killed_after_a_switch_the_new_release_serves(site: SwitchSite) -> None:
    site.beside("0002")
    (pid,) = site.proxy.status()["pids"]
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not site.proxy.status()["running"], 10)
    # started by anybody from its file: an admin, a unit, a boot
    HAProxyProcess(folder(site), ("haproxy",)).start()
    assert engine_of(ask(site)) == "0002"
    # and by the next command
    os.kill(site.proxy.status()["pids"][0], signal.SIGKILL)
    assert wait_until(lambda: not site.proxy.status()["running"], 10)
    assert site.serving is not None
    site.proxy.apply(Routing(site.serving))
    assert engine_of(ask(site)) == "0002"


def test_killed_between_file_and_socket_the_new_one_serves(site: SwitchSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written first: whoever starts HAProxy then gets the release that was decided."""
    new = site.start("0002")
    monkeypatch.setattr(site.proxy, "_tell", lambda live, states: os.kill(site.proxy.status()["pids"][0], 9))
    with pytest.raises(ResourceError):
        site.proxy.apply(Routing(new))
    HAProxyProcess(folder(site), ("haproxy",)).start()
    assert engine_of(ask(site)) == "0002"


def test_what_was_changed_by_hand_is_brought_back(site: SwitchSite) -> None:
    assert site.serving is not None
    second = site.start("0002")
    admin = AdminSocket(folder(site))
    for server in ("engine/b", "held/b"):
        admin.move(server, "127.0.0.1", second.port)
        admin.ready(server)
    admin.drain("engine/a")
    (folder(site) / "haproxy.cfg").write_text("nonsense\n")
    assert engine_of(ask(site)) == "0002"
    site.proxy.apply(Routing(site.serving))
    assert {engine_of(ask(site)) for _ in range(4)} == {"0001"}
    HAProxyProcess(folder(site), ("haproxy",)).check("haproxy.cfg")


def test_only_the_owner_may_use_the_admin_socket(site: SwitchSite) -> None:
    assert stat.S_IMODE((folder(site) / "admin.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder(site).stat().st_mode) == 0o700


def test_a_second_proxy_does_not_start_and_the_first_is_named(site: SwitchSite, tmp_path: Path) -> None:
    second = HAProxy(tmp_path / "second", site.settings)
    with pytest.raises(ResourceError, match=f"listened on by pid {site.proxy.status()['pids'][0]}"):
        second.apply(Routing(site.serving))
    with pytest.raises(ResourceError, match="Address already in use"):
        HAProxyProcess(tmp_path / "second", ("haproxy",)).start()  # it does not share the port either
    assert engine_of(ask(site)) == "0001"


def test_a_process_that_shares_the_port_is_named(tmp_path: Path) -> None:
    """SO_REUSEPORT lets a forgotten process take a part of the requests; ours does not share."""
    with socket.socket() as forgotten:
        forgotten.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        forgotten.bind(("127.0.0.1", 0))
        forgotten.listen()
        port = forgotten.getsockname()[1]
        with (
            SwitchSite(tmp_path / "proxy", port=port) as site,
            pytest.raises(ResourceError, match=f"pid {os.getpid()}"),
        ):
            site.serve("0001")
        assert [one.pid for one in listeners("127.0.0.1", port)] == [os.getpid()]


def test_the_hold_is_bounded_and_the_old_engine_comes_back(tmp_path: Path) -> None:
    with SwitchSite(tmp_path / "proxy", hold_limit_s=3, retry_after_s=7) as site:
        site.serve("0001")
        assert site.serving is not None
        site.proxy.hold(site.serving)
        status, headers, body = ask(site)
        assert (status, headers["retry-after"]) == (503, "7")
        assert json.loads(body)["error"]["code"] == "engine_not_ready"
        assert site.proxy.status()["held"]
        answers: list[tuple[int, dict[str, str], str]] = []
        waiting = threading.Thread(target=lambda: answers.append(ask(site)))
        waiting.start()
        assert wait_until(lambda: AdminSocket(folder(site)).waiting() == 1, 10)
        site.proxy.apply(Routing(site.serving))  # the new one failed: the old one again
        waiting.join()
        assert engine_of(answers[0]) == "0001"


def test_without_an_engine_the_error_is_at_once(site: SwitchSite) -> None:
    """A dead engine is not waited for as a planned swap is."""
    assert site.serving is not None
    site.stop(site.serving)
    status, headers, _ = ask(site)
    assert (status, headers["retry-after"]) == (503, "30")
    site.proxy.apply(Routing())
    assert ask(site)[0] == 503


def test_a_canary_gets_its_share_and_its_death_fails_nobody(site: SwitchSite) -> None:
    assert site.serving is not None
    candidate = site.start("0002")
    site.proxy.apply(Routing(site.serving, candidate, 10))
    for share in (10, 50):
        site.proxy.apply(Routing(site.serving, candidate, share))
        assert Counter(engine_of(ask(site)) for _ in range(100))["0002"] == pytest.approx(share, abs=2)
    site.stop(candidate)
    assert {engine_of(ask(site)) for _ in range(20)} == {"0001"}
    site.proxy.apply(Routing(site.serving))
    assert site.proxy.status()["serving"] == [["127.0.0.1", site.serving.port]]


def test_a_drain_ends_at_its_limit_and_counts_what_it_cut(site: SwitchSite) -> None:
    old, new = site.serving, site.start("0002")
    assert old is not None
    answers: list[str] = []

    def stream() -> None:
        try:
            answers.append(ask(site, {"stream": True, "events": 600, "pause_s": 0.1})[2])
        except (OSError, http.client.HTTPException) as err:
            answers.append(type(err).__name__)

    threads = [threading.Thread(target=stream) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: site.proxy.sessions().get(old.address) == 3, 20)
    site.proxy.apply(Routing(new))
    assert site.proxy.drain(old, 0.3).cut == 3
    for thread in threads:
        thread.join(120)
    assert len(answers) == 3
    assert not any("[DONE]" in answer for answer in answers)
    assert site.proxy.sessions()[old.address] == 0


def test_new_settings_let_streams_end(site: SwitchSite) -> None:
    """A reload: the old process finishes its streams, and a drain waits for it."""
    answers: list[str] = []
    body = {"stream": True, "events": 20, "pause_s": 0.1}
    stream = threading.Thread(target=lambda: answers.append(ask(site, body)[2]))
    stream.start()
    assert site.serving is not None
    assert wait_until(lambda: site.proxy.sessions().get(site.serving.address) == 1, 20)
    notes: list[str] = []
    changed = HAProxy(folder(site), replace(site.settings, hold_limit_s=33), notes.append)
    changed.apply(Routing(site.serving))
    assert notes
    assert "retries 33" in (folder(site) / "haproxy.cfg").read_text()
    assert changed.drain(site.serving).cut == 0
    stream.join()
    assert answers[0].endswith("data: [DONE]\n\n")
    assert len(site.proxy.status()["pids"]) == 1


def test_a_key_is_asked_for_and_goes_no_further(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# clients\nfirst-key-0123456789\nsecond-key-0123456789\n")
    keys.chmod(0o600)
    document = {"kind": "haproxy", "host": "127.0.0.1", "port": 1, "key_file": str(keys)}
    settings = proxy_settings(document)
    assert settings is not None
    with SwitchSite(tmp_path / "proxy", key_digests=settings.key_digests) as site:
        site.serve("0001")
        status, headers, body = ask(site)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(body)["error"]["code"] == "invalid_api_key"
        assert ask(site, Authorization="Bearer first-key-012345678")[0] == 401
        for key in ("first-key-0123456789", "second-key-0123456789"):
            answer = ask(site, Authorization=f"Bearer {key}")
            assert engine_of(answer) == "0001"
            assert json.loads(answer[2])["authorization"] is None
        assert "key-0123456789" not in (folder(site) / "haproxy.cfg").read_text()


def test_tls_by_config(tmp_path: Path) -> None:
    pem = tmp_path / "it's a certificate.pem"
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *name]
    subprocess.run([*argv, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    pem.write_text(certificate.read_text() + key.read_text())
    pem.chmod(0o600)
    settings = proxy_settings({"kind": "haproxy", "port": 1, "tls_file": str(pem)})
    assert settings is not None
    tls = {"tls_file": settings.tls_file, "tls_digest": settings.tls_digest}
    with SwitchSite(tmp_path / "proxy", **tls) as site:
        site.serve("0001")
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", site.settings.port, context=context, timeout=120)
        connection.request("POST", "/v1/chat/completions", "{}")
        response = connection.getresponse()
        assert engine_of((response.status, {}, response.read().decode())) == "0001"
        connection.close()


def test_one_whose_socket_was_removed_is_replaced(site: SwitchSite) -> None:
    before = site.proxy.status()["pids"]
    (folder(site) / "admin.sock").unlink()
    assert site.serving is not None
    site.proxy.apply(Routing(site.serving))
    assert engine_of(ask(site)) == "0001"
    assert len(site.proxy.status()["pids"]) == 1
    assert site.proxy.status()["pids"] != before


def test_a_process_with_another_versions_file_is_put_in_place_anew(site: SwitchSite) -> None:
    text = (folder(site) / "haproxy.cfg").read_text()
    (folder(site) / "haproxy.cfg").write_text(text.replace(" server b ", " server c "))
    HAProxyProcess(folder(site), ("haproxy",)).reload()
    assert site.serving is not None
    site.proxy.apply(Routing(site.serving))
    assert engine_of(ask(site)) == "0001"
    assert site.proxy.status()["serving"] == [["127.0.0.1", site.serving.port]]
    assert wait_until(lambda: len(site.proxy.status()["pids"]) == 1, 10)


def test_what_haproxy_refuses_is_named_and_the_old_file_stays(site: SwitchSite) -> None:
    before = (folder(site) / "haproxy.cfg").read_text()
    changed = HAProxy(folder(site), replace(site.settings, tls_file="/nowhere.pem"))
    with pytest.raises(ResourceError, match=r"nowhere\.pem") as caught:
        changed.apply(Routing(site.serving))
    assert caught.value.exit_code == 4
    assert (folder(site) / "haproxy.cfg").read_text() == before
    assert engine_of(ask(site)) == "0001"


def test_a_hold_is_refused_where_somebody_listens_at_the_waiting_address(
    site: SwitchSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert site.serving is not None
    monkeypatch.setattr("slipway.agent.haproxy.address.REFUSING", site.serving.address)
    with pytest.raises(ResourceError, match="requests that wait for an engine are sent to it"):
        site.proxy.hold(site.serving)
    assert engine_of(ask(site)) == "0001"
    assert REFUSING[1] == 1


def test_the_installed_version_has_what_the_file_uses(tmp_path: Path) -> None:
    HAProxyProcess(tmp_path, ("haproxy",)).require()
    assert find_haproxy(("haproxy",)) is not None


def test_stop_ends_every_process_of_the_folder(site: SwitchSite) -> None:
    assert site.proxy.stop() == 1
    assert site.proxy.status()["running"] is False
    assert site.proxy.stop() == 0
    started = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        ask(site)
    assert time.monotonic() - started < 60


def test_an_engine_on_ipv6(tmp_path: Path) -> None:
    with SwitchSite(tmp_path / "proxy") as site:
        site.proxy.apply(Routing(Upstream("0001", "::1", 9)))
        assert site.proxy.status()["serving"] == [["::1", 9]]
