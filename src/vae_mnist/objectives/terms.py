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
    adversary: Tensor | None = None  # minimised by a second player, whose weights the loss does not depend on

    @property
    def minimised(self) -> Tensor:
        """What one backward pass is made of: the loss, and that of the second player if there is one."""
        return self.loss if self.adversary is None else self.loss + self.adversary


class Objective(nn.Module, ABC):
    """What training minimises; its weights, if it has any, are trained with the model's."""

    samples: int = 1  # S, posterior samples that it needs of each image
    noise_dim: int = 0  # E, standard normal numbers that it needs of each image, besides those of the model
    # Of its own weights, where they differ from the model's: {"lr": 1e-4, "betas": (0.5, 0.9)}
    optimizer_settings: Mapping[str, float | tuple[float, float]] = {}

    @abstractmethod
    def forward(self, result: Pass, step: Tensor, noise: Tensor | None = None) -> Terms:
        """The terms of a pass with S samples.

        Args:
            result: of the model.
            step: (), how many updates were made before.
            noise: (B, E) standard normal; not needed where E is 0.
        """

    def beta_at(self, step: Tensor) -> float | Tensor:  # noqa: ARG002 for objectives that change during training
        """The weight in force, which the history shows as beta: of the rate, if the objective says nothing else."""
        return 1.0
