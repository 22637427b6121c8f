"""The key of an engine: read whole by its owner, or refused without being shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.engine_key import EngineAccess, access_of, read_key
from slipway.errors import StateError

KEY = "0123456789abcdef" * 4


def written(folder: Path, text: str, mode: int = 0o600) -> str:
    """A key's file."""
    file = folder / "7.0"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def test_a_key_is_read_and_no_file_is_no_key(tmp_path: Path) -> None:
    assert read_key(written(tmp_path, KEY + "\n")) == KEY
    assert read_key("") == ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(StateError, match=f"mode {mode:04o}.*only its owner") as caught:
        read_key(written(tmp_path, KEY, mode))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("text", ["", "short", KEY + "\r\nX-Other: 1", KEY.replace("0", "\x00")])
def test_what_is_no_key_is_refused_unshown(tmp_path: Path, text: str) -> None:
    """It is to go into a header and a map file: nothing but its digits may be in it."""
    with pytest.raises(StateError, match="a key of hexadecimal digits") as caught:
        read_key(written(tmp_path, text))
    assert "X-Other" not in str(caught.value)


def test_an_endpoint_says_how_its_engine_is_asked(tmp_path: Path) -> None:
    access = access_of({"key_file": written(tmp_path, KEY), "port": 1})
    assert access.headers() == {"Authorization": f"Bearer {KEY}"}
    assert access.context() is None
    assert KEY not in repr(access)
    assert access_of({"url": "http://127.0.0.1:1/v1"}) == EngineAccess()
    (tmp_path / "ca.pem").write_text("none")
    for file in ("ca.pem", "gone.pem"):
        with pytest.raises(StateError, match=f"TLS of an engine: .*{file}.*certificates, PEM"):
            EngineAccess(KEY, str(tmp_path / file)).context()


def test_a_key_that_is_gone_is_named_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"gone.*`slipway stop TARGET`, then `slipway start TARGET`"):
        read_key(str(tmp_path / "gone"))
