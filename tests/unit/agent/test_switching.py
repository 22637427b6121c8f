"""Without a proxy nothing stands before the engines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.agent.engines import Endpoint
from slipway.agent.haproxy.config import ProxySettings
from slipway.agent.paths import TargetPaths
from slipway.agent.settings import Settings
from slipway.agent.switching import Portless, _with_engines, switcher_for
from slipway.errors import ConfigError, ResourceError


def test_a_target_without_a_proxy_says_that_its_port_changes(tmp_path: Path) -> None:
    switcher = switcher_for(TargetPaths(tmp_path), Settings())
    assert isinstance(switcher, Portless)
    assert switcher.describe()["address"] is None
    assert "the port changes" in switcher.describe()["note"]
    new = Endpoint("h", 1, "m", "log")
    switcher.configure(new)
    switcher.switch(None, new)
    assert switcher.hold(new) == {"seconds": 0.0, "cut": None, "limit_s": None}
    with pytest.raises(ResourceError, match="a proxy that divides them"):
        switcher.share(new, new, 10)
    switcher.restore(new)
    switcher.stop()
    assert switcher.drain(new) == {"seconds": 0.0, "cut": None}
    assert list(tmp_path.iterdir()) == []


def test_settings_that_do_not_hold_here_are_an_error_of_changes_only(tmp_path: Path) -> None:
    """`status` and `stop` go on; `stop` is what a person has then."""
    proxy = {"kind": "haproxy", "port": 8090, "command": [sys.executable], "key_file": str(tmp_path / "gone")}
    switcher = switcher_for(TargetPaths(tmp_path), Settings(proxy=proxy))
    described = switcher.describe()
    assert described["address"] is None
    assert "deploy.proxy.key_file" in described["note"]
    new = Endpoint("h", 1, "m", "log")
    changes: list[Callable[[], object]] = [
        lambda: switcher.configure(new),
        lambda: switcher.switch(None, new),
        lambda: switcher.drain(new),
        lambda: switcher.hold(new),
        lambda: switcher.share(new, new, 5),
        lambda: switcher.restore(new),
    ]
    for change in changes:
        with pytest.raises(ConfigError, match="gone"):
            change()
    switcher.stop()


def test_engines_of_slurm_have_keys_and_a_renewed_certificate_authority_is_a_changed_setting(tmp_path: Path) -> None:
    ca, proxy = tmp_path / "ca.pem", ProxySettings("127.0.0.1", 8090)
    assert _with_engines(proxy, Settings(slurm={"gpus": 1})) == ProxySettings("127.0.0.1", 8090, engine_keys=True)
    digests = []
    for text in ("one", "another"):
        ca.write_text(text)
        changed = _with_engines(proxy, Settings(slurm={"tls": {"ca": str(ca)}}))
        assert (changed.engine_keys, changed.engine_ca) == (True, str(ca))
        digests.append(changed.tls_digest)
    assert len({*digests, ""}) == 3
