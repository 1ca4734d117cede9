"""The codes of the test images, and how much they carry."""

import torch
from torch import Tensor

from ....config.parameters import EvaluateConfig, TrainConfig
from ....data.images import ImageSet
from ....errors import DataError
from ....measures.distances import Moments, frechet_distance, gaussian_kl, gaussian_total_correlation
from ....measures.latents import (
    ACTIVE_UNIT_THRESHOLD,
    PRIOR_CODES,
    PRIOR_SEED,
    active_units,
    aggregate_moments,
    posterior_statistics,
    prior_moments,
)
from ....measures.measured import Measured, Value
from ....models.priors import StandardNormal
from ....storage.checkpoints import weights_digest
from .bounds import NATS
from .newest import Partitions, newest


def encode_test_images(checkpoints: Partitions, test_images: ImageSet, train: TrainConfig) -> dict[str, Tensor]:
    """What the posteriors of the test images are, for measures and figures.

    Args:
        checkpoints: oldest first.
        test_images: those that the run was trained with.
        train: device, precision and threads.

    Returns:
        {"means": (N, Z) float32, "kl" and "variances": see `PosteriorStatistics`, "groups": (G,) int64, the sizes of
        the groups of latents, "prior_mean": (Z1,) and "prior_covariance": (Z1, Z1) float64, of the top group,
        "prior_codes": () int64, how many they come from, 0 if they are exact, "weights": (32,) uint8, the sha256 of the
        weights}.

    Raises:
        DataError: other test images than the run's.
    """
    checkpoint, model, machine = newest(checkpoints, {"test": test_images}, train)
    with machine.measuring():
        images, labels = (test_images[key].to(machine.device) for key in ("images", "labels"))
        statistics, prior = posterior_statistics(model, images, labels), prior_moments(model)
    return {
        **statistics._asdict(),
        "groups": torch.tensor(model.groups),
        "prior_mean": prior.mean,
        "prior_covariance": prior.covariance,
        "prior_codes": torch.tensor(0 if isinstance(model.prior, StandardNormal) else PRIOR_CODES),
        "weights": weights_digest(checkpoint.model_state),
    }


def measure_latents(codes: dict[str, Tensor], config: EvaluateConfig) -> list[Measured]:
    """How many latent dimensions are used, and of the top group, how the codes are spread and what each carries.

    Args:
        codes: of `encode_test_images`.
        config: whether to measure it.

    Raises:
        DataError: codes that an earlier version has written.
    """
    if not config.kinds.latents:
        return []
    if missing := {"variances", "prior_mean", "prior_covariance", "prior_codes"} - codes.keys():
        raise DataError(
            f"test_codes: expected {', '.join(sorted(missing))} as well, got {', '.join(sorted(codes))}. "
            "Run kedro run --pipelines=evaluate."
        )
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
    of_dimensions = kl("kl_of_dimension", "dimension", groups[0].tolist(), f"{top}, to N(0, I)")
    measured = [active, *_aggregate(codes, top), *of_dimensions]
    if several:
        sums = [float(group.sum()) for group in groups]
        measured += kl("kl_of_group", "group", sums, f"{data}, of group 1 to N(0, I), of others to their priors")
    return measured


def _aggregate(codes: dict[str, Tensor], top: str) -> list[Measured]:
    """The aggregate posterior of the top group against the prior, both as Gaussians with their moments."""
    size, drawn = int(codes["groups"][0]), int(codes["prior_codes"])
    aggregate = aggregate_moments(codes["means"][:, :size], codes["variances"][:size])
    prior = Moments(codes["prior_mean"], codes["prior_covariance"])
    against = f"{top}, to {f'{drawn:,} codes of the prior' if drawn else 'N(0, I)'}"
    settings: dict[str, Value] = {"prior_codes": drawn, "prior_seed": PRIOR_SEED} if drawn else {}

    def one(name: str, value: float, unit: str, data: str, settings: dict[str, Value]) -> Measured:
        return Measured(name=name, value=value, unit=unit, better="lower", data=data, settings=settings)

    return [
        one("aggregate_kl", gaussian_kl(aggregate, prior), "nats", against, settings),
        one("aggregate_frechet_distance", frechet_distance(aggregate, prior), "squared distance", against, settings),
        one("aggregate_total_correlation", gaussian_total_correlation(aggregate), "nats", top, {}),
    ]
