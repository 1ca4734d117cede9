"""The negative evidence lower bound."""

from torch import Tensor

from ..models import Pass
from .terms import Objective, Terms


class Elbo(Objective):
    """distortion + beta x rate, of one posterior sample (Kingma & Welling 2014, eq. 3; Higgins et al. 2017).

    Args:
        beta: weight of the rate; at 1 the loss is the negative evidence lower bound.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, result: Pass, step: Tensor) -> Terms:  # noqa: ARG002 for objectives that change during training
        """The loss and its parts; see `Objective.forward`."""
        distortion, rate = result.distortion, result.rate
        return Terms(distortion + self.beta * rate, distortion, rate, {})
