"""What calibration measures of a layer: the largest input of each matmul, the largest key and value, and for GPTQ the
inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch

from slipway.calibration.layer_calls import LayerSpec
from slipway.calibration.observers import SeenEnoughError
from slipway.quantization import fusion


class InputStatistics:
    """Observer of one layer. Inputs that several weights share (q/k/v; gate/up; all experts) have one largest
    magnitude."""

    def __init__(self, linears: Iterable[str], leaders: frozenset[str] = frozenset(), *, squares: bool = True) -> None:
        """`leaders`: weights whose inputs are held whole, per micro-batch; the first weight of each group that
        shares an input. `squares`: add up what `importance` returns."""
        self._group = {name: group[0] for group in fusion.input_groups(linears) for name in group}
        self._amax: dict[str, torch.Tensor] = {}
        self._squares: dict[str, torch.Tensor] = {}
        self._tokens: dict[str, int] = {}
        self.keys = self.values = torch.zeros(())
        self._leaders, self._with_squares = leaders, squares
        self.inputs: dict[str, torch.Tensor] = {}  # of the micro-batch just run; who runs the layer takes them
        self.products = Counter[str]()  # of each leader, in all micro-batches

    def linear(self, names: tuple[str, ...], x: torch.Tensor, expert: int | None) -> None:  # noqa: ARG002
        """Take the input `x`, [..., I], of the linears called `names`; `expert` is None outside experts."""
        for name in names:
            if name in self._group:
                self._add(name, x)
            if name in self._leaders:
                self.inputs[name] = x
                self.products[name] += 1

    def _add(self, name: str, x: torch.Tensor) -> None:
        if x.numel() == 0:
            return
        group, amax = self._group[name], x.abs().amax().float()
        self._amax[group] = torch.maximum(self._amax.get(group, amax), amax)
        if not self._with_squares:
            return
        squares = x.float().square().sum(0)
        self._squares[name] = self._squares[name] + squares if name in self._squares else squares
        self._tokens[name] = self._tokens.get(name, 0) + len(x)

    def attention(self, layer: LayerSpec, key: torch.Tensor, value: torch.Tensor) -> None:  # noqa: ARG002
        """Take a layer's keys and values, of which the largest magnitudes are held as fp32 scalars."""
        self.keys = torch.maximum(self.keys.to(key.device), key.abs().amax().float())
        self.values = torch.maximum(self.values.to(value.device), value.abs().amax().float())

    def amax(self, name: str) -> torch.Tensor | None:
        """Largest magnitude of the inputs that share a scale with this weight's, fp32 scalar; None if no token came
        by."""
        return self._amax.get(self._group.get(name, name))

    def importance(self, names: Sequence[str]) -> torch.Tensor | None:
        """E[x_i^2] fp32 [I] over the inputs of these weights; None if no token came by."""
        measured = [name for name in names if name in self._squares]
        if not measured:
            return None
        squares = torch.stack([self._squares[name] for name in measured]).sum(0)
        return squares / sum(self._tokens[name] for name in measured)


class InputOf:
    """Observer of one matmul of a layer, which ends the layer there where that is all that is wanted."""

    def __init__(self, name: str, *, last: bool) -> None:
        """`last`: nothing of the layer is needed after this weight's first product."""
        self._name, self._last = name, last
        self.input: torch.Tensor | None = None  # [tokens, in] of the micro-batch just run; who runs the layer takes it

    def linear(self, names: tuple[str, ...], x: torch.Tensor, expert: int | None) -> None:  # noqa: ARG002
        """Take the input `x`, [tokens, in], if it is this weight's. Raises SeenEnoughError to end the layer."""
        if self._name in names:
            self.input = x
            if self._last:
                raise SeenEnoughError

    def attention(self, layer: LayerSpec, key: torch.Tensor, value: torch.Tensor) -> None:
        """Nothing is asked of it."""
