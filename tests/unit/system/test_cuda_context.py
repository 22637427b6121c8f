"""The context is made by the driver's calls in their order, in a thread; no driver, no CUDA build, no GPU: nothing."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

import pytest

from slipway.system import cuda_context, native_code
from slipway.system.cuda_context import start_context

# A driver with one device, which writes down how it is called; cuInit fails where FAILS is defined.
DRIVER = """
#include <cstring>
static char calls[64];
extern "C" const char *written() { return calls; }
extern "C" int cuInit(unsigned flags) { std::strcat(calls, flags ? "?" : "i"); return FAILS; }
extern "C" int cuDeviceGet(int *device, int ordinal) { std::strcat(calls, "d"); *device = 7 + ordinal; return 0; }
extern "C" int cuDevicePrimaryCtxRetain(void **, int device) { std::strcat(calls, device == 7 ? "r" : "?"); return 0; }
"""


def driver(folder: Path, fails: int) -> ctypes.CDLL:
    """The path of such a driver, loaded."""
    source = folder / "driver.cpp"
    source.write_text(DRIVER.replace("FAILS", str(fails)))
    made = native_code.library(source)
    assert made is not None
    made.written.restype = ctypes.c_char_p
    return made


@pytest.mark.skipif(native_code.compiler() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("fails, calls", [(0, b"idr"), (100, b"i")])  # 100: CUDA_ERROR_NO_DEVICE
def test_the_primary_context_of_the_first_device_is_retained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int, calls: bytes
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = driver(tmp_path, fails)
    monkeypatch.setattr(cuda_context, "_DRIVER", made._name)
    monkeypatch.setattr(cuda_context, "_torch_has_cuda", lambda: True)
    thread = start_context()
    assert thread is not None and thread.daemon
    thread.join(60)
    assert not thread.is_alive() and made.written() == calls


def test_without_a_driver_the_thread_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_context, "_DRIVER", "libno-such-driver.so.1")
    assert cuda_context._retain() is False


def test_where_torch_has_no_cuda_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spec:
        origin = str(tmp_path / "torch/__init__.py")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: Spec)
    assert start_context() is None
    (tmp_path / "torch/lib").mkdir(parents=True)
    (tmp_path / "torch/lib/libtorch_cuda.so").touch()
    assert cuda_context._torch_has_cuda()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert start_context() is None
