from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.errors import ResourceError
from slipway.ops import surroundings
from slipway.ops.surroundings import require_usable_proxies, require_writable
from tests.support.stranger import as_nobody


def test_a_folder_that_can_be_made_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert require_writable("store.root", str(tmp_path / "a/b")) == tmp_path / "a/b"
    assert not (tmp_path / "a").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert require_writable("store.cache", "~/.cache/slipway") == tmp_path / ".cache/slipway"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(ResourceError, match=rf"store.root: .*{tmp_path}/a is no folder.*set store.root"):
        require_writable("store.root", str(tmp_path / "a/b"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_folder_of_another_user_is_named() -> None:
    def refused() -> str:
        try:
            require_writable("store.cache", "/var/lib/slipway")
        except ResourceError as err:
            return str(err)
        return ""

    expected = "store.cache: /var/lib/slipway: /var/lib is not writable; expected a folder that this user can write"
    assert as_nobody(refused).startswith(expected)


def test_a_home_that_nobody_knows_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that runs as a user id without an account, without HOME."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987654321)
    with pytest.raises(ResourceError, match=r"store.cache: ~/.cache/slipway \(.*home directory"):
        require_writable("store.cache", "~/.cache/slipway")


def test_a_socks_proxy_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in ({}, {"HTTP_PROXY": "http://p:1"}, {"ALL_PROXY": ""}, {"OTHER": "socks5://p:1"}):
        require_usable_proxies(environment)
    monkeypatch.setattr(surroundings, "_speaks_socks", lambda: False)
    with pytest.raises(ResourceError, match=r"all_proxy: socks5h://\*\*\*@p:1; expected an HTTP proxy"):
        require_usable_proxies({"all_proxy": "socks5h://me:secret@p:1"})
    monkeypatch.setattr(surroundings, "_speaks_socks", lambda: True)
    require_usable_proxies({"all_proxy": "socks5h://p:1"})
