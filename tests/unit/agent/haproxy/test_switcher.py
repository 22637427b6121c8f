"""Engines as HAProxy is told of them; its part in a transaction is in the lab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from slipway.agent.haproxy.config import ProxySettings, Upstream
from slipway.agent.haproxy.switcher import HAProxySwitcher, upstream_of, with_key
from slipway.errors import ConfigError, StateError


@dataclass(frozen=True)
class Engine:
    """Where an engine listens."""

    host: str
    port: int = 8091
    log: str = "/targets/one/releases/0007-3fa9c1d2/engine.log"
    key_file: str = ""
    ca_file: str = ""


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.7", "10.0.0.7")],
)
def test_an_engine_is_known_by_an_address(host: str, address: str) -> None:
    assert upstream_of(Engine(host)) == Upstream("0007-3fa9c1d2", address, 8091)


def test_a_name_is_looked_up_here() -> None:
    assert upstream_of(Engine("localhost")).host in ("127.0.0.1", "::1")
    with pytest.raises(ConfigError, match=r"no\.such\.host\.invalid"):
        upstream_of(Engine("no.such.host.invalid"))


def test_an_engine_that_gets_requests_is_known_with_its_key(tmp_path: Path) -> None:
    file = tmp_path / "7.0"
    file.write_text("ab" * 32)
    file.chmod(0o600)
    engine = Engine("127.0.0.1", key_file=str(file))
    assert with_key(engine).key == "ab" * 32
    file.unlink()
    with pytest.raises(StateError, match="key of an engine"):
        with_key(engine)
    assert upstream_of(engine).address == ("127.0.0.1", 8091)  # it can be drained


def test_an_engine_whose_certificate_cannot_be_checked_gets_no_requests(tmp_path: Path) -> None:
    """Its TLS was taken out of the config while it serves."""
    switcher = HAProxySwitcher(tmp_path / "proxy", ProxySettings("127.0.0.1", 8090, engine_keys=True))
    with pytest.raises(ConfigError, match=r"deploy\.slurm\.tls\.ca: none.*/ca\.pem"):
        switcher.configure(Engine("127.0.0.1", ca_file="/ca.pem"))
    assert not (tmp_path / "proxy").exists()


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (ProxySettings("127.0.0.1", 8090), "http://127.0.0.1:8090/v1"),
        (ProxySettings("::1", 8090, tls_file="/x.pem"), "https://[::1]:8090/v1"),
    ],
)
def test_clients_have_one_address_whatever_runs(tmp_path: Path, settings: ProxySettings, url: str) -> None:
    described = HAProxySwitcher(tmp_path / "proxy", settings).describe()
    assert (described["kind"], described["address"], described["running"]) == ("haproxy", url, False)
    assert "does not run" in described["note"]


def test_nothing_is_started_where_nothing_serves(tmp_path: Path) -> None:
    switcher = HAProxySwitcher(tmp_path / "proxy", ProxySettings("127.0.0.1", 8090))
    switcher.restore(None)
    assert not (tmp_path / "proxy").exists()
    switcher.stop()
    assert switcher.drain(None) == {"seconds": 0, "cut": 0}
