"""Test losses, and bounds on the likelihood."""

import logging
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from math import ceil, log, prod
from typing import Literal

import torch
from torch import Tensor

from ....config.parameters import GREY_SAYS_MORE, EvaluateConfig, TrainConfig
from ....data.images import ImageSet
from ....data.pixels import binarise
from ....errors import ConfigError
from ....measures.bounds import Mean, evenly_spread, nll_of_images, terms_of_images
from ....measures.measured import Measured, Value
from ....models import VAE
from ....objectives import Elbo, objective_from_checkpoint
from ....storage.checkpoints import Checkpoint
from ....storage.losses import beside
from ....training.batches import TEST_BINARISATION_SEED
from ....training.memory import check_memory, evaluation_need
from .newest import Partitions, colours, newest

logger = logging.getLogger(__name__)

NATS = "nats per image"
BINARISED = "dynamically binarised"
AS_THEY_ARE = {"binary": "{} pixels as Bernoulli means", "grey": "{} pixels in [0, 1]", "levels": "8-bit {} pixels"}


def measure_bounds(
    checkpoints: Partitions, test_images: ImageSet, config: EvaluateConfig, train: TrainConfig
) -> tuple[list[Measured], dict[str, Tensor]]:
    """Test losses, on pixels as in training, and bounds on the likelihood, on pixels as `evaluate.binarisation` says.

    Args:
        checkpoints: oldest first.
        test_images: those that the run was trained with.
        config: number of samples and images, binarisation, seed, chunk size.
        train: device, precision and threads.

    Returns:
        The means, and the bounds of each image, for comparisons of runs image by image: {"neg_elbo": (N,) float32,
        "importance_weighted_nll": (M,) float32, of M evenly spread images, "neg_elbo_images" and
        "importance_weighted_nll_images": (32,) uint8, the sha256 of all N images as they were measured, binarised or
        not}; {} if they are not measured.

    Raises:
        ConfigError: memory does not hold a chunk of that size, or the likelihood is not one of binarised pixels.
        DataError: other test images than the run's.
    """
    if not config.kinds.bounds:
        return [], {}
    checkpoint, model, machine = newest(checkpoints, {"test": test_images}, train)
    images, samples, binary = test_images["images"], config.importance_samples, _binarises(config, model)
    labels = test_images["labels"].to(machine.device)
    count, few = len(images), min(config.images or len(images), len(images))
    need, rows = partial(evaluation_need, model, count, samples), min(config.chunk_size, few * samples)
    check_memory("evaluate.chunk_size", rows, "decoder outputs", need, machine.device)
    given = " given their labels" if model.classes else ""  # -log p(x|y), which does not compare with -log p(x)
    which = f"{checkpoint.dataset.name}: {count:,} test images{given}"
    some = f"{checkpoint.dataset.name}: {few:,} of {count:,} test images{given}, evenly spread"
    spread = which if few == count else some
    grey = checkpoint.settings["train.binarisation"] == "none"
    kind = note = _as_they_are(model) if grey else BINARISED
    tested = images if grey else binarise(images, TEST_BINARISATION_SEED)[0]
    facts: dict[str, Value] = {"epoch": checkpoint.epoch, "precision": machine.precision.name}
    with machine.measuring():
        objective = objective_from_checkpoint(checkpoint).to(machine.device)
        terms = terms_of_images(model, objective, tested.to(machine.device), labels, step=_steps(checkpoint))
    described = {key: value for key, value in checkpoint.settings.items() if key.startswith("objective.")}
    data = f"{which}, {kind}"
    loss = _mean("loss", terms["loss"], "lower", data, facts | described)
    distortion, rate, bound = _parts(terms, data, facts)
    measured = [loss, distortion, rate, bound]
    if binary:
        images, digest = binarise(images, config.seed)
        kind, note = BINARISED, f"{BINARISED} (sha256 of all {count:,}: {digest[:12]}…)"
        data = f"{which}, {kind}"
        facts |= {"binarisation_seed": config.seed, "binarisation_sha256": digest}
    else:
        kind = note = _as_they_are(model)
    if binary and (grey or config.seed != TEST_BINARISATION_SEED):
        tested = images
        with machine.measuring():
            terms = terms_of_images(model, Elbo(), tested.to(machine.device), labels)
        measured += _parts(terms, data, facts)
    sampling = {"samples": samples, "seed": config.seed, "chunk_size": config.chunk_size}
    few_images, few_labels = evenly_spread(images, few).to(machine.device), evenly_spread(labels, few)
    with machine.measuring():
        weighted = nll_of_images(model, few_images, labels=few_labels, **sampling)
    settings = facts | sampling | {"images": few}
    nll = _mean("importance_weighted_nll", weighted, "lower", f"{spread}, {kind}", settings)
    logger.info(
        "test loss %.2f (%s %.2f, kld %.2f%s); %s %.2f +- %.2f nats, k = %d, %s, %s",
        *(loss.value, model.likelihood.name, distortion.value, rate.value),
        beside(loss.value, bound.value, ", neg_elbo {:.2f}"),
        *(nll.name, nll.value, nll.standard_error, samples, spread, note),
    )
    if model.likelihood.pixels == "levels":
        elbo = next(each for each in measured if each.name == "neg_elbo")
        bits = [_bits(each, prod(model.image_shape)) for each in (elbo, nll)]
        logger.info("%.3f bits per dimension (%s), %.3f (%s)", bits[0].value, elbo.name, bits[1].value, nll.name)
        measured += bits
    of_images = {
        "neg_elbo": _neg_elbo(terms).float(),
        "neg_elbo_images": _sha256(tested),
        "importance_weighted_nll": weighted.float(),
        "importance_weighted_nll_images": _sha256(images),
    }
    return [*measured, nll], of_images


def _binarises(config: EvaluateConfig, model: VAE) -> bool:
    """Whether bounds are measured on binarised images.

    Raises:
        ConfigError: the likelihood does not go with what is asked for.
    """
    binary = model.likelihood.pixels == "binary"
    if config.binarisation == "dynamic" and not binary:
        raise ConfigError(
            "evaluate.binarisation: expected auto or none for a checkpoint whose likelihood is one of grey values, got "
            "dynamic. Use --params=evaluate.binarisation=auto."
        )
    if config.binarisation == "none" and not model.likelihood.independent:
        raise ConfigError(
            "evaluate.binarisation: expected auto or dynamic for a checkpoint whose likelihood is autoregressive, got "
            f"none. {GREY_SAYS_MORE} Use --params=evaluate.binarisation=auto."
        )
    return binary and config.binarisation != "none"


def _as_they_are(model: VAE) -> str:
    """What pixels are that are not binarised."""
    return AS_THEY_ARE[model.likelihood.pixels].format(colours(model))


def _bits(bound: Measured, dimensions: int) -> Measured:
    """A bound in nats per image as bits per dimension, C x H x W in all: the literature's unit for 8-bit images."""
    scale = 1 / (dimensions * log(2))
    error = bound.standard_error
    return Measured(
        name="bits_per_dimension",
        value=bound.value * scale,
        standard_error=None if error is None else error * scale,
        unit="bits per dimension",
        better="lower",
        data=bound.data,
        settings=bound.settings | {"of": bound.name},
    )


def _steps(checkpoint: Checkpoint) -> int:
    """Steps of the training that led to a checkpoint, by which some objectives set their weights."""
    batch_size: int = checkpoint.settings["train.batch_size"]
    return checkpoint.epoch * ceil(checkpoint.dataset.counts["train"] / batch_size)


def _parts(terms: dict[str, Tensor], data: str, settings: dict[str, Value]) -> list[Measured]:
    return [
        _mean("distortion", terms["distortion"], None, data, settings),
        _mean("rate", terms["rate"], None, data, settings),
        _mean("neg_elbo", _neg_elbo(terms), "lower", data, settings),
    ]


def _mean(
    name: str, values: Tensor, better: Literal["lower"] | None, data: str, settings: Mapping[str, Value]
) -> Measured:
    mean = Mean.of(values)
    return Measured(
        name=name,
        value=mean.value,
        standard_error=mean.standard_error,
        unit=NATS,
        better=better,
        data=data,
        settings=dict(settings),
    )


def _neg_elbo(terms: dict[str, Tensor]) -> Tensor:
    """The negative evidence lower bound of each image, (N,), whatever the objective is."""
    return terms["distortion"] + terms["rate"]


def _sha256(images: Tensor) -> Tensor:
    """Of the pixels: (32,) uint8."""
    return torch.tensor(list(sha256(images.contiguous().numpy().data).digest()), dtype=torch.uint8)
