"""How well the dimensions of codes separate the known factors of images."""

from torch import Tensor

from ....config.parameters import EvaluateConfig, TrainConfig
from ....data.images import ImageSet
from ....errors import DataError
from ....measures.disentanglement import disentanglement
from ....measures.measured import Measured
from .newest import Partitions, newest


def measure_disentanglement(
    checkpoints: Partitions,
    test_images: ImageSet,
    test_codes: dict[str, Tensor],
    config: EvaluateConfig,
    train: TrainConfig,
) -> list[Measured]:
    """MIG, SAP, DCI, FactorVAE score and modularity of posterior means, of the top group of latents.

    Args:
        checkpoints: oldest first.
        test_images: with factors.
        test_codes: of `encode_test_images`.
        config: seed.
        train: device, precision and threads.

    Raises:
        DataError: other images than the run's, or their factors are not known.
        InputError: the codes have one dimension.
    """
    if not config.kinds.disentanglement:
        return []
    checkpoint, _, machine = newest(checkpoints, {"test": test_images}, train)
    if "factors" not in test_images:
        raise DataError(
            f"evaluate.kinds.disentanglement: expected images whose factors are known, got {checkpoint.dataset.name}. "
            "Use --params=ingest.source=sprites, or evaluate.kinds.disentanglement=false."
        )
    size, several = int(test_codes["groups"][0]), len(test_codes["groups"]) > 1
    with machine.at_work():
        scores = disentanglement(test_codes["means"][:, :size], test_images["factors"], seed=config.seed)
    where = ", top group of latents" if several else ""
    return [
        Measured(
            name=name,
            value=value,
            unit="score from 0 to 1",
            better="higher",
            data=f"{checkpoint.dataset.name}: posterior means of {len(test_images['labels']):,} test images{where}",
            settings={
                "epoch": checkpoint.epoch,
                "factors": ", ".join(checkpoint.dataset.factors),
                "seed": config.seed,
            },
        )
        for name, value in scores._asdict().items()
    ]
