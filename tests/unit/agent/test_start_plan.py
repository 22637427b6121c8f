"""How a release starts: read by hand, or refused naming the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.start_plan import FILE, PLACEHOLDERS, fill, parse_start, read_start
from slipway.errors import StateError

PLAN: dict[str, Any] = {"argv": ["serve", "{model}"], "alias": "m", "start_s": 60}


def test_a_plan_is_read_with_what_a_bundle_may_leave_out(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"plan": PLAN, "model": "/m"}))
    start = read_start(tmp_path)
    assert (start.argv, start.alias, start.health, start.model, start.image) == (
        ("serve", "{model}"), "m", "/health", "/m", "",
    )  # fmt: skip


def test_an_engine_says_where_it_takes_a_key_or_that_it_knows_none() -> None:
    """A plan of before says nothing: then it is given to whichever engine it is."""
    variables = [parse_start({"plan": {**PLAN, **more}}, "start").key_variables for more in ({}, {"key_variables": []})]
    assert variables == [("LLAMA_API_KEY", "VLLM_API_KEY"), ()]


def test_a_start_may_take_what_the_plan_says_or_three_measured_starts_unless_the_target_says_less() -> None:
    cold, slow = (parse_start({"plan": PLAN, "measured_start_s": s}, "start") for s in (8.0, 160.0))
    assert (cold.limit_s(None), slow.limit_s(None), slow.limit_s(5)) == (60, 480, 5)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"argv": []}, "argv"), ({"argv": "serve"}, "argv"), ({"argv": [1]}, "argv"),
        ({"environment": {"A": 1}}, "environment"),
        ({"files": {"../x": ""}}, r"\.\./x"), ({"files": {"/etc/x": ""}}, "/etc/x"),
        ({"caches": [{"path": "a"}]}, "variable"),
        ({"caches": [{"path": "../a", "variable": "A"}]}, r"\.\./a"), ({"health": "health"}, "health"),
        ({"health": "/a b"}, "health"), ({"start_s": -1}, "start_s"), ({"image": 3}, "image"),
        ({"key_variables": "A"}, "key_variables"), ({"tls_options": ["--one"]}, "tls_options"),
    ],
)  # fmt: skip
def test_a_key_that_does_not_fit_is_named(change: dict[str, Any], key: str) -> None:
    with pytest.raises(StateError, match=f"start: .*{key}|start, caches: .*{key}"):
        parse_start({"plan": {**PLAN, **change}}, "start")


def test_a_release_of_an_earlier_version_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"released by an earlier version.*slipway start"):
        read_start(tmp_path)


def test_every_placeholder_is_filled_and_a_config_file_stands_for_the_rendered_one() -> None:
    values = {name: f"<{name}>" for name in PLACEHOLDERS}
    text = " ".join(f"{{{name}}}" for name in PLACEHOLDERS) + " {bundle}/a.yaml {other}"
    filled = fill(text, values, ["a.yaml"], "/config")
    assert filled == " ".join(values.values()) + " /config/a.yaml {other}"
