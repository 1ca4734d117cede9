"""The parts of the rate."""

from ....config.parameters import EvaluateConfig, TrainConfig
from ....data.images import ImageSet
from ....measures.bounds import evenly_spread
from ....measures.decomposition import decompose_rate
from ....measures.measured import Measured
from .bounds import NATS
from .newest import Partitions, colours, newest


def measure_decomposition(
    checkpoints: Partitions, test_images: ImageSet, config: EvaluateConfig, train: TrainConfig
) -> list[Measured]:
    """The rate as mutual information, total correlation and dimension-wise KL.

    Args:
        checkpoints: oldest first.
        test_images: those that the run was trained with.
        config: number of images, seed.
        train: device, precision and threads.

    Raises:
        DataError: other test images than the run's.
        InputError: the model's prior is not N(0, I).
    """
    if not config.kinds.decomposition:
        return []
    checkpoint, model, machine = newest(checkpoints, {"test": test_images}, train)
    images, labels = (
        evenly_spread(test_images[key], config.decomposition_images).to(machine.device) for key in ("images", "labels")
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
            data=f"{checkpoint.dataset.name}: {len(images):,} evenly spread test images, {colours(model)} pixels",
            settings={"epoch": checkpoint.epoch, "precision": machine.precision.name, "seed": config.seed},
        )
        for name, part in parts._asdict().items()
    ]
