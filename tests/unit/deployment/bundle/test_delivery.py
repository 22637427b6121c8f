"""An engine delivered to an agent of another folder, by copies that may go wrong on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.agent import Agent
from slipway.deployment.bundle.delivery import check_probe, deliver
from slipway.deployment.bundle.release import architecture_of
from slipway.errors import BundleError, ConfigError
from slipway.store.store import Store
from tests.support.target import make_engine, target_params

NOW = 1_795_000_000.0


class Receiver:
    """An agent of this machine that says it is another one, with a link that `harm` may harm."""

    def __init__(self, root: Path, harm: Callable[[Path], None] = lambda _: None, **probed: Any) -> None:
        self.agent, self.sent, self._harm, self._probed = Agent(root), list[str](), harm, probed

    def call(self, verb: str, document: dict[str, Any], note: Any = print) -> dict[str, Any]:
        if verb == "probe":
            return {**self.agent.call(verb, document), "time": NOW, **self._probed}
        return self.agent.call(verb, document, note)

    def copy(self, blobs: Path, sizes: Mapping[str, int], note: Any = print) -> int:
        incoming = self.agent.paths.incoming
        incoming.mkdir(parents=True, exist_ok=True)
        for digest in sizes:
            shutil.copyfile(blobs / digest, incoming / digest)
            self.sent.append(digest)
            self._harm(incoming / digest)
        return sum(sizes.values())


def test_an_engine_arrives_and_a_second_delivery_moves_nothing(tmp_path: Path) -> None:
    engine = make_engine(Store(tmp_path / "store"), {"answer": "{}"})
    receiver, notes = Receiver(tmp_path / "root"), list[str]()
    named = deliver(engine, target_params("x"), receiver, NOW, notes.append)
    assert (tmp_path / "root/layers").is_dir()
    assert set(named) == {"manifest", "signature", "files_signature"}
    assert len(receiver.sent) == len(set(receiver.sent)) > 3
    receiver.sent.clear()
    again = deliver(engine, target_params("x"), receiver, NOW, notes.append)
    assert again["manifest"] == named["manifest"]
    assert len(receiver.sent) <= 6, "only the new signatures"
    assert not any("clock" in note for note in notes)


def test_bytes_that_change_once_on_the_way_are_sent_again(tmp_path: Path) -> None:
    engine = make_engine(Store(tmp_path / "store"), {"answer": "{}"})
    harmed: list[Path] = []

    def flip(file: Path) -> None:
        if not harmed and file.stat().st_size > 5000:
            harmed.append(file)
            file.write_bytes(b"\1" + file.read_bytes()[1:])

    receiver, notes = Receiver(tmp_path / "root", flip), list[str]()
    deliver(engine, target_params("x"), receiver, NOW, notes.append)
    assert receiver.sent.count(harmed[0].name) == 2
    assert any("sent once more" in note for note in notes)


def test_bytes_that_change_every_time_are_refused(tmp_path: Path) -> None:
    def flip(file: Path) -> None:
        file.write_bytes(b"\1" + file.read_bytes()[1:])

    engine = make_engine(Store(tmp_path / "store"), {"answer": "{}"})
    with pytest.raises(BundleError, match="blob"):
        deliver(engine, target_params("x"), Receiver(tmp_path / "root", flip), NOW, print)
    assert not list((tmp_path / "root").glob("layers/[0-9a-f]*"))


def test_another_architecture_is_refused_before_anything_is_packed(tmp_path: Path) -> None:
    engine = make_engine(Store(tmp_path / "store"), {"answer": "{}"})
    other = {"amd64": "arm64", "arm64": "amd64"}[architecture_of(engine)]
    receiver = Receiver(tmp_path / "root", architecture=other)
    with pytest.raises(ConfigError, match=rf"made for {architecture_of(engine)}; expected one for {other}"):
        deliver(engine, target_params("x"), receiver, NOW, print)
    assert not (tmp_path / "store/bundles").exists()
    assert receiver.sent == []


@pytest.mark.parametrize(("time", "words"), [(NOW + 86400, "86400 s ahead"), (NOW - 90, "90 s behind")])
def test_a_clock_that_is_off_is_said(time: float, words: str) -> None:
    notes: list[str] = []
    check_probe({"architecture": "arm64", "time": time}, "arm64", "spark", NOW, notes.append)
    assert words in notes[0]


def test_what_was_damaged_in_the_layout_is_packed_again_before_it_is_sent(tmp_path: Path) -> None:
    """Every blob that is to be copied is read first: equal size and another byte, cut, and a document."""
    engine, notes = make_engine(Store(tmp_path / "store"), {"answer": "{}"}), list[str]()
    named = deliver(engine, target_params("x"), Receiver(tmp_path / "first"), NOW, notes.append)
    blobs = sorted((tmp_path / "store/bundles/blobs/sha256").iterdir(), key=lambda file: file.stat().st_size)
    blobs[-1].write_bytes(b"\1" + blobs[-1].read_bytes()[1:])
    blobs[-2].write_bytes(blobs[-2].read_bytes()[:-1])
    (tmp_path / "store/bundles/blobs/sha256" / named["manifest"]).write_bytes(b"{}")
    receiver = Receiver(tmp_path / "second")
    assert deliver(engine, target_params("x"), receiver, NOW, notes.append)["manifest"] == named["manifest"]
    assert len(receiver.sent) == len(set(receiver.sent)), "nothing twice"
    assert any("were damaged and are packed again" in note for note in notes)
