"""Layers that are links: made under the target's lock, from files that nobody has touched since they were read. The
whole delivery: test_own_delivery."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.bundle.layers import Layers
from slipway.deployment.bundle.files import LARGE
from slipway.deployment.bundle.linked_layout import LinkedLayout
from slipway.deployment.bundle.release import PackedRelease, architecture_of, pack
from slipway.errors import BundleError
from slipway.store.artifacts import Engine
from slipway.store.store import Store
from tests.support.target import make_engine


@pytest.fixture
def engine(store: Store) -> Engine:
    return make_engine(store, {"answer": "{}", "padding": "x" * LARGE})


def packed(engine: Engine, layout: LinkedLayout) -> PackedRelease:
    arch = architecture_of(engine)
    return pack(engine, {}, None, layout, name="n", model="m", architecture=arch, whole=True)


def test_nothing_large_is_written_before_the_lock_is_held(engine: Engine, store: Store, tmp_path: Path) -> None:
    layout = LinkedLayout(tmp_path / "root", store.root)
    release = packed(engine, layout)
    assert (release.signature, release.files_signature) == ("", "")
    assert sum(file.stat().st_size for file in (tmp_path / "root/incoming").iterdir()) < LARGE
    assert not (tmp_path / "root/layers").exists()
    assert layout.adopt(release.bundle) == 0
    assert len(list((tmp_path / "root/layers").iterdir())) == 1
    assert layout.adopt(release.bundle) == 0  # it is there


def test_a_file_that_changed_after_it_was_read_is_not_adopted(engine: Engine, store: Store, tmp_path: Path) -> None:
    layout = LinkedLayout(tmp_path / "root", store.root)
    release = packed(engine, layout)
    with (engine.path / "model.gguf").open("r+b") as file:
        file.write(b"[")
    with pytest.raises(BundleError, match="changes while it is read"):
        layout.adopt(release.bundle)
    wanted = [layer.digest for layer in release.bundle.layers if layer.part == "engine-file"]
    assert Layers(tmp_path / "root").missing(wanted) == wanted
