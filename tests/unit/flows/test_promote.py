"""The command line that `slipway promote` becomes."""

from __future__ import annotations

import pytest

from flows.promote import command_line


@pytest.mark.parametrize(
    "words",
    [
        ["promote", "3f9c01", "--conf", "conf", "--set", "a=1", "--approve", "looked at"],
        ["promote", "--conf", "conf", "--set", "a=1", "3f9c01", "--approve", "looked at"],
        ["promote", "--conf", "conf", "--set", "a=1", "--approve", "looked at", "3f9c01"],
    ],
)
def test_the_verdict_may_stand_anywhere(words: list[str]) -> None:
    given = command_line().parse_intermixed_args(words)
    assert (given.action, given.verdict) == ("promote", "3f9c01")
    assert (given.overrides, given.approve) == (["a=1"], "looked at")


def test_without_one_it_is_the_newest() -> None:
    assert command_line().parse_intermixed_args(["promote", "--conf", "conf"]).verdict is None
