"""Harvested caches in real directories: copies with their mtimes, and every damage a named reason for a cold start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.engines.bundle_key import KeyDocument, key_document
from slipway.engines.driver import Limits, ServePlan
from slipway.engines.machine_facts import MachineFacts
from slipway.engines.warm_cache import check, copy_file, fill, harvest, read_manifest
from slipway.errors import EngineError

OLD_NS = 1_700_000_000_123_456_789
PLAN = ServePlan(kind="vllm", argv=["vllm", "serve", "{model}"], limits=Limits(context=128, slots=2))
KNOWN = dict.fromkeys(MachineFacts.model_fields, "known")
KEY = key_document(PLAN, MachineFacts(**KNOWN), "weights")


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """What a stopped engine left: objects with old mtimes, an executable, a lock."""
    for name, text in {"triton/ab/kernel.cubin": "kernel", "tactics/rank0.json": "{}", "triton/x.lock": ""}.items():
        file = tmp_path / "live" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, ns=(OLD_NS, OLD_NS))
    (tmp_path / "live/triton/ab/kernel.cubin").chmod(0o755)
    return tmp_path / "live"


@pytest.fixture
def bundle(tmp_path: Path, live: Path) -> Path:
    harvest(live, tmp_path / "bundle", KEY)
    return tmp_path / "bundle"


@pytest.fixture
def start(tmp_path: Path) -> Path:
    (tmp_path / "start").mkdir()
    return tmp_path / "start"


def test_a_start_gets_the_files_with_their_mtimes_to_the_nanosecond(bundle: Path, start: Path) -> None:
    assert fill(bundle, start, KEY) == []
    kernel = start / "triton/ab/kernel.cubin"
    assert kernel.read_text() == "kernel"
    assert kernel.stat().st_mtime_ns == OLD_NS
    assert kernel.stat().st_mode & 0o777 == 0o755


def test_a_file_that_only_root_could_read_ships_readable(tmp_path: Path, live: Path) -> None:
    """A pod of another user reads what the engine of a root container wrote under umask 077."""
    (live / "triton/ab/kernel.cubin").chmod(0o700)
    manifest = harvest(live, tmp_path / "other", KEY)
    modes = {file.path: file.mode for file in manifest.files}
    assert modes["triton/ab/kernel.cubin"] == 0o744 and all(mode & 0o044 == 0o044 for mode in modes.values())


def test_locks_are_left_out_and_listed(bundle: Path, start: Path) -> None:
    manifest = read_manifest(bundle)
    assert manifest is not None
    assert manifest.dropped == ["triton/x.lock"]
    assert [file.path for file in manifest.files] == ["tactics/rank0.json", "triton/ab/kernel.cubin"]
    assert manifest.nbytes == 8


def test_what_one_start_writes_no_other_sees(tmp_path: Path, bundle: Path, start: Path) -> None:
    """Written in place, as an engine does that maps its tactics: a hard link would show it in the bundle."""
    fill(bundle, start, KEY)
    with (start / "tactics/rank0.json").open("r+") as file:
        file.write("XX")
    other = tmp_path / "other"
    other.mkdir()
    assert fill(bundle, other, KEY) == []
    assert (other / "tactics/rank0.json").read_text() == "{}"
    assert (bundle / "caches/files/tactics/rank0.json").stat().st_nlink == 1


def _truncate(files: Path) -> None:
    status = (files / "triton/ab/kernel.cubin").stat()
    (files / "triton/ab/kernel.cubin").write_text("kern")
    os.utime(files / "triton/ab/kernel.cubin", ns=(status.st_atime_ns, status.st_mtime_ns))


def _same_size_other_bytes(files: Path) -> None:
    (files / "triton/ab/kernel.cubin").write_text("KERNEL")
    os.utime(files / "triton/ab/kernel.cubin", ns=(OLD_NS, OLD_NS))


def _link(files: Path) -> None:
    (files / "tactics/rank0.json").unlink()
    (files / "tactics/rank0.json").symlink_to("/etc/hostname")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (_truncate, "triton/ab/kernel.cubin (size)"),
    "other bytes": (_same_size_other_bytes, "triton/ab/kernel.cubin (sha256)"),
    "mtime": (lambda f: os.utime(f / "tactics/rank0.json", ns=(OLD_NS, OLD_NS + 1)), "tactics/rank0.json (mtime_ns)"),
    "mode": (lambda f: (f / "tactics/rank0.json").chmod(0o600), "tactics/rank0.json (mode)"),
    "missing": (lambda f: (f / "tactics/rank0.json").unlink(), "tactics/rank0.json"),
    "extra": (lambda f: (f / "tactics/rank1.json").write_text("{}"), "tactics/rank1.json"),
    "link": (_link, "tactics/rank0.json (type)"),
    "all gone": (shutil.rmtree, "tactics/rank0.json"),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_cache_is_a_named_miss_and_never_used(bundle: Path, start: Path, damage: str) -> None:
    inflict, subject = DAMAGES[damage]
    inflict(bundle / "caches/files")
    assert [miss.subject for miss in fill(bundle, start, KEY)] == [subject]
    assert list(start.iterdir()) == []
    assert subject in [miss.subject for miss in check(bundle, KEY)]


@pytest.mark.parametrize("field", ["gpu", "driver", "weights", "torch", "cpu"])
def test_a_cache_of_another_machine_or_model_is_a_named_miss(bundle: Path, start: Path, field: str) -> None:
    other = KEY.model_copy(update={field: "another"})
    (miss,) = fill(bundle, start, other)
    assert (miss.subject, miss.then, miss.now) == (field, getattr(KEY, field), "another")
    assert list(start.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{}", '{"key": 1}', "\0"])
def test_a_manifest_that_cannot_be_read_is_a_miss(bundle: Path, start: Path, text: str) -> None:
    (bundle / "caches/manifest.json").write_text(text)
    assert [miss.subject for miss in fill(bundle, start, KEY)] == ["manifest.json"]


def test_a_bundle_without_caches_starts_cold(tmp_path: Path, start: Path) -> None:
    assert [miss.subject for miss in fill(tmp_path, start, KEY)] == ["caches"]


def test_many_differences_are_counted(bundle: Path) -> None:
    for i in range(50):
        (bundle / f"caches/files/extra{i}").touch()
    reasons = check(bundle, KEY)
    assert len(reasons) == 21
    assert reasons[-1].now == "30 more differences"


def test_a_path_out_of_the_cache_is_refused(bundle: Path, start: Path) -> None:
    """A manifest that was edited must not write beside the start's folder."""
    file = bundle / "caches/manifest.json"
    file.write_text(file.read_text().replace("tactics/rank0.json", "../../escaped"))
    assert [miss.subject for miss in fill(bundle, start, KEY)] == ["manifest.json"]
    assert not (start.parent.parent / "escaped").exists()


@pytest.mark.parametrize(
    ("key", "limit", "message"),
    [
        (KEY.model_copy(update={"driver": "unknown"}), None, "unknown: driver"),
        (KEY, 7, "8 bytes"),
    ],
)
def test_a_harvest_that_is_refused_leaves_nothing(
    tmp_path: Path, live: Path, key: KeyDocument, limit: int | None, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        harvest(live, tmp_path / "bundle", key, limit)
    assert not (tmp_path / "bundle/caches").exists()


def test_a_link_within_the_cache_becomes_a_file(tmp_path: Path, live: Path, start: Path) -> None:
    (live / "triton/latest").symlink_to("ab/kernel.cubin")
    harvest(live, tmp_path / "bundle", KEY)
    assert fill(tmp_path / "bundle", start, KEY) == []
    assert not (start / "triton/latest").is_symlink()
    assert (start / "triton/latest").read_text() == "kernel"


def test_a_link_out_of_a_cache_is_refused_by_name(tmp_path: Path, live: Path) -> None:
    (live / "triton/link").symlink_to("/etc/hostname")
    with pytest.raises(EngineError, match="triton/link"):
        harvest(live, tmp_path / "bundle", KEY)


def test_a_copy_is_another_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    copy_file(tmp_path / "a", tmp_path / "below/b")
    assert not (tmp_path / "a").samefile(tmp_path / "below/b")
    assert (tmp_path / "below/b").stat().st_mtime_ns == (tmp_path / "a").stat().st_mtime_ns


def test_report_1_tactics_of_another_gpu_are_a_miss_that_names_the_gpu(bundle: Path, start: Path) -> None:
    """TensorRT-LLM#17664: they load and hit. Only the GPU that the bundle records is another."""
    file = bundle / "caches/manifest.json"
    file.write_text(file.read_text().replace('"gpu": "known"', '"gpu": "1 x NVIDIA GB10"'))
    (miss,) = fill(bundle, start, KEY)
    assert (miss.subject, miss.then, miss.now) == ("gpu", "1 x NVIDIA GB10", "known")
    assert list(start.iterdir()) == []


def test_report_4_a_bundle_copied_without_its_mtimes_is_detected_and_not_used(
    bundle: Path, start: Path, tmp_path: Path
) -> None:
    """flashinfer#4490 and #3556: equal versions, objects judged by mtime."""
    copied = Path(shutil.copytree(bundle, tmp_path / "copied", copy_function=shutil.copyfile))
    subjects = [miss.subject for miss in fill(copied, start, KEY)]
    assert subjects == ["tactics/rank0.json (mtime_ns)"]
    assert list(start.iterdir()) == []
