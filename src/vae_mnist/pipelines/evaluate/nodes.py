"""Measure the newest checkpoint."""

import logging
from collections.abc import Callable
from functools import partial
from itertools import chain
from math import ceil

from torch import Tensor

from ...config.parameters import EvaluateConfig, TrainConfig
from ...data.images import Digits
from ...data.pixels import binarise
from ...measures.bounds import Losses, average_terms, importance_weighted
from ...measures.decomposition import decompose_rate, evenly_spread
from ...measures.latents import ACTIVE_UNIT_THRESHOLD, active_units, posterior_statistics
from ...measures.measured import Measured, Value
from ...models import model_from_checkpoint
from ...objectives import Elbo, objective_from_checkpoint
from ...storage.checkpoints import Checkpoint, weights_digest
from ...training.machine import resolve_machine
from ...training.memory import check_memory, evaluation_need
from ...training.resume import check_dataset

logger = logging.getLogger(__name__)

Partitions = dict[str, Callable[[], Checkpoint]]

NATS = "nats per image"


def measure_bounds(
    checkpoints: Partitions, test_digits: Digits, config: EvaluateConfig, train: TrainConfig
) -> list[Measured]:
    """Test losses, and the importance-weighted bound on the likelihood.

    Args:
        checkpoints: oldest first.
        test_digits: those that the run was trained with.
        config: number of samples, binarisation, seed, chunk size.
        train: device, precision and threads.

    Raises:
        ConfigError: memory does not hold a chunk of that size.
        DataError: other test digits than the run's.
    """
    checkpoint, machine = list(checkpoints.values())[-1](), resolve_machine(train)
    check_dataset(checkpoint, "test", test_digits)
    model = model_from_checkpoint(checkpoint).to(machine.device)
    images, count, samples = test_digits["images"], len(test_digits["labels"]), config.importance_samples
    need, rows = partial(evaluation_need, model, count, samples), min(config.chunk_size, count * samples)
    check_memory("evaluate.chunk_size", rows, "decoder outputs", need, machine.device)
    which = f"{checkpoint.dataset.name}: {count:,} test images"
    data = f"{which}, grey pixels as Bernoulli means"
    facts: dict[str, Value] = {"epoch": checkpoint.epoch, "precision": machine.precision.name}
    with machine.measuring():
        objective = objective_from_checkpoint(checkpoint).to(machine.device)
        losses = average_terms(model, objective, images.to(machine.device), step=_steps(checkpoint))
    described = {key: value for key, value in checkpoint.settings.items() if key.startswith("objective.")}
    loss = Measured(name="loss", value=losses.loss, unit=NATS, better="lower", data=data, settings=facts | described)
    measured = [loss, *_parts(losses, data, facts)]
    if config.binarisation == "dynamic":
        images, sha256 = binarise(images, config.seed)
        data = f"{which}, dynamically binarised"
        facts |= {"binarisation_seed": config.seed, "binarisation_sha256": sha256}
        with machine.measuring():
            measured += _parts(average_terms(model, Elbo(), images.to(machine.device)), data, facts)
    sampling = {"samples": samples, "seed": config.seed, "chunk_size": config.chunk_size}
    with machine.measuring():
        weighted = importance_weighted(model, images.to(machine.device), **sampling)
    logger.info(
        "test loss %.2f (%s %.2f, kld %.2f); importance-weighted NLL %.2f +- %.2f nats, k = %d, %s pixels",
        losses.loss,
        model.likelihood.name,
        losses.distortion,
        losses.rate,
        weighted.nll,
        weighted.standard_error,
        samples,
        "binarised" if config.binarisation == "dynamic" else "grey",
    )
    nll = Measured(
        name="importance_weighted_nll",
        value=weighted.nll,
        standard_error=weighted.standard_error,
        unit=NATS,
        better="lower",
        data=data,
        settings=facts | sampling,
    )
    return [*measured, nll]


def encode_test_digits(checkpoints: Partitions, test_digits: Digits, train: TrainConfig) -> dict[str, Tensor]:
    """What the posteriors of the test digits are, for measures and figures.

    Args:
        checkpoints: oldest first.
        test_digits: those that the run was trained with.
        train: device, precision and threads.

    Returns:
        {"means": (N, Z) float32, "kl": (Z,) float64 nats, averaged over the images, "weights": (32,) uint8, the sha256
        of the weights they come from}.

    Raises:
        DataError: other test digits than the run's.
    """
    checkpoint, machine = list(checkpoints.values())[-1](), resolve_machine(train)
    check_dataset(checkpoint, "test", test_digits)
    model = model_from_checkpoint(checkpoint).to(machine.device)
    with machine.measuring():
        means, kl = posterior_statistics(model, test_digits["images"].to(machine.device))
    return {"means": means, "kl": kl, "weights": weights_digest(checkpoint.model_state)}


def measure_latents(codes: dict[str, Tensor]) -> list[Measured]:
    """How many latent dimensions are used, and how much each carries.

    Args:
        codes: of `encode_test_digits`.
    """
    data = f"posteriors of {len(codes['means']):,} test images"
    active = Measured(
        name="active_units",
        value=active_units(codes["means"]),
        unit=f"of {codes['means'].shape[1]} dimensions",
        better=None,
        data=data,
        settings={"threshold": ACTIVE_UNIT_THRESHOLD},
    )
    kl = [
        Measured(
            name="kl_of_dimension", value=value, unit=NATS, better=None, data=data, settings={"dimension": dimension}
        )
        for dimension, value in enumerate(codes["kl"].tolist())
    ]
    return [active, *kl]


def measure_decomposition(
    checkpoints: Partitions, test_digits: Digits, config: EvaluateConfig, train: TrainConfig
) -> list[Measured]:
    """The rate as mutual information, total correlation and dimension-wise KL; nothing if it is of no images.

    Args:
        checkpoints: oldest first.
        test_digits: those that the run was trained with.
        config: number of images, seed.
        train: device, precision and threads.

    Raises:
        DataError: other test digits than the run's.
        InputError: the model's prior is not N(0, I).
    """
    if not config.decomposition_images:
        return []
    checkpoint, machine = list(checkpoints.values())[-1](), resolve_machine(train)
    check_dataset(checkpoint, "test", test_digits)
    model = model_from_checkpoint(checkpoint).to(machine.device)
    images = evenly_spread(test_digits["images"], config.decomposition_images)
    with machine.measuring():
        parts = decompose_rate(model, images.to(machine.device), seed=config.seed)
    return [
        Measured(
            name=name,
            value=part.mean,
            standard_error=part.standard_error,
            unit=NATS,
            better=None,
            data=f"{checkpoint.dataset.name}: {len(images):,} evenly spread test images, grey pixels",
            settings={"epoch": checkpoint.epoch, "precision": machine.precision.name, "seed": config.seed},
        )
        for name, part in parts._asdict().items()
    ]


def collect(*kinds: list[Measured]) -> list[Measured]:
    """All that was measured, one list."""
    return list(chain(*kinds))


def _steps(checkpoint: Checkpoint) -> int:
    """Steps of the training that led to a checkpoint, by which some objectives set their weights."""
    batch_size: int = checkpoint.settings["train.batch_size"]
    return checkpoint.epoch * ceil(checkpoint.dataset.counts["train"] / batch_size)


def _parts(losses: Losses, data: str, settings: dict[str, Value]) -> list[Measured]:
    values = {"distortion": losses.distortion, "rate": losses.rate, "neg_elbo": losses.neg_elbo}
    better = {"distortion": None, "rate": None, "neg_elbo": "lower"}
    return [
        Measured(name=name, value=value, unit=NATS, better=better[name], data=data, settings=settings)
        for name, value in values.items()
    ]
