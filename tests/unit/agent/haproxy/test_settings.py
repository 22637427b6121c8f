"""The proxy's settings on a target: what would do harm there is refused by name."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.haproxy.settings import key_digests, proxy_settings
from slipway.errors import ConfigError, ResourceError, SlipwayError, StateError

KEY = "sk-0123456789abcdef"
HERE = {"kind": "auto", "port": 8090, "command": [sys.executable]}


def private(file: Path, text: str) -> str:
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


def test_without_haproxy_auto_is_none_and_haproxy_is_an_error() -> None:
    absent = {"port": 8090, "command": ["no-such-haproxy"]}
    assert proxy_settings({**absent, "kind": "auto"}) is None
    assert proxy_settings({**HERE, "kind": "none"}) is None
    assert proxy_settings({}) is None
    with pytest.raises(ResourceError, match=r"no-such-haproxy.*apt-get install haproxy"):
        proxy_settings({**absent, "kind": "haproxy"})


def test_keys_leave_only_their_digests(tmp_path: Path) -> None:
    file = private(tmp_path / "keys", f"# of the team\n\n  {KEY}\n")
    settings = proxy_settings({**HERE, "host": "0.0.0.0", "key_file": file})
    assert settings is not None
    assert settings.key_digests == (hashlib.sha256(f"Bearer {KEY}".encode()).hexdigest(),)
    assert KEY not in repr(settings)


@pytest.mark.parametrize("text", ["", "# none\n", "short\n", f"{KEY} {KEY}\n", "schlüssel-schlüssel\n"])
def test_a_key_file_without_sound_keys_is_refused_and_no_key_is_shown(tmp_path: Path, text: str) -> None:
    file = Path(private(tmp_path / "keys", text))
    with pytest.raises(ConfigError, match=r"deploy\.proxy\.key_file .*keys") as caught:
        key_digests(file)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", ["key_file", "tls_file"])
def test_a_file_that_others_may_read_or_that_is_absent_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    with pytest.raises(ConfigError, match=f"deploy.proxy.{name}: .*No such file"):
        proxy_settings({**HERE, name: str(file)})
    file.write_text(f"{KEY}\n")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 0640.*chmod 600"):
        proxy_settings({**HERE, name: str(file)})


def test_a_path_that_would_break_the_config_file_is_refused(tmp_path: Path) -> None:
    file = private(tmp_path / "pem\n    bind :80", "x")
    with pytest.raises(ConfigError, match="printable"):
        proxy_settings({**HERE, "tls_file": file})


def test_a_new_certificate_changes_the_digest(tmp_path: Path) -> None:
    file = private(tmp_path / "pem", "one")
    first = proxy_settings({**HERE, "tls_file": file})
    private(tmp_path / "pem", "two")
    second = proxy_settings({**HERE, "tls_file": file})
    assert first is not None
    assert second is not None
    assert first.tls_file == second.tls_file == file
    assert first.tls_digest != second.tls_digest


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"host": "0.0.0.0"}, ConfigError),
        ({"host": "example.org"}, ConfigError),
        ({"host": "127.0.0.1\n    bind :80"}, ConfigError),
        ({"kind": "nginx"}, StateError),
        ({"port": "8090"}, StateError),
        ({"command": "haproxy"}, StateError),
        ({"drain_limit_s": -1}, StateError),
        ({"port": 0}, ConfigError),
        ({"port": 65536}, ConfigError),
        ({"retry_after_s": -5}, ConfigError),
        ({"tls_file": "/a\0b"}, ConfigError),
    ],
)
def test_what_is_not_understood_is_refused_by_name(document: dict[str, Any], error: type[SlipwayError]) -> None:
    with pytest.raises(error, match=f"{next(iter(document))}") as caught:
        proxy_settings({**HERE, **document})
    assert caught.value.exit_code == 2
