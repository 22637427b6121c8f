"""Engines change behind one address under 20 long streams and steady short requests: none fails, none is cut, every
answer is of the engine that the pointer names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.switch_load import SwitchLoad
from tests.support.switch_site import SwitchSite

NAMES = ("0001", "0002", "0003", "0002", "0004")  # promote, promote, roll back, promote (report 12)


@pytest.mark.parametrize("way", ["beside", "held"])
def test_four_switches_fail_nobody(haproxy: None, tmp_path: Path, way: str) -> None:
    """Reports 10 and 12: a stream that ends without [DONE] counts as failed, a retired engine gets nothing."""
    with SwitchSite(tmp_path / "proxy") as site:
        site.serve(NAMES[0])
        with SwitchLoad(site.settings.host, site.settings.port, events=15) as load:
            load.wait_for(30)
            for name in NAMES[1:]:
                getattr(site, way)(name)
                load.wait_for(30)
        report, steps = load.report(site.pointer), load.per_step(site.pointer)
    assert report["failed"] == {}
    assert report["strays"] == []
    assert [(name, set(counts)) for name, counts in steps] == [(name, {name}) for name in NAMES]
    assert report["requests"]["stream"] >= 20 * len(NAMES) - 20
    assert set(report["engines"]) == set(NAMES)


def test_the_same_clients_see_a_naive_restart(haproxy: None, tmp_path: Path) -> None:
    """The control: what the tests above count can fail."""
    with SwitchSite(tmp_path / "proxy") as site:
        site.serve("0001")
        with SwitchLoad(site.settings.host, site.settings.port, events=15) as load:
            load.wait_for(30)
            site.naive("0002")
            load.wait_for(30)
        report = load.report(site.pointer)
    assert any(fault.startswith("stream:") for fault in report["failed"])
    assert set(report["engines"]) == {"0001", "0002"}
