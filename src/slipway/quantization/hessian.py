"""What calibration says of one matmul's inputs: how much an error in each weight changes the output.

For inputs x (tokens [T, I]) and an error E in the weight, the outputs' squared error is sum |E x|^2 = tr(E H E^T), with

    H = X^T X,  fp32 [I, I].

When the layers before are already quantized, x is not what the bf16 network feeds here, x0. Wanted is W_hat x ~ W x0,
and the unrounded weight that does it best is

    W' = W + W D (H + lambda)^-1,    D = (X0 - X)^T X,    lambda = damping * mean(diag H):

round W' instead of W under H (Qronos, arXiv 2505.11695, and GPTAQ, arXiv 2504.02692, correct the same mismatch).
Sums are made batch by batch in the order given, in fp32: the same batches give the same bits on one device.
"""

from __future__ import annotations

import torch

from slipway.errors import CheckpointError

DAMPING = 0.1  # of the mean of H's diagonal: holds what calibration did not see where it is
_MOST_DAMPING = 1.0
_LOOK = "look for damaged weights or calibration rows, or exclude this module from quantization"


class Moments:
    """H and D of one matmul's inputs, added up batch by batch."""

    def __init__(self, name: str, features: int, device: torch.device | str = "cpu", *, drift: bool = False) -> None:
        """`drift`: also add up D; every batch then needs the bf16 network's inputs."""
        self.name, self.tokens = name, 0
        self.hessian = torch.zeros(features, features, device=device)
        self.drift = torch.zeros_like(self.hessian) if drift else None

    def add(self, x: torch.Tensor, exact: torch.Tensor | None = None) -> None:
        """Inputs x [T, I] of the network so far quantized; `exact` [T, I], the bf16 network's for the same tokens."""
        x = x.float()
        self.tokens += len(x)
        self.hessian.addmm_(x.T, x)
        if self.drift is not None and exact is not None:
            self.drift.addmm_((exact.float() - x).T, x)

    def check(self) -> None:
        """Raises CheckpointError when there is nothing here to round by."""
        diagonal = self.hessian.diagonal()
        if not torch.isfinite(diagonal).all():
            raise CheckpointError(f"calibration inputs of {self.name}", "NaN or Inf", "finite activations", _LOOK)
        if not diagonal.any():
            raise CheckpointError(
                f"calibration inputs of {self.name}", f"all zero over {self.tokens} tokens", "activations", _LOOK
            )


def damped_cholesky_(hessian: torch.Tensor, damping: float = DAMPING) -> torch.Tensor:
    """L [I, I], lower, of H + lambda, which is left in `hessian`.

    Where rounding in H leaves that not positive definite, ten times the damping, up to the mean of the diagonal: it
    draws the rounding toward nearest, no more. Raises CheckpointError beyond.
    """
    diagonal, added = hessian.diagonal(), 0.0
    mean = diagonal.mean()
    while damping <= _MOST_DAMPING:
        diagonal.add_((damping - added) * mean)
        factor: torch.Tensor
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if not failed.item() and torch.isfinite(factor.diagonal()).all():
            return factor
        damping, added = 10 * damping, damping
    raise CheckpointError(
        "Hessian", f"not positive definite, mean diagonal {mean.item():.3g}", "X^T X of finite inputs", _LOOK
    )


def compensated(
    weight: torch.Tensor, hessian: torch.Tensor, drift: torch.Tensor, damping: float = DAMPING
) -> torch.Tensor:
    """W' fp32 [O, I]: the weight that makes of the quantized network's inputs what `weight` makes of the bf16
    network's."""
    weight = weight.float()
    factor = damped_cholesky_(hessian.clone(), damping)
    return weight + torch.cholesky_solve((weight @ drift).T, factor).T
