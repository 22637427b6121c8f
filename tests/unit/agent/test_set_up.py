"""A set-up of this login in a home of the test's own: each change shown, run again without one, taken back whole."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from slipway.agent import set_up as module
from slipway.agent.bundle.signature import Trust, read_trust
from slipway.agent.set_up import RECORD, places, set_up, undo
from slipway.errors import ConfigError, ResourceError, StateError
from tests.support.bundles import key_pair

ROOT = Path(".slipway-target/spark")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The login's home, of a user that is not root."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=str(home), pw_name="lab"))
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    (tmp_path / "upload").write_text("the file")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "upload")])
    return home


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("key") / "k"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "who; ever", "-f", file], check=True)
    return file.with_suffix(".pub").read_text()


def _document(key: str, **more: object) -> dict[str, object]:
    return {"name": "spark", "key": key, "ports": [8091, 8092], **more}


def _stop(root: Path) -> None:
    """Engines end before their files go."""
    assert (root / "slipway-target").exists() or not (root / "releases").exists()


def _tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_every_change_is_shown_and_the_undoing_leaves_nothing(home: Path, key: str) -> None:
    changes: list[str] = []
    units = {"slipway-spark.service": "ExecStart={python} {root}/slipway-target --root {root} boot\n"}
    made = set_up(ROOT, _document(key, units=units), changes.append)
    root = home / ROOT
    assert made["root"] == str(root)
    (line,) = (home / ".ssh/authorized_keys").read_text().splitlines()
    assert line.startswith(f'restrict,command="{sys.executable} {root}/slipway-target --root {root} forced",')
    assert 'permitopen="127.0.0.1:8091",permitopen="127.0.0.1:8092" ssh-ed25519 ' in line
    assert line.endswith(" slipway-target:spark")
    assert (root / "slipway-target").read_text() == "the file"
    assert (root / "slipway-target").stat().st_mode & 0o777 == 0o700
    assert root.stat().st_mode & 0o777 == (home / ".ssh").stat().st_mode & 0o777 == 0o700
    unit = (home / ".config/systemd/user/slipway-spark.service").read_text()
    assert unit == f"ExecStart={sys.executable} {root}/slipway-target --root {root} boot\n"
    assert [change.split()[0] for change in changes[:4]] == ["made", "wrote", "made", "added"]
    (root / "releases" / "0001-00000000").mkdir(parents=True)
    undo(ROOT, changes.append, _stop)
    assert _tree(home) == []


def test_a_second_set_up_changes_nothing_and_brings_a_newer_file(home: Path, key: str, tmp_path: Path) -> None:
    changes: list[str] = []
    set_up(ROOT, _document(key), changes.append)
    before, changes[:] = _tree(home), []
    set_up(ROOT, _document(key), changes.append)
    assert (changes, _tree(home)) == ([], before)
    (tmp_path / "upload").write_text("newer")
    set_up(ROOT, _document(key, ports=[8091]), changes.append)
    assert [change.split(" ")[:2] for change in changes] == [["replaced", changes[0].split()[1]], ["changed", "our"]]
    assert len((home / ".ssh/authorized_keys").read_text().splitlines()) == 1
    undo(ROOT, changes.append, _stop)
    assert _tree(home) == []


def test_what_was_there_before_stays(home: Path, key: str) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    keys, elsewhere = home / ".ssh/authorized_keys", home / "keys"
    elsewhere.write_text("# mine\nssh-ed25519 AAAA me\n")
    elsewhere.chmod(0o640)
    keys.symlink_to(elsewhere)
    (home / ".config").mkdir()
    set_up(ROOT, _document(key, units={"a.service": "x"}), print)
    assert elsewhere.read_text().startswith("# mine\nssh-ed25519 AAAA me\nrestrict,")
    undo(ROOT, print, _stop)
    assert keys.is_symlink()
    assert elsewhere.read_text() == "# mine\nssh-ed25519 AAAA me\n"
    assert elsewhere.stat().st_mode & 0o777 == 0o640
    assert _tree(home) == [".config", ".ssh", ".ssh/authorized_keys", "keys"]


def test_a_set_up_that_was_killed_half_way_is_taken_back(home: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_authorize", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left", "x")))
    with pytest.raises(ResourceError, match="No space left"):
        set_up(ROOT, _document(key), print)
    undo(ROOT, print, _stop)
    assert _tree(home) == []
    assert undo(ROOT, print, _stop) == {"removed": False}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"key": "ssh-rsa AAAA"}, "ssh-ed25519"),
        ({"key": 'ssh-ed25519 "AAAA'}, "ssh-ed25519"),
        ({"ports": []}, "no ports"),
        ({"units": {"../x.service": ""}}, "unit ../x.service"),
    ],
)
def test_what_does_not_fit_changes_nothing(home: Path, key: str, more: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        set_up(ROOT, {**_document(key), **more}, print)
    assert _tree(home) == []


def test_a_unit_of_somebody_elses_is_not_replaced(home: Path, key: str) -> None:
    unit = home / ".config/systemd/user/a.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("theirs")
    with pytest.raises(ConfigError, match="not ours"):
        set_up(ROOT, _document(key, units={"a.service": "x"}), print)
    undo(ROOT, print, _stop)
    assert unit.read_text() == "theirs"


@pytest.mark.parametrize("root", [".", "..", "/", "a b", "a'b"])
def test_a_root_that_is_no_folder_of_its_own_is_refused(home: Path, root: str) -> None:
    with pytest.raises(ConfigError, match="root of the target"):
        places(Path(root))


def test_a_record_that_names_other_places_removes_nothing(home: Path, key: str) -> None:
    set_up(ROOT, _document(key), print)
    record = home / ROOT / RECORD
    record.write_text(json.dumps({**json.loads(record.read_text()), "made": ["/etc"]}))
    with pytest.raises(StateError, match=r"/etc.*by hand"):
        undo(ROOT, print, _stop)
    shutil.rmtree(home / ROOT)


def test_whose_bundles_are_taken_is_written_by_the_set_up(home: Path, key: str, tmp_path: Path) -> None:
    _, public = key_pair(tmp_path / "signer")
    trust = {"policy": "enforce", "keys": [public]}
    changes: list[str] = []
    set_up(ROOT, _document(key, trust=trust), changes.append)
    assert read_trust(home / ROOT) == Trust("enforce", (public,))
    assert any("trust.json: enforce, signers" in change for change in changes)
    changes.clear()
    set_up(ROOT, _document(key, trust=trust), changes.append)
    set_up(ROOT, _document(key), changes.append)
    assert changes == []
    assert read_trust(home / ROOT).policy == "enforce"
    with pytest.raises(StateError, match="policy: sometimes"):
        set_up(ROOT, _document(key, trust={"policy": "sometimes"}), changes.append)


def test_set_ups_of_one_login_follow_each_other(home: Path, key: str) -> None:
    """Each reads authorized_keys and writes it whole: at once, one line would take the place of another."""
    names = [f"spark-{n}" for n in range(8)]
    together = threading.Barrier(len(names))

    def make(name: str) -> None:
        together.wait()
        set_up(ROOT.with_name(name), _document(key, name=name), lambda _: None)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(make, names))
    lines = (home / ".ssh/authorized_keys").read_text().splitlines()
    assert sorted(line.rpartition(":")[2] for line in lines) == names

    def take_back(name: str) -> None:
        together.wait()
        undo(ROOT.with_name(name), lambda _: None, lambda _: None)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(take_back, names))
    keys = home / ".ssh/authorized_keys"
    assert not keys.exists() or keys.read_text() == ""
    assert not [name for name in names if (home / ROOT.with_name(name)).exists()]
