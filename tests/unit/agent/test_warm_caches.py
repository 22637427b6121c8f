"""Caches of a bundle at a target: used on the same machine, and one difference leaves the start cold with its name."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from slipway.agent import machine_probe, warm_caches
from slipway.agent.warm_caches import (
    FILES,
    FOLDER,
    MACHINE,
    MANIFEST,
    OF_PYTHON,
    differences,
    fill,
    fill_start,
    python_of,
    start_note,
)
from slipway.engines.machine_facts import local_facts, python_facts
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
    assert fill(bundle, cache, program=None) == []
    copy = cache / "triton/a.so"
    assert (copy.read_bytes(), copy.stat().st_mtime_ns, copy.stat().st_mode & 0o777) == (b"kernel", MTIME, 0o640)
    assert copy.stat().st_ino != (bundle / FOLDER / FILES / "triton/a.so").stat().st_ino


@pytest.mark.parametrize("name", MACHINE)
def test_one_fact_that_differs_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(warm_caches, "machine", lambda: {**HERE, name: "another"})
    (reason,) = fill(bundle, bundle.parent / "cache", program=None)
    assert reason == f"{name}: as here when harvested, another here"
    assert list((bundle.parent / "cache").iterdir()) == []
    assert differences({**HERE, name: "unknown"}, {**HERE, name: "unknown"}, MACHINE), "unknown equals nothing"


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
    assert any(reason in words for words in fill(bundle, cache, program=None))
    assert list(cache.iterdir()) == []


def test_a_row_that_leads_out_of_the_caches_writes_nothing(bundle: Path) -> None:
    file = bundle / FOLDER / MANIFEST
    document = json.loads(file.read_text())
    document["files"][0]["path"] = "../../outside"
    file.write_text(json.dumps(document))
    assert "leads out" in fill(bundle, bundle.parent / "cache", program=None)[0]
    assert not (bundle.parent / "outside").exists()


@pytest.fixture
def engine(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `vllm` as pip installs one, in whose Python a package of that name has a version; the bundle's caches
    were harvested there."""
    about = tmp_path / "site" / "vllm-0.27.1.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.27.1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    facts = python_facts("vllm", sys.executable).model_dump()
    assert facts["engine"] == "0.27.1"
    harvested(bundle, image="none", kind="vllm", **{name: facts[name] for name in OF_PYTHON})
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)
    return program


def harvested(bundle: Path, **facts: str) -> None:
    file = bundle / FOLDER / MANIFEST
    document = json.loads(file.read_text())
    document["key"] |= facts
    file.write_text(json.dumps(document))


def test_a_process_whose_python_is_that_of_the_harvest_starts_warm(bundle: Path, engine: Path) -> None:
    cache = bundle.parent / "cache"
    assert fill(bundle, cache, program=str(engine)) == []
    assert (cache / "triton/a.so").read_bytes() == b"kernel"


@pytest.mark.parametrize(("name", "value"), [("engine", "0.27.0"), ("torch", "2.10.0"), ("python", "3.13.1")])
def test_another_package_of_a_process_is_named(bundle: Path, engine: Path, name: str, value: str) -> None:
    harvested(bundle, **{name: value})
    cache = bundle.parent / "cache"
    (reason,) = fill(bundle, cache, program=str(engine))
    assert reason.startswith(f"{name}: {value} when harvested, ")
    assert list(cache.iterdir()) == []
    harvested(bundle, image="nvcr.io/vllm@sha256:1")
    assert fill(bundle, cache, program=str(engine)) == ["image: nvcr.io/vllm@sha256:1 when harvested, a process here"]


def test_a_process_whose_python_nobody_can_tell_starts_cold(bundle: Path, engine: Path, tmp_path: Path) -> None:
    engine.write_bytes(b"\x7fELF")
    for program in (str(engine), str(tmp_path / "absent")):
        reasons = fill(bundle, bundle.parent / "cache", program=program)
        assert len(reasons) == len(OF_PYTHON)
        assert all(reason.endswith("unknown here") for reason in reasons)
    (engine.parent / "python3").symlink_to(sys.executable)
    assert python_of(str(engine)) == str(engine.parent / "python3")
    assert python_of(sys.executable) == sys.executable


def test_a_start_says_how_it_found_its_caches(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "start" / "cache").mkdir(parents=True)
    fill_start(bundle, tmp_path / "start", program=str(tmp_path / "absent"))
    assert (start_note(tmp_path / "start") or "").startswith("starts cold: image: unknown when harvested")
    fill_start(tmp_path, tmp_path / "start", program=None)
    assert "brings no caches" in (start_note(tmp_path / "start") or "")
    fill_start(bundle, tmp_path / "start", program=None)
    assert start_note(tmp_path / "start") == "starts from the bundle's caches"
    assert start_note(tmp_path) is None


def test_the_facts_are_those_that_a_harvest_writes_down() -> None:
    """Two readers of one probe: the orchestrator's, which the key document holds, and the agent's."""
    here = local_facts(plan(kind="llama.cpp", argv=["llama-server"])).model_dump()
    assert warm_caches.machine() == {name: here[name] for name in MACHINE if name in warm_caches.machine()}
    assert machine_probe.gpu_facts([])["gpu"] == "none"
