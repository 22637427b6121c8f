"""Section `remote`: an address, a folder and a Python that ssh and a shell take as they are."""

from __future__ import annotations

import pytest

from slipway.config.remote import RemoteConfig

REST = {"folder": "/home/user/slipway", "python": "/usr/bin/python3"}


@pytest.mark.parametrize("host", ["ssh://spark", "ssh://me@spark", "ssh://me@spark:2222", "ssh://me@[fd00::2]:2222"])
def test_addresses_of_ssh_are_taken(host: str) -> None:
    assert RemoteConfig(host=host, **REST).host == host


@pytest.mark.parametrize("host", ["spark", "http://spark", "ssh://a:b@spark", "ssh://spark/x", "ssh://-oProxy@spark"])
def test_an_address_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="host"):
        RemoteConfig(host=host, **REST)


@pytest.mark.parametrize("folder", ["slipway", "~/slipway", "/home/me/my models", "/home/$USER/x", "/x"])
def test_a_folder_that_a_shell_reads_otherwise_is_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="absolute path of letters"):
        RemoteConfig(host="ssh://spark", folder=folder, python="/usr/bin/python3")


def test_a_host_needs_folder_and_python() -> None:
    assert RemoteConfig().host is None
    with pytest.raises(ValueError, match=r"remote.folder and remote.python"):
        RemoteConfig(host="ssh://me@spark")
