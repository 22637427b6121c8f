"""Where a run came from."""

from __future__ import annotations

import pytest

from tasks.provenance import command_line, environment_digest, git_commit


def test_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_COMMAND", "slipway run tracking.uri=http://u:p@h")
    assert command_line() == "slipway run tracking.uri=http://***@h"
    assert len(git_commit().split("+")[0]) in (40, len("unknown"))
    assert environment_digest() == environment_digest()
    assert len(environment_digest()) == 64
