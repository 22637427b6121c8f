"""Boots of a scripted engine that compiles where its cache lacks a kernel: cold once, warm from the bundle after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipway.config.engine import BootsConfig
from slipway.config.target import TargetConfig
from slipway.engines.boot_series import boot_series
from slipway.engines.boots import Boot, boot_figures
from slipway.engines.bundle import read_plan
from slipway.engines.cache_space import start_caches
from slipway.engines.driver import CacheSpec
from slipway.engines.serving import Service
from slipway.engines.warm_cache import read_manifest
from slipway.engines.warm_start import with_own_cache
from tests.support import scripted_server
from tests.support.scripted_server import bundle

MODEL = "c" * 64
ONCE = BootsConfig(cold=1, warm=2)
TRITON = CacheSpec(name="triton", path="triton", variable="TRITON_CACHE_DIR")
COMPILES = """
def main() -> None:
    from pathlib import Path
    cache = Path(os.environ["TRITON_CACHE_DIR"])
    sys.stderr.write("load_model: loading model 'm'\\n")
    sys.stderr.write("from its cache\\n" if (cache / "kernel").exists() else "compiles a kernel\\n")
    cache.mkdir(exist_ok=True)
    (cache / "kernel").write_text("kernel")
    EXTRA
"""


def service(tmp_path: Path, extra: str = "pass", **plan: Any) -> Service:
    """A bundle whose server keeps one kernel in a cache, and does `extra` when it starts."""
    source = Path(scripted_server.__file__).read_text()
    program = source.replace("def main() -> None:\n", COMPILES.replace("EXTRA", extra))
    assert program != source
    made = bundle(tmp_path / "b", program=program)
    (tmp_path / "m").mkdir()
    known = read_plan(made).model_copy(update={"caches": [TRITON], **plan})
    return Service(made, known, TargetConfig(), tmp_path / "work", tmp_path / "m")


@pytest.fixture
def series(tmp_path: Path) -> Callable[..., tuple[list[Boot], list[str], str]]:
    """Boots, notes and the log of a service's starts."""

    def run(made: Service, boots: BootsConfig = ONCE, limit: int = 10**9) -> tuple[list[Boot], list[str], str]:
        notes: list[str] = []
        measured = boot_series(made, MODEL, boots, limit, notes.append)
        return measured, notes, (made.work / "log.txt").read_text()

    return run


def test_cold_once_and_warm_after(tmp_path: Path, series: Any) -> None:
    made = service(tmp_path)
    boots, notes, log = series(made)
    assert [boot.start for boot in boots] == ["cold", "warm", "warm"]
    assert (log.count("compiles a kernel"), log.count("from its cache")) == (1, 2)
    assert all(set(boot.steps) == {"process", "weights"} for boot in boots)
    manifest = read_manifest(made.bundle)
    assert manifest is not None
    assert [file.path for file in manifest.files] == ["triton/kernel"]
    assert manifest.key.weights == MODEL
    figures = boot_figures(boots, 1)
    assert (figures["cold_starts"], figures["warm_starts"]) == (1, 2)
    assert any("caches of 1 files" in note for note in notes)
    assert not (made.work / "serving.json").exists()


def test_an_engine_without_caches_is_started_cold_alone(tmp_path: Path, series: Any) -> None:
    source = bundle(tmp_path / "b")
    made = Service(source, read_plan(source), TargetConfig(), tmp_path / "work")
    boots, _, _ = series(made, BootsConfig())
    assert [boot.start for boot in boots] == ["cold"]
    assert read_manifest(made.bundle) is None


@pytest.mark.parametrize(("cold", "warm"), [(2, 0), (1, 2)])
def test_the_last_start_is_asked_while_it_serves(tmp_path: Path, cold: int, warm: int) -> None:
    source, asked = bundle(tmp_path / "b"), list[int]()
    made = Service(source, read_plan(source), TargetConfig(), tmp_path / "work")
    notes: list[str] = []

    def ask(url: str) -> None:
        asked.append(len(notes))  # a note follows each start that has ended
        assert httpx.get(f"{url.removesuffix('/v1')}/health", trust_env=False).status_code == 200

    boots = boot_series(made, MODEL, BootsConfig(cold=cold, warm=warm), 10**9, notes.append, ask)
    assert asked == [len(boots) - 1] == [cold + warm - 1]


def test_an_engine_that_had_to_be_killed_leaves_no_caches(tmp_path: Path, series: Any) -> None:
    made = service(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)", stop_s=0.3)
    boots, notes, _ = series(made, BootsConfig(cold=1, warm=1))
    assert [boot.start for boot in boots] == ["cold", "cold"]
    assert boots[1].cold_because == ["caches: nothing harvested, now a cold start"]
    assert any("had to be killed" in note for note in notes)
    assert read_manifest(made.bundle) is None


def test_caches_beyond_the_limit_are_not_kept_and_the_reason_is_noted(tmp_path: Path, series: Any) -> None:
    boots, notes, _ = series(service(tmp_path), BootsConfig(cold=1, warm=1), 3)
    assert [boot.start for boot in boots] == ["cold", "cold"]
    assert any("6 bytes" in note and "engine.cache_gb" in note for note in notes)


def test_what_a_warm_start_writes_does_not_reach_the_bundle(tmp_path: Path, series: Any) -> None:
    made = service(tmp_path, "(cache / 'kernel').open('a').write('again')")
    series(made)
    assert (made.bundle / "caches/files/triton/kernel").read_text() == "kernelagain"


def test_caches_may_lie_on_a_disk_of_their_own(tmp_path: Path, series: Any) -> None:
    made = with_own_cache(service(tmp_path), str(tmp_path / "nvme"), 10**9)
    boots, _, _ = series(made)
    assert [boot.start for boot in boots] == ["cold", "warm", "warm"]
    (start,) = start_caches(tmp_path / "nvme")
    assert start.work == made.work
    assert start.nbytes > 0
    assert list((made.work / "start").iterdir()) == [made.work / "start/config"]
