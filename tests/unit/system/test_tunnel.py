"""ssh's command line, and what is said when it does not come about; tests/lab opens one to a real sshd."""

from __future__ import annotations

import pytest

from slipway.errors import ResourceError
from slipway.system.ports import any_port
from slipway.system.tunnel import command, open_tunnel


def test_the_port_of_the_other_machines_loopback_is_forwarded_to_ours() -> None:
    argv = command("ssh://me@spark:2222", 5001, 8000)
    assert argv[argv.index("-L") + 1] == "127.0.0.1:5001:127.0.0.1:8000"
    assert argv[argv.index("-p") + 1] == "2222"
    assert argv[-2:] == ["--", "me@spark"]
    assert "BatchMode=yes" in argv
    assert "-p" not in command("ssh://spark", 1, 2)
    assert command("ssh://spark", 1, 2)[-1] == "spark"


def test_a_machine_that_does_not_answer_is_named_with_sshs_own_words() -> None:
    with pytest.raises(ResourceError, match=r"tunnel to port 8000 of ssh://127.0.0.1:\d+: .*refused"):
        open_tunnel(f"ssh://127.0.0.1:{any_port()}", 8000)
