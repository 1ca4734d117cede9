"""The terms of a loss, and the base class of objectives."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from ..models import Pass


class Terms(NamedTuple):
    """The loss of each image and its parts, (B,) nats each; lower is better."""

    loss: Tensor  # minimised
    distortion: Tensor  # -log p(x|z)
    rate: Tensor  # KL(q(z|x) || p(z)); with the distortion the negative evidence lower bound
    extra: dict[str, Tensor]  # logged as well


class Objective(nn.Module, ABC):
    """What training minimises; its weights, if it has any, are trained with the model's."""

    samples: int = 1  # S, posterior samples that it needs of each image
    # Of its own weights, where they differ from the model's: {"lr": 1e-4, "betas": (0.5, 0.9)}
    optimizer_settings: Mapping[str, float | tuple[float, float]] = {}

    @abstractmethod
    def forward(self, result: Pass, step: Tensor) -> Terms:
        """The terms of a pass with S samples.

        Args:
            result: of the model.
            step: (), how many updates were made before.
        """
