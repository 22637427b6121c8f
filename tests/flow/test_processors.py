"""A merged and quantized model is the same bytes under settings that make torch and MKL compute as on other processors.

In the reference process everything runs with this machine's own settings. MKL_CBWR and MKL_ENABLE_INSTRUCTIONS change
the order of sums in a matrix product, ATEN_CPU_CAPABILITY the vector width of torch's own loops, OMP_NUM_THREADS how
work is cut up, and DNNL_DEFAULT_FPMATH_MODE permits products in bf16. `make soak` tries them all
(SLIPWAY_SOAK_PROCESSORS=all).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support import pico
from tests.support.streaming import calibration_rows

ROOT = Path(__file__).resolve().parents[2]
JOBS = {
    "merge": None,
    **{name: {"format": name} for name in ("nvfp4", "nvfp4a16", "mxfp4", "fp8", "fp8-dynamic")},
    "nvfp4a16 mse": {"format": "nvfp4a16", "method": "mse"},
    "mxfp4 mse": {"format": "mxfp4", "method": "mse"},
    "one worker": {"format": "nvfp4a16", "workers": 1},
}
WIDTHS = ["default", "avx2", "avx512"]
HERE = torch.backends.cpu.get_cpu_capability().lower()
SETTINGS = [  # the farthest from this machine's own
    {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    {"DNNL_DEFAULT_FPMATH_MODE": "BF16", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"},
]
COMPILED = [{}]  # of torch.compile
if os.environ.get("SLIPWAY_SOAK_PROCESSORS") == "all":
    COMPILED += [{"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}]
    SETTINGS += [
        *({"MKL_CBWR": name} for name in ("COMPATIBLE", "AVX2", "AVX512")),
        {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        *({"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count} for count in ("1", "2")),
        {"DNNL_DEFAULT_FPMATH_MODE": "BF16"},
        # a capability that the processor lacks would end in an illegal instruction
        *({"ATEN_CPU_CAPABILITY": name} for name in WIDTHS[: WIDTHS.index(HERE) + 1 if HERE in WIDTHS else 1]),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Wide enough that a BLAS takes other paths for a band than for the whole."""
    root = tmp_path_factory.mktemp("processors")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HIDDEN": 256, "INTERMEDIATE": 1280, "LAYERS": 1}.items():
            patch.setattr(pico, name, value)
        pico.pico_model(root / "model", layers=1)
        pico.pico_adapter(root / "adapter", layers=[0], rank=16, alpha=24)
    calibration_rows(root / "rows.jsonl")
    return root


def digests(folder, jobs, settings):
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "tests.support.processor_digest", str(folder)]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def reference(folder):
    return digests(folder, JOBS, {})


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: " ".join(f"{k}={v}" for k, v in each.items()))
def test_the_bytes_do_not_depend_on_the_processor(folder, reference, settings):
    assert digests(folder, JOBS, settings) == reference


def test_the_formats_differ_and_workers_do_not(reference):
    assert reference["one worker"] == reference["nvfp4a16"]
    assert len({sha for sha, _ in reference.values()}) >= len(JOBS) - 3  # weights of nvfp4 and nvfp4a16 are the same


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("settings", COMPILED, ids=str)
def test_compiled_code_writes_the_same_bytes(folder, reference, settings):
    """Without vector instructions some versions of torch generate C++ that no compiler takes: then the pass runs
    eagerly."""
    jobs = {name: {"format": name, "compile": "on"} for name in ("nvfp4a16", "mxfp4", "fp8-dynamic")}
    for name, (sha, kernels) in digests(folder, jobs, settings).items():
        assert sha == reference[name][0], name
        assert kernels == "compiled" or (settings and kernels.startswith("eager: torch cannot compile")), name
