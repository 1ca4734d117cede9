"""Measure the newest checkpoint."""

import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...config.parameters import EvaluateConfig
from ...data.images import Digits, binarise
from ...measures.bounds import active_units, importance_weighted, loss_parts, posterior_statistics
from ...storage.checkpoints import Checkpoint, check_dataset, model_from_checkpoint, weights_digest
from ...training.memory import check_evaluation

logger = logging.getLogger(__name__)


def evaluate_model(
    checkpoints: dict[str, Callable[[], Checkpoint]], test_digits: Digits, run: str, config: EvaluateConfig
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Test losses, importance-weighted NLL, active units and KL per latent dimension, each with its unit and data.

    The test digits' codes are handed on beside them: {"means": (N, Z) float32, "kl": (Z,) float64 nats averaged over
    images, "weights": (32,) uint8, the sha256 of the weights they come from}.

    Args:
        checkpoints: oldest first.
        test_digits: those the run was trained beside.
        run: the run's name.
        config: number of samples, binarisation, seed, chunk size.

    Raises:
        ConfigError: memory does not hold a chunk of that size.
        DataError: other test digits than the run's.
    """
    checkpoint = list(checkpoints.values())[-1]()
    check_dataset(checkpoint, "test", test_digits)
    model = model_from_checkpoint(checkpoint)
    images = test_digits["images"]
    check_evaluation(model, len(images), config)
    beta = checkpoint["settings"]["objective.beta"]

    grey = loss_parts(model, images, beta)
    means, kl = posterior_statistics(model, images)
    if config.binarisation == "dynamic":
        targets, sha256 = binarise(images, config.seed)
        mode = "dynamically binarised: each pixel drawn once with its grey value as probability"
        note = "an upper bound on -log p(x); compare only with figures on dynamically binarised MNIST"
    else:
        targets, sha256 = images, None
        mode = "grey pixels as Bernoulli means"
        note = "no density of grey images: compare with nothing but the same measure"
    bound = loss_parts(model, targets)
    weighted = importance_weighted(
        model, targets, config.importance_samples, seed=config.seed, chunk_size=config.chunk_size
    )
    logger.info(
        "test loss %.2f (bce %.2f, kld %.2f); importance-weighted NLL %.2f +- %.2f nats, k = %d, %s pixels; "
        "%d of %d units active",
        grey.loss,
        grey.bce,
        grey.kld,
        weighted.nll,
        weighted.standard_error,
        config.importance_samples,
        "binarised" if sha256 else "grey",
        active_units(means),
        model.latent_dim,
    )
    codes = {"means": means, "kl": kl, "weights": weights_digest(checkpoint["model_state"])}
    return {
        "run": run,
        "epoch": checkpoint["epoch"],
        "dataset": checkpoint["dataset"],
        "unit": "nats per image; lower is better",
        "test": {
            "loss": grey.loss,
            "bce": grey.bce,
            "kld": grey.kld,
            "neg_elbo": grey.neg_elbo,
            "beta": beta,
            "data_mode": "grey pixels as Bernoulli means",
            "note": "an upper bound on the NLL of dynamically binarised MNIST, a loose one; no density of grey images",
        },
        "importance_weighted_nll": {
            "value": weighted.nll,
            "standard_error": weighted.standard_error,
            "neg_elbo_of_the_same_data": bound.neg_elbo,
            "k": config.importance_samples,
            "images": len(targets),
            "data_mode": mode,
            "seed": config.seed,
            "binarisation_sha256": sha256,
            "note": note,
        },
        "active_units": {
            "count": active_units(means),
            "of": model.latent_dim,
            "definition": "Var_x(E_q[z_i]) > 0.01 over the test set (Burda et al. 2016)",
        },
        "kl_per_dimension": kl.tolist(),
    }, codes
