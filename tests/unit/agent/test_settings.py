"""Settings of a target: checked before they are kept, read again by a boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.paths import TargetPaths
from slipway.agent.settings import FILE, Settings, parse_settings, read_settings, write_settings
from slipway.errors import ConfigError, SlipwayError, StateError


def test_what_was_given_last_is_read_again(tmp_path: Path) -> None:
    paths = TargetPaths(tmp_path)
    assert read_settings(paths) == Settings()
    given = {"host": "0.0.0.0", "ports": [1, 2], "start_timeout_s": 3, "way": "held", "runtime": "podman"}
    assert write_settings(paths, given) == read_settings(paths)
    now = read_settings(paths)
    assert (now.host, now.ports, now.start_timeout_s, now.way, now.runtime) == (
        "0.0.0.0",
        (1, 2),
        3.0,
        "held",
        "podman",
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ports", [1]), ("ports", "8"), ("ports", [0, 5]), ("ports", [True, 5]), ("ports", [1, 65536]), ("host", 3),
        ("start_timeout_s", "x"), ("way", "sideways"), ("runtime", "rm"), ("proxy", []), ("keep_releases", 2.5),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named_and_changes_nothing(tmp_path: Path, key: str, value: object) -> None:
    paths = TargetPaths(tmp_path)
    write_settings(paths, {"host": "::1"})
    with pytest.raises(SlipwayError, match=key):
        write_settings(paths, {key: value})
    assert read_settings(paths).host == "::1"


def test_a_key_of_another_version_is_named() -> None:
    with pytest.raises(ConfigError, match="key colour; expected keys among host, ports"):
        parse_settings({"colour": "red"}, "settings")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("[")
    with pytest.raises(StateError, match=r"target\.json"):
        read_settings(TargetPaths(tmp_path))


def test_the_serving_and_the_previous_release_are_always_on_disk() -> None:
    assert parse_settings({"keep_releases": 0}, "settings").keep_releases == 2
