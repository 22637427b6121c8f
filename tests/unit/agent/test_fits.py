"""The comparison that all answers to `does it fit` end in."""

from __future__ import annotations

from slipway.agent.fits import fits
from slipway.agent.room import Room, choose_way
from slipway.agent.start_plan import parse_start
from slipway.planning.fit import fit


def test_what_is_exactly_there_fits_for_plan_and_agent_alike() -> None:
    plan = parse_start({"plan": {"argv": ["serve"], "memory": {"weights": 20 * 10**9}}}, "start")
    for free, answer in ((28 * 10**9, True), (28 * 10**9 - 10**6, False)):
        assert fits(20e9, free - 8e9) is answer
        assert fit(20e9, free - 8e9).fits is answer
        assert (choose_way(plan, Room(free, "memory"), 8)[0] == "beside") is answer
