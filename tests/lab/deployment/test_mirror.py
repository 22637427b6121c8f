"""The mirror behind a real HAProxy, with clients: it costs no request, and where it dies the champion is asked
directly. A share of requests for a candidate that dies costs none either."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from slipway.agent.canary.mirror_process import MirrorConfig, MirrorProcess
from slipway.agent.haproxy.config import Routing, Upstream
from tests.support.switch_load import Answer, SwitchLoad
from tests.support.switch_site import SwitchSite


def mirrored(site: SwitchSite, mirror: MirrorProcess, candidate: Upstream | None) -> None:
    """From now on the champion's requests go through the mirror."""
    champion = site.serving
    assert champion is not None
    address = mirror.start(MirrorConfig(champion.address, candidate.address if candidate else None, timeout_s=20))
    site.proxy.apply(Routing(champion, mirror=address))


def sent_after(load: SwitchLoad, moment: float) -> list[Answer]:
    return [answer for answer in load.answers if answer.sent > moment]


def test_turning_it_on_and_off_under_load_fails_nobody(haproxy: None, tmp_path: Path) -> None:
    with SwitchSite(tmp_path / "proxy") as site:
        mirror = MirrorProcess(tmp_path / "mirror")
        try:
            site.serve("0001")
            candidate = site.start("0002")
            with SwitchLoad(site.settings.host, site.settings.port, events=15) as load:
                load.wait_for(30)
                mirrored(site, mirror, candidate)
                load.wait_for(60)
                status = mirror.status()
                site.proxy.apply(Routing(site.serving))
                last = mirror.stop(wait_s=60)
                load.wait_for(30)
            report = load.report(site.pointer)
        finally:
            mirror.stop()
    assert report["failed"] == {} and report["strays"] == []
    assert set(report["engines"]) == {"0001"}
    assert status is not None and status["requests"] > 20 and status["mirrored"] > 0
    assert last is not None and last["candidate_failed"] == 0


def test_a_candidate_that_dies_is_noted_and_no_client_sees_it(haproxy: None, tmp_path: Path) -> None:
    with SwitchSite(tmp_path / "proxy") as site:
        mirror = MirrorProcess(tmp_path / "mirror")
        try:
            site.serve("0001")
            candidate = site.start("0002")
            with SwitchLoad(site.settings.host, site.settings.port, streams=4, events=5) as load:
                mirrored(site, mirror, candidate)
                load.wait_for(20)
                site.stop(candidate)
                load.wait_for(40)
                status = mirror.status()
            report = load.report(site.pointer)
        finally:
            mirror.stop()
    assert report["failed"] == {} and set(report["engines"]) == {"0001"}
    assert status is not None and status["candidate_failed"] > 0 and status["candidate_reason"]


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP])
def test_where_the_mirror_dies_requests_go_to_the_champion_directly(haproxy: None, tmp_path: Path, kind: int) -> None:
    """What is in it at that moment may be lost with it, what comes after is not; one that hangs accepts until its check
    fails, and what it took then waits until somebody ends it."""
    with SwitchSite(tmp_path / "proxy") as site:
        mirror = MirrorProcess(tmp_path / "mirror")
        try:
            site.serve("0001")
            mirrored(site, mirror, None)
            with SwitchLoad(site.settings.host, site.settings.port, streams=2, events=5) as load:
                load.wait_for(20)
                status = mirror.status()
                assert status is not None and status["requests"] > 0
                os.kill(status["pid"], kind)
                if kind == signal.SIGSTOP:
                    while site.proxy.status()["mirrored"]:
                        time.sleep(0.05)
                moment = time.monotonic()
                os.kill(status["pid"], signal.SIGKILL)
                load.wait_for(40)
            answers = sent_after(load, moment)
        finally:
            mirror.stop()
    assert len(answers) > 20
    assert [answer.fault for answer in answers if answer.fault] == []


def test_a_candidate_with_a_share_of_requests_dies_and_nothing_that_comes_after_fails(
    haproxy: None, tmp_path: Path
) -> None:
    with SwitchSite(tmp_path / "proxy") as site:
        site.serve("0001")
        candidate = site.start("0002")
        site.pointer.set("0001", "0002")
        site.proxy.apply(Routing(site.serving, candidate, share=30))
        with SwitchLoad(site.settings.host, site.settings.port, streams=0) as load:
            load.wait_for(100)
            site.stop(candidate)
            moment = time.monotonic()
            load.wait_for(150)
        engines = load.report(site.pointer)["engines"]
        answers = sent_after(load, moment)
    assert 0.1 < engines["0002"] / (engines["0001"] + engines["0002"]) < 0.4
    assert len(answers) > 100 and [answer.fault for answer in answers if answer.fault] == []
