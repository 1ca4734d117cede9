"""The codes of the test digits, and how much they carry."""

import torch
from torch import Tensor

from ....config.parameters import EvaluateConfig, TrainConfig
from ....data.images import Digits
from ....measures.latents import ACTIVE_UNIT_THRESHOLD, active_units, posterior_statistics
from ....measures.measured import Measured
from ....storage.checkpoints import weights_digest
from .bounds import NATS
from .newest import Partitions, newest


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
    checkpoint, model, machine = newest(checkpoints, {"test": test_digits}, train)
    with machine.measuring():
        images, labels = (test_digits[key].to(machine.device) for key in ("images", "labels"))
        means, kl = posterior_statistics(model, images, labels)
    groups = torch.tensor(model.groups)
    return {"means": means, "kl": kl, "groups": groups, "weights": weights_digest(checkpoint.model_state)}


def measure_latents(codes: dict[str, Tensor], config: EvaluateConfig) -> list[Measured]:
    """How many latent dimensions are used, of all groups together, and how much each of the top group carries.

    Args:
        codes: of `encode_test_digits`.
        config: whether to measure it.
    """
    if not config.kinds.latents:
        return []
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
