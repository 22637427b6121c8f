"""Dropout whose masks follow from the seed of a micro-batch and the module's place, not from an order of calls.

PyTorch's own draws from one generator of the process: two micro-batches at once would draw in any order, and a layer
that is computed again for the backward pass would need the generator's state of then. Here a mask is the same whenever
it is drawn, in whatever thread, in a resumed run too.
"""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import nn
from torch.nn.functional import dropout

from slipway.training.lanes import drawn_seed


class SeededDropout(nn.Module):
    """Zeroes elements with probability `p` and scales the others by 1/(1 - p), by a mask for `place`. Outside of a step
    it is PyTorch's."""

    def __init__(self, p: float, place: int) -> None:
        super().__init__()
        self.p, self.place = p, place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape; the same in evaluation mode."""
        seed = drawn_seed()
        if not self.training or seed is None:
            return dropout(x, self.p, self.training)
        # torch's generator takes 32 bits of a seed
        digest = blake2b(f"{seed} {self.place}".encode(), digest_size=4).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest))
        mask = torch.empty_like(x).bernoulli_(1 - self.p, generator=generator)
        return x * mask.div_(1 - self.p)


def seed_dropouts(model: nn.Module) -> None:
    """Replace every dropout of `model` by one that draws by its place."""
    for place, (name, module) in enumerate(list(model.named_modules())):
        if isinstance(module, nn.Dropout):
            parent, _, attribute = name.rpartition(".")
            model.get_submodule(parent).register_module(attribute, SeededDropout(module.p, place))
