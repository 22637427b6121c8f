"""Caches of a bundle at a target: used on the same machine, and one difference leaves the start cold with its name."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from slipway.agent import machine_probe, warm_caches
from slipway.agent.warm_caches import FILES, FOLDER, MACHINE, MANIFEST, differences, fill, fill_start, start_note
from slipway.engines.machine_facts import local_facts
from slipway.engines.warm_cache import CachedFile
from tests.unit.engines.test_kernel_path import plan

HERE = dict.fromkeys(MACHINE, "as here")
MTIME = 1_700_000_000_123_456_789


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose caches were harvested on this machine, as far as it says."""
    monkeypatch.setattr(warm_caches, "machine", lambda: HERE)
    files = tmp_path / "bundle" / FOLDER / FILES
    rows = []
    for name, data in (("triton/a.so", b"kernel"), ("autotuner.json", b"{}")):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_bytes(data)
        os.utime(files / name, ns=(MTIME, MTIME))
        digest = hashlib.sha256(data).hexdigest()
        row = CachedFile(path=name, size=len(data), mtime_ns=MTIME, mode=0o640, sha256=digest)
        rows.append(row.model_dump())
    (tmp_path / "bundle" / FOLDER / MANIFEST).write_text(json.dumps({"key": {**HERE, "argv": []}, "files": rows}))
    (tmp_path / "cache").mkdir()
    return tmp_path / "bundle"


def test_the_same_machine_starts_from_its_own_copy(bundle: Path) -> None:
    cache = bundle.parent / "cache"
    assert fill(bundle, cache, in_image=True) == []
    copy = cache / "triton/a.so"
    assert (copy.read_bytes(), copy.stat().st_mtime_ns, copy.stat().st_mode & 0o777) == (b"kernel", MTIME, 0o640)
    assert copy.stat().st_ino != (bundle / FOLDER / FILES / "triton/a.so").stat().st_ino


@pytest.mark.parametrize("name", MACHINE)
def test_one_fact_that_differs_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(warm_caches, "machine", lambda: {**HERE, name: "another"})
    (reason,) = fill(bundle, bundle.parent / "cache", in_image=True)
    assert reason == f"{name}: as here when harvested, another here"
    assert list((bundle.parent / "cache").iterdir()) == []
    assert differences({**HERE, name: "unknown"}, {**HERE, name: "unknown"}), "unknown equals nothing"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.write_bytes(b"kernem"), "another size or time"),
        (lambda file: (file.write_bytes(b"kernem"), os.utime(file, ns=(MTIME, MTIME))), "other bytes"),
        (lambda file: os.utime(file, ns=(MTIME + 1, MTIME + 1)), "another size or time"),
        (lambda file: file.unlink(), "missing"),
        (lambda file: (file.parents[2] / MANIFEST).write_text("{"), "manifest of caches"),
    ],
)
def test_a_file_that_differs_leaves_the_start_cold(bundle: Path, damage, reason: str) -> None:
    damage(bundle / FOLDER / FILES / "triton/a.so")
    cache = bundle.parent / "cache"
    assert any(reason in words for words in fill(bundle, cache, in_image=True))
    assert list(cache.iterdir()) == []


def test_a_row_that_leads_out_of_the_caches_writes_nothing(bundle: Path) -> None:
    file = bundle / FOLDER / MANIFEST
    document = json.loads(file.read_text())
    document["files"][0]["path"] = "../../outside"
    file.write_text(json.dumps(document))
    assert "leads out" in fill(bundle, bundle.parent / "cache", in_image=True)[0]
    assert not (bundle.parent / "outside").exists()


def test_a_process_and_a_bundle_without_caches_start_cold(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "start" / "cache").mkdir(parents=True)
    fill_start(bundle, tmp_path / "start", in_image=False)
    assert "process" in (start_note(tmp_path / "start") or "")
    fill_start(tmp_path, tmp_path / "start", in_image=True)
    assert "brings no caches" in (start_note(tmp_path / "start") or "")
    fill_start(bundle, tmp_path / "start", in_image=True)
    assert start_note(tmp_path / "start") == "starts from the bundle's caches"
    assert start_note(tmp_path) is None


def test_the_facts_are_those_that_a_harvest_writes_down() -> None:
    """Two readers of one probe: the orchestrator's, which the key document holds, and the agent's."""
    here = local_facts(plan(kind="llama.cpp", argv=["llama-server"])).model_dump()
    assert warm_caches.machine() == {name: here[name] for name in MACHINE if name in warm_caches.machine()}
    assert machine_probe.gpu_facts([])["gpu"] == "none"
