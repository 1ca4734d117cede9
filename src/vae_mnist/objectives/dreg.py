"""The importance-weighted bound with doubly reparameterised gradients (Tucker et al. 2019, arXiv:1810.04152)."""

from torch import Tensor

from ..models import Pass
from ..models.gaussian import DiagonalGaussian
from .iwae import Iwae, importance_weighted_nll
from .terms import Terms


class Dreg(Iwae):
    """The loss of `Iwae` with another gradient of the same expectation.

    Decoder and prior have their samples weighed by the normalised weights w, as in `Iwae`. The posterior has no score
    term, and the path through each sample weighs w squared (eq. 8); its gradient gets better, not worse, with more
    samples.

    Args:
        samples: S, of each image.
    """

    def forward(self, result: Pass, step: Tensor, noise: Tensor | None = None) -> Terms:  # noqa: ARG002 needs neither
        """The loss, and the parts of the plain bound averaged over the samples; see `Objective.forward`."""
        (posterior,), (z,) = result.posteriors, result.z
        # The posterior learns through z alone.
        fixed = DiagonalGaussian(posterior.mean.detach(), posterior.logvar.detach())
        log_weights = result.log_p.sum(-1) - fixed.log_prob(z) - result.nll  # (S, B)
        if z.requires_grad:
            normalised = log_weights.detach().softmax(0)[..., None]  # (S, B, 1)
            # What arrives here has been weighed once, by the loss.
            z.register_hook(lambda gradient: gradient * normalised)
        return Terms(importance_weighted_nll(log_weights), result.distortion, result.rate, {})
