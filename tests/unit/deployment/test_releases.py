"""Release directories: names, the pointer, what is complete, swept and pruned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.releases import TMP, Releases
from slipway.errors import CheckpointError, ResourceError, StateError
from slipway.store.store import Store
from tests.support.target import JSON_ANSWER, Ship, make_engine


@pytest.fixture
def releases(params: DeployConfig) -> Releases:
    return Releases(Path(params.root))


def test_only_releases_count_as_releases(releases: Releases, tmp_path: Path) -> None:
    for name in ("0001-0123abcd", "0002-short", "notes", "0003-89abcdef.bak", f"{TMP}0004-0123abcd"):
        (tmp_path / "target" / "releases" / name).mkdir(parents=True)
    (tmp_path / "target" / "releases" / "0009-0123abcd").write_text("a file")
    assert releases.names() == ["0001-0123abcd"]
    assert Releases(tmp_path / "none").names() == []


def test_a_record_of_another_release_is_refused(ship: Ship, releases: Releases) -> None:
    release = ship()
    file = Path(release.path) / "release.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "name": "0042-0123abcd"}))
    with pytest.raises(StateError, match="about 0042-0123abcd"):
        releases.read(release.name)


def test_a_record_without_the_engine_s_digest_is_refused(ship: Ship, releases: Releases) -> None:
    release = ship()
    file = Path(release.path) / "release.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "digests": {"dataset": "d"}}))
    with pytest.raises(StateError, match="digest of the engine"):
        releases.read(release.name)


def test_the_pointer_is_switched_in_one_step_and_removed(ship: Ship, releases: Releases) -> None:
    first, second = ship(), ship(v=2)
    assert releases.current() == second.name
    releases.point(first.name)
    assert releases.current() == first.name
    assert (releases.root / "current").readlink() == Path("releases") / first.name
    releases.point(None)
    assert releases.current() is None
    assert not [file for file in releases.root.iterdir() if file.name.startswith(".current")]


def test_the_next_number_follows_every_number_ever_used(ship: Ship, releases: Releases) -> None:
    release = ship()
    releases.history.record("promote", "0041-0123abcd")  # pruned since
    assert releases.next_name("89abcdef" * 8) == "0042-89abcdef"
    releases.history.record("rollback", release.name)


def test_what_never_served_is_swept_and_a_crashed_copy_too(ship: Ship, store: Store, releases: Releases) -> None:
    release = ship()
    engine = make_engine(store, {"answer": JSON_ANSWER, "v": 2})
    releases.stage("0007-0123abcd", engine, {"card.md": "c"})
    (releases.dir(f"{TMP}0008-0123abcd") / "engine").mkdir(parents=True)
    releases.sweep()
    assert releases.names() == [release.name]
    assert [p.name for p in (releases.root / "releases").iterdir()] == [release.name]


def test_changed_bytes_are_found_before_they_serve(ship: Ship, releases: Releases) -> None:
    release = ship()
    releases.check(release.name)
    model = Path(release.path) / "engine" / "model.gguf"
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=r"model\.gguf has"):
        releases.check(release.name)


@pytest.mark.parametrize("place", ["releases", "lock"])
def test_a_place_that_is_taken_by_something_else_is_named(releases: Releases, place: str) -> None:
    releases.root.mkdir()
    if place == "lock":
        (releases.root / place).mkdir()
    else:
        (releases.root / place).write_text("a file")
    with pytest.raises(ResourceError, match=place), releases.lock("test", 0.0):
        raise AssertionError("locked")


def test_a_root_behind_a_symlink_is_the_same_target(ship: Ship, params: DeployConfig, tmp_path: Path) -> None:
    release = ship()
    (tmp_path / "link").symlink_to("target")
    assert Releases(tmp_path / "link").current() == release.name
    assert Releases(tmp_path / "link").read(release.name) == Releases(Path(params.root)).read(release.name)
