"""The KV cache that llama.cpp says it allocates is the one that `planning.kv_cache` counts."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.store import StoreConfig
from slipway.config.target import TargetConfig
from slipway.engines.directory import Machinery, service_for
from slipway.planning.kv_cache import cache_of, request_values
from slipway.planning.serving_memory import KV_BYTES
from slipway.system.ports import any_port
from slipway.system.progress import Progress
from tests.support.families import write_family

SIZE = re.compile(r"llama_kv_cache: size =\s*([\d.]+) MiB \(\s*(\d+) cells,\s*(\d+) layers")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family("llama", tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    params = EngineConfig(context=256, slots=2, threads=1)
    cache = Path(StoreConfig().cache).expanduser()
    with service_for(model, Machinery(params, TargetConfig(), None, root, cache), Progress()) as service:
        return service.bundle


@pytest.mark.parametrize("context", [512, 65536])
def test_llama_cpp_allocates_what_is_counted(model: Path, bundle: Path, tmp_path: Path, context: int) -> None:
    log = tmp_path / "log.txt"
    argv = [bundle / "llama-server", "--model", bundle / "model.gguf", "--ctx-size", str(context), "--threads", "1"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*argv, "--port", str(any_port()), "--kv-unified", "--log-verbosity", "5"],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 120
        while not (sizes := SIZE.findall(log.read_text(errors="replace"))):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
            time.sleep(0.05)
    finally:
        server.kill()
        server.wait()
    mebibytes, cells, layers = sizes[-1]
    caches = cache_of(json.loads((model / "config.json").read_text()))
    counted = request_values(caches, context)[0] * KV_BYTES
    assert (int(cells), int(layers)) == (context, sum(one.layers for one in caches))
    assert float(mebibytes) == pytest.approx(counted / 2**20, abs=0.01)
