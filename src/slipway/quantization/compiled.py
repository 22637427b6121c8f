"""One source of the arithmetic, run eagerly or compiled, with the same bytes.

On a CPU the merge and NVFP4, which most passes are made of, have loops of our own (`weights.merge_kernel`,
`nvfp4_kernel`), each used only where it gives the eager bytes. For the rest, and where those loops cannot be had:

`torch.compile` turns the functions of `fp4`, `formats` and `lora` into C++ for the CPU and Triton for the GPU. Three
options keep the bits: casts to bf16 really round (`emulate_precision_casts`), division is IEEE's, and no subnormal is
flushed. On a CPU the wrapper is C++ too, because that one releases the GIL: worker threads then run side by side.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeVar, cast

import torch
import torch.fx.experimental._config

from slipway.quantization.formats import Nvfp4
from slipway.quantization.nvfp4_kernel import nvfp4_kernel
from slipway.system.native_code import compiler
from slipway.weights.merge_kernel import MergeKernel, merge_kernel

Mode = Literal["auto", "on", "off"]
F = TypeVar("F", bound=Callable[..., Any])
WORTH_COMPILING = 1_000_000_000  # bytes of weights; below it the eager run ends before the compiler has started
_SAME_BITS = (
    "emulate_precision_casts",
    "eager_numerics.division_rounding",
    "eager_numerics.disable_ftz",
    "emulate_divison_rounding",
)


class Kernels:
    """Runs a function eagerly or compiled for `device`. `why` says in a few words which, and why."""

    def __init__(self, device: torch.device, mode: Mode, nbytes: int) -> None:
        if mode == "off":
            self.compiled, self.why = False, "eager: as asked"
        elif mode == "auto" and device.type == "cuda":
            self.compiled, self.why = False, "eager: on a GPU reading and writing take longer"
        elif mode == "auto" and nbytes < WORTH_COMPILING:
            self.compiled, self.why = False, "eager: small model"
        else:  # asked last: on CUDA the question alone imports Triton and torch._dynamo
            missing = _missing_compiler(device)
            self.compiled, self.why = not missing, f"eager: no {missing}" if missing else "compiled"
        self._device = device
        # A GPU is fed by one thread at a time: launches of several threads only wait for the GIL between each other.
        self.turn: AbstractContextManager[Any] = threading.Lock() if device.type == "cuda" else nullcontext()

    def __call__(self, function: F) -> F:
        if not self.compiled:
            return function
        if self.reads_once(function):
            return cast(F, nvfp4_kernel())
        compiled: F = _compile(function, self._device.type)
        return compiled

    def reads_once(self, function: Callable[..., Any]) -> bool:
        """Whether the function is a loop of our own here, which goes through its input once, from begin to end."""
        is_nvfp4 = getattr(function, "__func__", None) is Nvfp4.encode
        return self.compiled and self._device.type == "cpu" and is_nvfp4 and nvfp4_kernel() is not None

    def merge(self) -> MergeKernel | None:
        """The compiled merge of bands for one thread; None where torch's operations, eager or compiled, make it."""
        return merge_kernel() if self.compiled and self._device.type == "cpu" else None

    def try_out(self, function: Callable[..., Any], tensors: Sequence[torch.Tensor]) -> None:
        """Compile `function` and run it on copies of `tensors`. From then on everything runs eagerly when torch cannot
        compile it here, or when a result or a changed argument is not the eager run's, bit for bit."""
        if not self.compiled:
            return
        name = getattr(function, "__qualname__", function)
        results = []
        for way in (function, self(function)):
            own = {id(tensor): tensor.clone() for tensor in tensors}  # the same tensor twice stays the same
            copies = [own[id(tensor)] for tensor in tensors]
            try:
                results.append([_raw(tensor) for tensor in (*_tensors(way(*copies)), *copies)])
            except RuntimeError:  # torch's compiler wraps what goes wrong in it
                if way is function:
                    raise
                self.compiled, self.why = False, f"eager: torch cannot compile {name} here"
                return
        if not all(map(torch.equal, *results)):
            self.compiled, self.why = False, f"eager: compiled {name} rounds otherwise here"


def _tensors(result: Any) -> list[torch.Tensor]:
    return list(result.values()) if isinstance(result, dict) else [result]


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _missing_compiler(device: torch.device) -> str | None:
    """What `torch.compile` needs here and does not find."""
    if device.type == "cpu" and compiler() is None:
        return "C++ compiler (g++ or clang++)"
    if device.type == "cuda":
        from torch.utils._triton import has_triton  # `import torch` alone does not bring this module

        if not has_triton():
            return "Triton"
    return None


@functools.cache
def _compile(function: F, device: str) -> F:
    known = set(torch._inductor.list_options())
    options: dict[str, Any] = {name: True for name in _SAME_BITS if name in known}
    if device == "cpu":
        options |= {"cpp_wrapper": True, "cpp.threads": 1}
    return cast(F, _Compiled(function, torch.compile(function, dynamic=True, options=options)))


class _Gate:
    """Compiled code runs in many threads at a time; the compiler alone: it marks the whole process as being traced."""

    def __init__(self) -> None:
        self._changed, self._running = threading.Condition(), 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._running == 0)
            yield


_GATE = _Gate()
_SHAPES: Any = torch.fx.experimental._config  # sizes that happen to be equal on the first call may differ on the next


class _Compiled:
    """Compiled for any sizes on the first call with these dtypes in this thread state; rows or columns of one run
    eagerly."""

    def __init__(self, eager: Callable[..., Any], compiled: Callable[..., Any]) -> None:
        self._eager, self._compiled, self._seen = eager, compiled, set[Any]()

    def __call__(self, *tensors: torch.Tensor) -> Any:
        if any(1 in t.shape for t in tensors):  # torch.compile makes another version for each of these
            return self._eager(*tensors)
        state = (torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        key = (state, *((t.dtype, t.dim(), t.is_contiguous(), t is tensors[0]) for t in tensors))
        if key in self._seen:
            with _GATE.shared():
                return self._compiled(*tensors)
        with _GATE.exclusive(), _SHAPES.patch(use_duck_shape=False):
            result = self._compiled(*tensors)
            self._seen.add(key)
            return result
