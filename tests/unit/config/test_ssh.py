"""The section `deploy.ssh`: nothing in it can be read as an option or needs quoting on the other machine."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.ssh import SshConfig
from tests.support.sections import Bound, assert_every_bound_is_listed

LOGIN = {"host": "spark", "user": "me"}
BOUNDS: list[Bound] = [
    ("host", "ssh://spark", "spark"),
    ("user", "-oProxyCommand=x", "me"),
    ("port", 0, 1),
    ("port", 65536, 65535),
    ("root", "a/../b", "/srv/slipway"),
    ("identity_file", "", "~/.ssh/id"),
    ("known_hosts", "", "~/.ssh/known"),
    ("connect_timeout_s", 0, 1),
    ("connect_timeout_s", 601, 600),
    ("keepalive_s", 0, 1),
    ("keepalive_s", 61, 60),
    ("bandwidth_mb_s", 0, 0.5),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_and_holds_inside(bound: Bound) -> None:
    key, outside, inside = bound
    with pytest.raises(ValidationError, match=key):
        SshConfig(**{**LOGIN, key: outside})
    assert getattr(SshConfig(**{**LOGIN, key: inside}), key) == inside


def test_every_bound_of_the_section_is_tried() -> None:
    assert_every_bound_is_listed(SshConfig, BOUNDS)


@pytest.mark.parametrize("root", ["", "/", "a b", "a//b", "./a", "~/a", "-a", "a/-b", "$HOME", "a'b", "a\n", "x" * 201])
def test_a_root_that_would_need_quoting_is_refused(root: str) -> None:
    with pytest.raises(ValidationError, match="root"):
        SshConfig(**LOGIN, root=root)
