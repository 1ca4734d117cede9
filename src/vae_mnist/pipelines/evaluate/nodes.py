"""Measure the newest checkpoint."""

import logging
from collections.abc import Callable
from functools import partial
from itertools import chain
from math import ceil, log, prod

import torch
from torch import Tensor

from ...config.parameters import GREY_SAYS_MORE, EvaluateConfig, TrainConfig
from ...data.images import Digits
from ...data.pixels import binarise
from ...errors import ConfigError
from ...measures.bounds import Losses, average_terms, evenly_spread, importance_weighted
from ...measures.decomposition import decompose_rate
from ...measures.latents import ACTIVE_UNIT_THRESHOLD, active_units, posterior_statistics
from ...measures.measured import Measured, Value
from ...models import VAE, model_from_checkpoint
from ...objectives import Elbo, objective_from_checkpoint
from ...storage.checkpoints import Checkpoint, weights_digest
from ...storage.losses import beside
from ...training.batches import TEST_BINARISATION_SEED
from ...training.machine import resolve_machine
from ...training.memory import check_memory, evaluation_need
from ...training.resume import check_dataset

logger = logging.getLogger(__name__)

Partitions = dict[str, Callable[[], Checkpoint]]

NATS = "nats per image"
BINARISED = "dynamically binarised"
AS_THEY_ARE = {"binary": "{} pixels as Bernoulli means", "grey": "{} pixels in [0, 1]", "levels": "8-bit {} pixels"}


def measure_bounds(
    checkpoints: Partitions, test_digits: Digits, config: EvaluateConfig, train: TrainConfig
) -> list[Measured]:
    """Test losses, on pixels as in training, and bounds on the likelihood, on pixels as `evaluate.binarisation` says.

    Args:
        checkpoints: oldest first.
        test_digits: those that the run was trained with.
        config: number of samples and images, binarisation, seed, chunk size.
        train: device, precision and threads.

    Raises:
        ConfigError: memory does not hold a chunk of that size, or the likelihood is not one of binarised pixels.
        DataError: other test digits than the run's.
    """
    checkpoint, machine = list(checkpoints.values())[-1](), resolve_machine(train)
    check_dataset(checkpoint, "test", test_digits)
    model = machine.place(model_from_checkpoint(checkpoint))
    images, samples, binary = test_digits["images"], config.importance_samples, _binarises(config, model)
    labels = test_digits["labels"].to(machine.device)
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
        losses = average_terms(model, objective, tested.to(machine.device), labels, step=_steps(checkpoint))
    described = {key: value for key, value in checkpoint.settings.items() if key.startswith("objective.")}
    data, settings = f"{which}, {kind}", facts | described
    loss = Measured(name="loss", value=losses.loss, unit=NATS, better="lower", data=data, settings=settings)
    measured = [loss, *_parts(losses, data, facts)]
    if binary:
        images, sha256 = binarise(images, config.seed)
        kind, note = BINARISED, f"{BINARISED} (sha256 of all {count:,}: {sha256[:12]}…)"
        data = f"{which}, {kind}"
        facts |= {"binarisation_seed": config.seed, "binarisation_sha256": sha256}
    else:
        kind = note = _as_they_are(model)
    if binary and (grey or config.seed != TEST_BINARISATION_SEED):
        with machine.measuring():
            measured += _parts(average_terms(model, Elbo(), images.to(machine.device), labels), data, facts)
    sampling = {"samples": samples, "seed": config.seed, "chunk_size": config.chunk_size}
    few_images, few_labels = evenly_spread(images, few).to(machine.device), evenly_spread(labels, few)
    with machine.measuring():
        weighted = importance_weighted(model, few_images, labels=few_labels, **sampling)
    nll = Measured(
        name="importance_weighted_nll",
        value=weighted.nll,
        standard_error=weighted.standard_error,
        unit=NATS,
        better="lower",
        data=f"{spread}, {kind}",
        settings=facts | sampling | {"images": few},
    )
    logger.info(
        "test loss %.2f (%s %.2f, kld %.2f%s); %s %.2f +- %.2f nats, k = %d, %s, %s",
        *(losses.loss, model.likelihood.name, losses.distortion, losses.rate),
        beside(losses.loss, losses.neg_elbo, ", neg_elbo {:.2f}"),
        *(nll.name, weighted.nll, weighted.standard_error, samples, spread, note),
    )
    if model.likelihood.pixels == "levels":
        elbo = next(each for each in measured if each.name == "neg_elbo")
        bits = [_bits(each, prod(model.image_shape)) for each in (elbo, nll)]
        logger.info("%.3f bits per dimension (%s), %.3f (%s)", bits[0].value, elbo.name, bits[1].value, nll.name)
        measured += bits
    return [*measured, nll]


def encode_test_digits(checkpoints: Partitions, test_digits: Digits, train: TrainConfig) -> dict[str, Tensor]:
    """What the posteriors of the test digits are, for measures and figures.

    Args:
        checkpoints: oldest first.
        test_digits: those that the run was trained with.
        train: device, precision and threads.

    Returns:
        {"means": (N, Z) float32, "kl": (Z,) float64 nats, averaged over the images, "groups": (G,) int64, the sizes of
        the groups of latents, "weights": (32,) uint8, the sha256 of the weights they come from}.

    Raises:
        DataError: other test digits than the run's.
    """
    checkpoint, machine = list(checkpoints.values())[-1](), resolve_machine(train)
    check_dataset(checkpoint, "test", test_digits)
    model = machine.place(model_from_checkpoint(checkpoint))
    with machine.measuring():
        images, labels = (test_digits[key].to(machine.device) for key in ("images", "labels"))
        means, kl = posterior_statistics(model, images, labels)
    groups = torch.tensor(model.groups)
    return {"means": means, "kl": kl, "groups": groups, "weights": weights_digest(checkpoint.model_state)}


def measure_latents(codes: dict[str, Tensor]) -> list[Measured]:
    """How many latent dimensions are used, of all groups together, and how much each of the top group carries.

    Args:
        codes: of `encode_test_digits`.
    """
    groups = codes["kl"].split(codes["groups"].tolist())
    several = len(groups) > 1
    data = f"posteriors of {len(codes['means']):,} test images, not binarised"
    top = f"{data}, top group of latents" if several else data
    active = Measured(
        name="active_units",
        value=active_units(codes["means"]),
        unit=f"of {codes['means'].shape[1]} dimensions",
        better=None,
        data=f"{data}, all groups of latents" if several else data,
        settings={"threshold": ACTIVE_UNIT_THRESHOLD},
    )

    def kl(name: str, key: str, values: list[float], data: str) -> list[Measured]:
        return [
            Measured(name=name, value=value, unit=NATS, better=None, data=data, settings={key: number})
            for number, value in enumerate(values)
        ]

    # Only N(0, I) has a closed form for each dimension of the top group, whatever the prior is.
    measured = [active, *kl("kl_of_dimension", "dimension", groups[0].tolist(), f"{top}, to N(0, I)")]
    if several:
        sums = [float(group.sum()) for group in groups]
        measured += kl("kl_of_group", "group", sums, f"{data}, of group 1 to N(0, I), of others to their priors")
    return measured


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
    model = machine.place(model_from_checkpoint(checkpoint))
    images, labels = (
        evenly_spread(test_digits[key], config.decomposition_images).to(machine.device) for key in ("images", "labels")
    )
    with machine.measuring():
        parts = decompose_rate(model, images, labels, seed=config.seed)
    return [
        Measured(
            name=name,
            value=part.mean,
            standard_error=part.standard_error,
            unit=NATS,
            better=None,
            data=f"{checkpoint.dataset.name}: {len(images):,} evenly spread test images, {_colours(model)} pixels",
            settings={"epoch": checkpoint.epoch, "precision": machine.precision.name, "seed": config.seed},
        )
        for name, part in parts._asdict().items()
    ]


def collect(*kinds: list[Measured]) -> list[Measured]:
    """All that was measured, one list."""
    return list(chain(*kinds))


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
    return AS_THEY_ARE[model.likelihood.pixels].format(_colours(model))


def _colours(model: VAE) -> str:
    return "grey" if model.image_shape[0] == 1 else "colour"


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


def _parts(losses: Losses, data: str, settings: dict[str, Value]) -> list[Measured]:
    values = {"distortion": losses.distortion, "rate": losses.rate, "neg_elbo": losses.neg_elbo}
    better = {"distortion": None, "rate": None, "neg_elbo": "lower"}
    return [
        Measured(name=name, value=value, unit=NATS, better=better[name], data=data, settings=settings)
        for name, value in values.items()
    ]
