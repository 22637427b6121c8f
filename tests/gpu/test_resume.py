"""kill -9 in the middle of a pass on CUDA, and the next run ends with the bytes of one that was never disturbed."""

import hashlib
import signal
import subprocess
import sys
import time

import pytest

from slipway.weights.checkpoint_files import INDEX
from slipway.weights.journal import RESUME_FILE
from tests.oracles.modelopt_oracle import ROOT
from tests.support.adversarial import adversarial_model, attention_adapter


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("resume")
    return adversarial_model(root / "model"), attention_adapter(root / "adapter")


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert start(inputs, out).wait(300) == 0
    return digests(out)


@pytest.mark.parametrize("after", [1, 30])
def test_resumed_is_undisturbed(inputs, undisturbed, tmp_path, after):
    resumed = tmp_path / "resumed"
    process = start(inputs, resumed)
    while finished(resumed) < after:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert not (resumed / INDEX).exists() and finished(resumed) >= after
    assert start(inputs, resumed).wait(300) == 0
    assert digests(resumed) == undisturbed


def start(inputs, out):
    """One worker, many small shards, each flushed: slow enough to be caught in the middle."""
    command = [
        sys.executable,
        "-m",
        "slipway",
        "quantize",
        inputs[0],
        "--adapter",
        inputs[1],
        "--out",
        out,
        "--format",
        "fp8-dynamic",
    ]
    for setting in ("device=cuda", "workers=1", "max_shard_gb=0.01"):
        command += ["--set", setting]
    return subprocess.Popen([*map(str, command)], cwd=ROOT)


def finished(out):
    """Tensors in the journal."""
    return max(0, len((out / RESUME_FILE).read_text().splitlines()) - 1) if (out / RESUME_FILE).exists() else 0


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}
