"""One step's loss: model and objective as one module."""

from torch import Tensor, nn

from ..models import VAE
from ..objectives import Objective, Terms
from .batches import Batch
from .machine import Precision


class Step(nn.Module):
    """Batch -> terms of the loss: what autocast and DistributedDataParallel wrap.

    Args:
        model: gives the pass.
        objective: computes the loss from it.
        precision: of the pass; losses and densities are float32 in all of them.
    """

    def __init__(self, model: VAE, objective: Objective, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.precision = precision

    def forward(self, batch: Batch, step: Tensor) -> Terms:
        """The terms of each image of a batch, (B,) nats; step, (), is the number of updates made before."""
        with self.precision.autocast(batch.images.device):
            result = self.model(batch.images, batch.noise, batch.labels)
        terms: Terms = self.objective(result, step, batch.extra_noise)
        return terms
