"""ssh's command line holds every rule of a target, and ssh's words become one error each."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.ssh import SshConfig
from slipway.deployment.ssh.options import check_files, login, login_error, options
from slipway.errors import ConfigError, ResourceError, SlipwayError

PARAMS = SshConfig(host="spark", user="me", identity_file="~/k", known_hosts="/x/known hosts%h", keepalive_s=7)
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
The fingerprint for the ED25519 key sent by the remote host is
SHA256:6Pa3MLqPT4xmj9mmkhXHtWcr8s0DuOStD7Mho5EdSDk.
Host key verification failed."""


def test_no_agent_no_password_no_other_key_and_no_other_host_key() -> None:
    argv = options(PARAMS)
    assert argv[:2] == ["-F", "none"]
    expected = {
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        "ForwardAgent=no",
        "ServerAliveInterval=7",
        f'IdentityFile="{Path.home()}/k"',
        'UserKnownHostsFile="/x/known hosts%%h"',
    }
    assert expected <= set(argv)
    assert login(PARAMS) == "me@spark"


@pytest.mark.parametrize("path", ['/a"b', "/a\\b", "/a${HOME}", "/a\nb"])
def test_a_path_that_sshs_parser_would_break_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"deploy.ssh.known_hosts"):
        options(PARAMS.model_copy(update={"known_hosts": path}))


def test_without_key_or_pinned_host_keys_the_target_was_not_set_up(tmp_path: Path) -> None:
    key, known = tmp_path / "k", tmp_path / "known"
    params = PARAMS.model_copy(update={"identity_file": str(key), "known_hosts": str(known)})
    with pytest.raises(ConfigError, match=r"identity_file.*slipway target set-up"):
        check_files(params)
    key.touch()
    with pytest.raises(ConfigError, match=r"known_hosts.*slipway target set-up"):
        check_files(params)
    known.touch()
    check_files(params)


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        (CHANGED, ConfigError, "changed: now SHA256:6Pa3MLqPT4xmj9mmkhXHtWcr8s0DuOStD7Mho5EdSDk;"),
        ("No ED25519 host key is known for spark\nHost key verification failed.", ConfigError, "not pinned"),
        ("me@spark: Permission denied (publickey).", ConfigError, "login me@spark at port 22: me@spark: Permission"),
        ('Load key "/k": error in libcrypto\r\nx', ConfigError, "identity_file"),
        ("ssh: connect to host spark port 22: No route to host", ResourceError, "target spark:22: ssh: connect"),
        ("Timeout, server spark not responding.", ResourceError, "not responding"),
        ("", ResourceError, "ssh ended: no word of a reason"),
        ("x" * 100_000, ResourceError, "characters left out"),
    ],
)
def test_sshs_words_are_one_error(message: str, kind: type[SlipwayError], words: str) -> None:
    error = login_error(PARAMS, message)
    assert type(error) is kind
    assert words in str(error)
    assert len(str(error)) < 20_000
