from __future__ import annotations

import base64
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.errors import ResourceError
from slipway.ops.credentials import Credentials, credentials_for, ensure_credentials, listeners, read_credentials
from slipway.system.ports import any_port
from tests.support.stranger import NOBODY, nobody_runs

ROOT = Path(__file__).resolve().parents[3]


def test_the_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        first = ensure_credentials(tmp_path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600
    assert ensure_credentials(tmp_path) == first == read_credentials(tmp_path)
    assert len(first.password) >= 43  # 32 random bytes in base64
    assert [f.name for f in tmp_path.iterdir()] == ["credentials.json"]


def test_it_has_its_mode_from_the_first_byte(tmp_path: Path) -> None:
    """Every file descriptor of the creation is traced: none is opened for writing with another mode."""
    trace = """
import os, sys
from pathlib import Path
modes = []
from slipway.ops import credentials
real = os.open
def traced(path, flags, mode=0o777, **more):
    modes.append(oct(mode)) if "credentials" in os.fspath(path) else None
    return real(path, flags, mode, **more)
os.open = traced
os.umask(0)
credentials.ensure_credentials(Path(sys.argv[1]))
print(modes)
"""
    done = subprocess.run([sys.executable, "-c", trace, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['0o600']"


def test_processes_that_create_it_together_agree(tmp_path: Path) -> None:
    pairs: list[Credentials] = []
    threads = [threading.Thread(target=lambda: pairs.append(ensure_credentials(tmp_path))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pairs) == 16
    assert len(set(pairs)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_have_read_is_refused(tmp_path: Path, mode: int) -> None:
    ensure_credentials(tmp_path)
    (tmp_path / "credentials.json").chmod(mode)
    with pytest.raises(ResourceError, match=rf"credentials: .*mode {mode:o}.*make up"):
        ensure_credentials(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"user": 1, "password": "x"}', b'{"user": "a:b", "password": "x"}'],
)
def test_a_damaged_file_is_one_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "credentials.json"
    file.touch(mode=0o600)
    file.write_bytes(content)
    with pytest.raises(ResourceError, match=f"credentials: {file}"):
        read_credentials(tmp_path)


def test_without_a_file_make_up_is_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"credentials: .*is missing.*make up"):
        read_credentials(tmp_path)


def test_no_text_of_the_object_shows_the_password(tmp_path: Path) -> None:
    pair = ensure_credentials(tmp_path)
    assert pair.password not in f"{pair} {pair!r} {[pair]}"
    assert base64.b64decode(pair.authorization.removeprefix("Basic ")).decode() == f"slipway:{pair.password}"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/api",
        "http://127.0.0.2:{port}/api",
        "http://example.com:{port}",
        "http://127.0.0.1",
        "http://127.0.0.1.example.com:{port}",
        "http://127.0.0.1:{port}@example.com/",
        "sqlite:///x",
        "",
        "file:///tmp",
    ],
)
def test_no_other_server_gets_them(tmp_path: Path, url: str) -> None:
    port = any_port()
    ensure_credentials(tmp_path)
    assert credentials_for(f"http://localhost:{port}/api", {port}, tmp_path)
    assert credentials_for(url.format(port=port), {port}, tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_stranger_on_our_port_does_not_get_them(tmp_path: Path) -> None:
    """While the servers are down, another user may listen on their port and wait for a password."""
    pair = ensure_credentials(tmp_path)

    def listen(tell: Callable[[int], None]) -> None:
        server = socket.create_server(("127.0.0.1", 0))
        tell(server.getsockname()[1])
        threading.Event().wait()

    with nobody_runs(listen) as port:
        assert listeners(port) == {NOBODY}
        assert credentials_for(f"http://127.0.0.1:{port}/api", {port}, tmp_path) is None
    assert credentials_for(f"http://127.0.0.1:{port}/api", {port}, tmp_path) == pair


def test_the_document_is_plain_json(tmp_path: Path) -> None:
    pair = ensure_credentials(tmp_path)
    assert json.loads((tmp_path / "credentials.json").read_text()) == {"user": pair.user, "password": pair.password}
