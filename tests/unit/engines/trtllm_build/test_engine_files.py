"""Engine files: complete, whole and new, or refused by the file's name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.engines.driver import Limits
from slipway.engines.trtllm_build import engine_files
from slipway.engines.trtllm_build.engine_files import mark, verify_engine
from slipway.errors import EngineError, StateError

LIMITS = Limits(context=512, slots=4, tensor_parallel=2)
WEIGHTS = 4000


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_files, "_SETTLE_S", 0.0)


def build(bundle: Path) -> tuple[Path, Path]:
    """Marker, and a folder as trtllm-build leaves it for two ranks."""
    bundle.mkdir(exist_ok=True)
    marker = mark(bundle)
    folder = bundle / "engine"
    folder.mkdir()
    document = {
        "version": "1.2.1",
        "pretrained_config": {"mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1}},
        "build_config": {"max_batch_size": 4, "max_seq_len": 512},
    }
    (folder / "config.json").write_text(json.dumps(document))
    for rank in range(2):
        (folder / f"rank{rank}.engine").write_bytes(bytes(2100 + rank))
    return marker, folder


def test_whole_files_of_this_build_are_named_with_their_sizes(tmp_path: Path) -> None:
    marker, folder = build(tmp_path)
    assert verify_engine(folder, LIMITS, WEIGHTS, marker) == {"rank0.engine": 2100, "rank1.engine": 2101}


def test_weights_kept_beside_an_engine_count(tmp_path: Path) -> None:
    marker, folder = build(tmp_path)
    (folder / "rank1.engine").write_bytes(bytes(10))
    (folder / "rank1_managed_weights.safetensors").write_bytes(bytes(2000))
    assert verify_engine(folder, LIMITS, WEIGHTS, marker)["rank1.engine"] == 10


def _older(folder: Path) -> None:
    before = (folder.parent / engine_files.MARKER).stat().st_mtime_ns - 1
    os.utime(folder / "rank1.engine", ns=(before, before))


def _config(path: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = json.loads((folder / "config.json").read_text())
        place = document
        *parents, last = path.split(".")
        for name in parents:
            place = place[name]
        place[last] = value
        (folder / "config.json").write_text(json.dumps(document))

    return change


@pytest.mark.parametrize(
    ("damage", "name", "problem"),
    [
        (lambda f: (f / "rank1.engine").unlink(), "rank1.engine", "missing"),
        (lambda f: (f / "rank2.engine").write_bytes(bytes(2100)), "rank2.engine", "not asked for"),
        (lambda f: (f / "rank0.engine").write_bytes(b""), "rank0.engine", "0 bytes"),
        (lambda f: (f / "rank0.engine").write_bytes(bytes(999)), "rank0.engine", "999 bytes"),
        (_older, "rank1.engine", "older than the build"),
        (lambda f: (f / "config.json").unlink(), "engine", "no config.json"),
        (_config("pretrained_config.mapping.world_size", 1), "world_size", "1; expected 2"),
        (_config("pretrained_config.mapping", None), "world_size", "None"),
        (_config("build_config.max_seq_len", 256), "max_seq_len", "256; expected 512"),
    ],
)
def test_what_is_missing_short_foreign_or_old_is_refused_by_name(
    tmp_path: Path, damage: Callable[[Path], None], name: str, problem: str
) -> None:
    marker, folder = build(tmp_path)
    damage(folder)
    with pytest.raises(EngineError) as refused:
        verify_engine(folder, LIMITS, WEIGHTS, marker)
    assert name in refused.value.thing
    assert problem in str(refused.value)


def test_a_file_that_still_grows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, folder = build(tmp_path)
    monkeypatch.setattr(engine_files.time, "sleep", lambda _: (folder / "rank0.engine").write_bytes(bytes(3000)))
    with pytest.raises(EngineError, match="2100 bytes, then 3000"):
        verify_engine(folder, LIMITS, WEIGHTS, marker)


def test_a_config_that_is_no_json_is_refused(tmp_path: Path) -> None:
    marker, folder = build(tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises((EngineError, StateError), match=r"config\.json"):
        verify_engine(folder, LIMITS, WEIGHTS, marker)
