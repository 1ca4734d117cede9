"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum, orthogonalised matrix by matrix."""

from collections import defaultdict
from collections.abc import Iterable
from math import sqrt
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
# Each singular value s, at most 1, becomes a s + b s^3 + c s^5: five times over, all but the smallest come near 1.
_COEFFICIENTS, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5
_RMS = 0.2  # of a step's entries, as Adam's are, so that one learning rate does for both (Liu et al. 2025, eq. 4)


class Muon(torch.optim.AdamW):
    """Muon for the groups of weights with `orthogonal` true, AdamW for all others.

    The matrix of a convolution has a row for each entry of its first dimension. Learning rate and decoupled weight
    decay of a group mean what they mean for AdamW (Liu et al. 2025, arXiv:2502.16982).

    Args:
        groups: of weights, as for every PyTorch optimizer; each has `orthogonal`.
        settings: of AdamW.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **settings: Any) -> None:  # noqa: ANN401 they are AdamW's
        super().__init__(groups, **settings)
        self._step_supports_amp_scaling = False  # the scaler is to divide the gradients before the step

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure: nobody gives one
        """Take one step; gradients of orthogonalised weights are gone afterwards."""
        for group in self.param_groups:
            if group["orthogonal"]:
                self._orthogonal_step(group)
        super().step()

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)  # orthogonalised in one batch
        for weight in group["params"]:
            if (gradient := weight.grad) is None:
                continue
            weight.grad = None  # so that AdamW passes it by
            state = self.state[weight]
            if not state:
                state |= {"step": torch.tensor(0.0), "momentum": torch.zeros_like(weight)}
            state["step"] += 1
            momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
            alike[weight.shape].append((weight, torch.lerp(gradient, momentum, MOMENTUM)))  # Nesterov's
        for shape, pairs in alike.items():
            matrices = orthogonalised(torch.stack([direction.flatten(1) for _, direction in pairs]))
            rate = group["lr"] * _RMS * sqrt(max(matrices.shape[1:]))
            for (weight, _), matrix in zip(pairs, matrices, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(matrix.view(shape), alpha=rate)


def orthogonalised(matrices: Tensor) -> Tensor:
    """U V^T of each matrix U S V^T, roughly: singular values come to between 0.7 and 1.2, very small ones to less.

    Args:
        matrices: (N, rows, columns), of any scale.
    """
    a, b, c = _COEFFICIENTS
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT  # the smaller square is the faster
    x = wide.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    result: Tensor = x if wide is matrices else x.mT
    return result.to(matrices.dtype)
