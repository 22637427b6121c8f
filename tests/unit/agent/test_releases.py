"""Release directories: names, the pointer, what is complete, swept and pruned."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from slipway.agent import releases as module
from slipway.agent.agent import Agent
from slipway.agent.paths import TargetPaths
from slipway.agent.releases import TMP, Releases, document_name, link_engine
from slipway.errors import CheckpointError, ConfigError, StateError
from slipway.store.store import Store
from tests.support.agent import engine, promote, releases


def test_only_releases_count_as_releases(tmp_path: Path) -> None:
    for name in ("0001-0123abcd", "0002-short", "notes", "0003-89abcdef.bak", f"{TMP}0004-0123abcd"):
        (tmp_path / "target" / "releases" / name).mkdir(parents=True)
    (tmp_path / "target" / "releases" / "0009-0123abcd").write_text("a file")
    assert Releases(TargetPaths(tmp_path / "target")).names() == ["0001-0123abcd"]
    assert Releases(TargetPaths(tmp_path / "none")).names() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "0042-0123abcd"}, "about 0042-0123abcd"),
        ({"digests": {"dataset": "d"}}, "a digest of the engine"),
        ({"model": None}, "model"),
        ({"runs": {"a": 1}}, "runs"),
    ],
)
def test_a_record_that_is_not_its_own_is_refused(
    agent: Agent, store: Store, change: dict[str, object], message: str
) -> None:
    release = promote(agent, engine(store))
    file = Path(release["path"]) / "release.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(StateError, match=message):
        releases(agent).read(release["name"])


def test_what_an_orchestrator_of_a_later_version_wrote_is_kept(agent: Agent, store: Store) -> None:
    release = promote(agent, engine(store))
    file = Path(release["path"]) / "release.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "asked": {"by": "person"}}))
    assert releases(agent).read(release["name"])["asked"] == {"by": "person"}


def test_the_pointer_is_switched_in_one_step_and_removed(agent: Agent, store: Store) -> None:
    first, second = (promote(agent, engine(store, v))["name"] for v in (1, 2))
    on_disk = releases(agent)
    assert on_disk.current() == second
    on_disk.point(first)
    assert on_disk.current() == first
    assert agent.paths.pointer.readlink() == Path("releases") / first
    on_disk.point(None)
    assert on_disk.current() is None
    assert not [file for file in agent.paths.root.iterdir() if file.name.startswith(".current")]


def test_the_next_number_follows_every_number_ever_used(agent: Agent, store: Store) -> None:
    promote(agent, engine(store))
    on_disk = releases(agent)
    on_disk.history.record("promote", "0041-0123abcd")  # pruned since
    assert on_disk.next_name("89abcdef" * 8) == "0042-89abcdef"


def test_what_never_served_is_swept_and_a_crashed_copy_too(agent: Agent, store: Store) -> None:
    release, other = promote(agent, engine(store)), engine(store, 2)
    on_disk = releases(agent)
    on_disk.stage("0007-0123abcd", lambda folder: link_engine(other.path, folder / "engine"), {"card.md": "c"})
    (agent.paths.releases / f"{TMP}0008-0123abcd" / "engine").mkdir(parents=True)
    on_disk.sweep()
    assert [p.name for p in agent.paths.releases.iterdir()] == [release["name"]]


def test_changed_bytes_are_noticed_before_they_serve(agent: Agent, store: Store) -> None:
    release = promote(agent, engine(store))
    on_disk = releases(agent)
    on_disk.check(release["name"])
    model = Path(release["path"]) / "engine" / "model.gguf"
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=r"model\.gguf has"):
        on_disk.check(release["name"])


def test_files_are_linked_and_copied_where_links_cannot_be_made(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = engine(store).path

    def other_device(_source: Path, _to: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    link_engine(source, tmp_path / "linked")
    monkeypatch.setattr(module.os, "link", other_device)
    link_engine(source, tmp_path / "copied")
    for folder, same in (("linked", True), ("copied", False)):
        copy = tmp_path / folder / "server"
        assert copy.samefile(source / "server") is same
        assert os.access(copy, os.X_OK)


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "engine", ""])
def test_a_document_s_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(ConfigError, match="plain file name"):
        document_name(name)


def test_of_old_releases_the_serving_the_previous_and_the_held_stay(agent: Agent, store: Store) -> None:
    names = [promote(agent, engine(store, v), settings_keep(agent))["name"] for v in range(4)]
    on_disk = releases(agent)
    assert on_disk.prune(2, frozenset(names[:1]), dry_run=True) == [names[1]]
    assert on_disk.names() == names
    assert on_disk.prune(2, frozenset(names[:1])) == [names[1]]
    assert on_disk.names() == [names[0], *names[2:]]


def settings_keep(agent: Agent):
    """Keep every release for as long as the promotions last."""
    file = agent.paths.root / "target.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "keep_releases": 9}))
    return lambda _: None
