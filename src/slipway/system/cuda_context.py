"""The CUDA context of the first GPU, made in a thread while Python imports torch.

Making it takes some tenths of a second to seconds, in the driver and outside the GIL, and `import torch` takes seconds
on one core; one after the other they are a fifth of the time in which an 8B model is quantized. torch computes in the
device's primary context, which is what is retained here, so that it finds the work done. Nothing is reported: whether
there is a GPU, and which errors it has, is for torch to say.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from pathlib import Path

_DRIVER = "libcuda.so.1"


def start_context() -> threading.Thread | None:
    """Begin to make the primary context of the first visible GPU. None where torch is built without CUDA."""
    if not _torch_has_cuda():
        return None
    thread = threading.Thread(target=_retain, name="cuda context", daemon=True)
    thread.start()
    return thread


def _torch_has_cuda() -> bool:
    """Whether the installed torch is a CUDA build, by its files: to import it is what takes the time."""
    spec = importlib.util.find_spec("torch")
    return bool(spec and spec.origin and (Path(spec.origin).parent / "lib/libtorch_cuda.so").exists())


def _retain() -> bool:
    """cuInit, cuDeviceGet, cuDevicePrimaryCtxRetain; whether all of them worked. Never released: it lives as long as
    the process, as torch's own does."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    device, context = ctypes.c_int(), ctypes.c_void_p()
    return bool(
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), 0) == 0
        and driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    )
