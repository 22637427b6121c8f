"""Weights on the device that computes: read in bands, merged in bands, checked on the way.

    stored bytes --pread--> host band --copy--> device band --add product, round--> bf16 weight, max|W|

A band is a run of rows small enough for a CPU's cache (or large enough for a GPU's copy engines), so that beyond the
bf16 weight itself only a band's worth of fp32 exists. The merge is the correctly rounded one
(`slipway.weights.rounded_merge`): its bytes depend on neither the band nor the device.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch

from slipway.errors import CheckpointError
from slipway.quantization.compiled import Kernels
from slipway.weights.rounded_merge import Factors, Open, add_product, settle, still_open
from slipway.weights.shards import LowRank, MergeRecipe, TensorInfo, WeightSource, require_finite

# Weights a band. On a CPU 1 MB of bf16 and its fp32 product stay in the shared cache, and calling BLAS, compiled code
# and NumPy costs a fifth of the band's time (bands half or twice as large merge more slowly); 32 MB keeps PCIe busy.
CPU_BAND, GPU_BAND = 1 << 19, 1 << 24


def band_rows(columns: int, device: torch.device) -> int:
    """Rows of a band."""
    return max(1, (CPU_BAND if device.type == "cpu" else GPU_BAND) // max(columns, 1))


def largest(rows: torch.Tensor) -> torch.Tensor:
    """Largest magnitude, fp32 scalar; NaN and Inf come through."""
    return rows.float().abs().amax()


_STAGING = threading.local()


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself on a CPU; from a GPU a copy in this thread's pinned memory, good until the thread's next
    call."""
    if tensor.device.type == "cpu":
        return tensor
    pinned: torch.Tensor | None = getattr(_STAGING, "pinned", None)
    if pinned is None or pinned.numel() < tensor.nbytes:
        pinned = _STAGING.pinned = torch.empty(tensor.nbytes, dtype=torch.uint8, pin_memory=True)
    view = pinned[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    view.copy_(tensor, non_blocking=True)
    copied.record()
    copied.synchronize()
    return view


@dataclass
class Loaded:
    """A weight, bf16 on the device, with its largest magnitude as an fp32 scalar there."""

    weight: torch.Tensor
    amax: torch.Tensor


class Loader:
    """Loads tensors of one source to one device. Each thread needs its own: it holds pinned staging memory."""

    def __init__(self, source: WeightSource, device: torch.device, kernels: Kernels) -> None:
        self._source, self._device = source, device
        self._turn, self._fused = kernels.turn, kernels.merge()
        self._add = kernels(add_product) if self._fused is None else add_product
        self._largest = kernels(largest) if self._fused is None else self._fused.largest
        self._arena, self._used = torch.empty(0, dtype=torch.uint8), 0
        self._band_buffer = torch.empty(0, dtype=torch.uint8)
        self._low = torch.empty(0, dtype=torch.bfloat16, device=device)  # a band merged at the lower end of its error
        self._product = torch.empty(0)  # of a band and an update, on a CPU
        self._last: tuple[str, MergeRecipe, list[Factors]] | None = None  # the tensor whose bands are being read
        self._pinned: list[torch.Tensor] = []
        copies = 2 if device.type == "cuda" else 0
        self._copied = [torch.cuda.Event() for _ in range(copies)]  # type: ignore[no-untyped-call]

    def begin(self, nbytes: int) -> None:
        """Room for tensors of `nbytes` in all; what was loaded before is gone. Memory once touched is used again: the
        kernel needs longer to hand out fresh pages than to fill them."""
        if self._device.type == "cpu" and self._arena.numel() < nbytes:
            self._arena = torch.empty(0, dtype=torch.uint8)
            self._arena = torch.empty(nbytes, dtype=torch.uint8)
        self._used = 0

    def end(self, share: float) -> None:
        """What was loaded is done with. Memory above `share` bytes goes back, so that what threads keep stays within a
        budget."""
        self._last = None
        if self._arena.numel() > share:
            self._arena = torch.empty(0, dtype=torch.uint8)

    def _empty(self, shape: tuple[int, ...]) -> torch.Tensor:
        nbytes = TensorInfo(torch.bfloat16, shape).nbytes
        if self._used + nbytes > self._arena.numel():
            return torch.empty(shape, dtype=torch.bfloat16, device=self._device)
        view = self._arena[self._used : self._used + nbytes].view(torch.bfloat16).view(shape)
        self._used += nbytes
        return view

    def load(self, name: str) -> Loaded:
        """The merged tensor in bf16. Raises CheckpointError naming the tensor that holds NaN or Inf."""
        info, (recipe, factors) = self._source.info(name), self._recipe(name)
        out = self._empty(info.shape)
        rows = out.reshape(-1, info.shape[-1]) if info.shape else out.reshape(1, 1)
        opens: list[Open] = []
        amaxes = [
            self._band(rows, begin, recipe, factors, opens)
            for begin in range(0, rows.shape[0], band_rows(rows.shape[1], self._device))
        ]
        amax = self._settle(rows, 0, factors, opens, amaxes)
        if not torch.isfinite(amax):
            self._source.read(name)  # the careful way: it names which of base, adapter and sum is not finite
            raise CheckpointError(
                f"tensor {name}", f"largest magnitude {float(amax)}", "finite values", "use an undamaged file"
            )
        return Loaded(out, amax)

    def _recipe(self, name: str) -> tuple[MergeRecipe, list[Factors]]:
        """How a tensor comes to be, and the factors of its updates on the device; made once a tensor."""
        if self._last is None or self._last[0] != name:
            recipe = self._source.recipe(name)
            with self._turn:
                self._last = name, recipe, [self._factors(update) for update in recipe.updates]
        return self._last[1:]

    def _factors(self, update: LowRank) -> Factors:
        return Factors.of(update, self._device) if self._fused is None else self._fused.factors(update)

    def bands(self, name: str, rows: tuple[int, int]) -> list[tuple[int, int]]:
        """(first row, rows) of the bands of a run of a tensor's rows; one empty band if there are none."""
        (first, count), shape = rows, self._source.info(name).shape
        step = band_rows(shape[-1] if shape else 1, self._device)
        return [(begin, min(step, first + count - begin)) for begin in range(first, first + count, step)] or [
            (first, 0)
        ]

    def band(self, name: str, begin: int, count: int, *, as_stored: bool = False) -> torch.Tensor:
        """Rows `begin` to `begin + count` of a tensor that is passed on: merged in bf16, or as stored when asked to or
        when it is not floating."""
        info, (recipe, factors) = self._source.info(name), self._recipe(name)
        columns = info.shape[-1] if info.shape else 1
        if as_stored or not info.dtype.is_floating_point:
            info = recipe.info
            out = torch.empty((count, columns), dtype=info.dtype)
            recipe.stored.fetch(recipe.name, out, begin * columns * info.dtype.itemsize)
            require_finite(f"tensor {name}", out)
            return out
        out = torch.empty((count, columns), dtype=torch.bfloat16, device=self._device)
        opens: list[Open] = []
        amaxes = [self._band(out, begin, recipe, factors, opens, into=0)] if count else []
        if not torch.isfinite(self._settle(out, begin, factors, opens, amaxes)):
            self._source.read(name)
            raise CheckpointError(f"tensor {name}", "NaN or Inf", "finite values", "use an undamaged file")
        return out

    def _band(
        self,
        rows: torch.Tensor,
        begin: int,
        recipe: MergeRecipe,
        updates: list[Factors],
        opens: list[Open],
        into: int | None = None,
    ) -> torch.Tensor:
        """Fill a band of `rows` and return its largest magnitude; `begin` counts in the stored tensor, `into` in
        `rows`.

        What the last update leaves open is added to `opens`, for `_settle`; what others do is settled at once.
        """
        at = begin if into is None else into
        target = rows[at : at + band_rows(rows.shape[1], self._device)]
        host, copied = self._fetch(target, begin, recipe)
        with self._turn:
            stored = host
            if copied:
                as_stored = recipe.info.dtype == torch.bfloat16 and not updates
                stored = target if as_stored else torch.empty_like(target, dtype=recipe.info.dtype)
                stored.copy_(host, non_blocking=True)
                copied.record()
            if not updates:
                if stored is not target:
                    target.copy_(stored)
                return self._largest(target)
        still: list[Open] = []
        for i, factors in enumerate(updates):
            if i:
                if still:
                    settle(target, begin, updates[i - 1], still)
                stored = target.clone()
            amax, still = self._merge(stored, factors, begin, target)
        opens += still
        return amax

    def _merge(
        self, stored: torch.Tensor, factors: Factors, begin: int, target: torch.Tensor
    ) -> tuple[torch.Tensor, list[Open]]:
        """target = bf16(stored + product), but for what is returned as open; with the largest magnitude of target."""
        if self._fused is not None:
            return self._fused.add(stored, factors, begin, target)
        low = self._lower(target.shape)
        with self._turn:
            bound = factors.bound[begin : begin + target.shape[0]]
            amax = self._add(stored, self._multiply(factors, begin, target.shape), bound, target, low)
        return amax, [still_open(stored, target, low, begin)]  # out of turn: on a GPU this waits for the band

    def _settle(
        self, rows: torch.Tensor, first_row: int, updates: list[Factors], opens: list[Open], amaxes: list[torch.Tensor]
    ) -> torch.Tensor:
        """Decide what bands left open, and return the largest magnitude of all: an fp32 scalar, rounded to bf16."""
        with self._turn:
            if not amaxes:
                return torch.zeros((), device=self._device)
            amax = torch.stack(amaxes).amax().to(torch.bfloat16)
            if opens and bool(settle(rows, first_row, updates[-1], opens).to(self._device) >= amax):
                amax = rows.abs().amax()
            return amax.float()

    def _multiply(self, factors: Factors, begin: int, shape: torch.Size) -> torch.Tensor:
        """A band of an update's product: on a CPU in memory that is used again, for the reason in `begin`."""
        if self._device.type != "cpu":
            return factors.product(begin, shape[0])
        if self._product.numel() < shape.numel():
            self._product = torch.empty(shape.numel())
        return factors.product(begin, shape[0], self._product[: shape.numel()].view(shape))

    def _lower(self, shape: torch.Size) -> torch.Tensor:
        if self._low.numel() < shape.numel():
            self._low = torch.empty(shape.numel(), dtype=torch.bfloat16, device=self._device)
        return self._low[: shape.numel()].view(shape)

    def _fetch(
        self, target: torch.Tensor, begin: int, recipe: MergeRecipe
    ) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        """The stored rows on the host: in the weight itself where nothing is added to them, else in a buffer that stays
        in the core's cache; for a GPU in pinned memory, with the event to record after it is copied."""
        dtype, copied = recipe.info.dtype, None
        if self._device.type == "cuda":
            pinned, copied = self._next_pinned(target.numel() * dtype.itemsize)
            host = pinned.view(dtype).view(target.shape)
        else:
            host = target if dtype == torch.bfloat16 and not recipe.updates else self._near(target.shape, dtype)
        recipe.stored.fetch(recipe.name, host, begin * target.shape[1] * dtype.itemsize)
        return host, copied

    def _near(self, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        nbytes = TensorInfo(dtype, tuple(shape)).nbytes
        if self._band_buffer.numel() < nbytes:
            self._band_buffer = torch.empty(nbytes, dtype=torch.uint8)
        return self._band_buffer[:nbytes].view(dtype).view(shape)

    def _next_pinned(self, nbytes: int) -> tuple[torch.Tensor, torch.cuda.Event]:
        """The pinned buffer used longer ago, once its copy is done."""
        if not self._pinned or self._pinned[0].numel() < nbytes:
            self._copied[0].synchronize()
            self._copied[1].synchronize()
            self._pinned = [torch.empty(nbytes, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self._pinned.reverse()
        self._copied.reverse()
        self._copied[0].synchronize()
        return self._pinned[0][:nbytes], self._copied[0]
