"""How well labels can be read from codes."""

import logging

from threadpoolctl import threadpool_limits
from torch import Tensor

from ....config.parameters import EvaluateConfig, TrainConfig
from ....data.images import ImageSet
from ....data.pixels import as_pixels
from ....measures.codes import READERS, accuracies
from ....measures.latents import posterior_statistics
from ....measures.measured import Measured
from .newest import Partitions, colours, newest

logger = logging.getLogger(__name__)


def measure_codes(
    checkpoints: Partitions,
    train_images: ImageSet,
    test_images: ImageSet,
    test_codes: dict[str, Tensor],
    config: EvaluateConfig,
    train: TrainConfig,
) -> list[Measured]:
    """Accuracies of a linear probe and of nearest neighbours on posterior means, and on the pixels themselves.

    Args:
        checkpoints: oldest first.
        train_images: those that the run was trained with, from whose labels the readers learn.
        test_images: those whose labels they say.
        test_codes: of `encode_test_images`.
        config: seed of the labels learned from.
        train: device, precision and threads.

    Raises:
        DataError: other images than the run's.
        InputError: there are not two classes, or one has a single image.
    """
    if not config.kinds.codes:
        return []
    checkpoint, model, machine = newest(checkpoints, {"train": train_images, "test": test_images}, train)
    labels, truth = train_images["labels"], test_images["labels"]
    with machine.measuring():
        images = train_images["images"].to(machine.device)
        means = posterior_statistics(model, images, labels.to(machine.device)).means
    pixels = [as_pixels(image_set["images"]) for image_set in (train_images, test_images)]
    features = {"posterior means": (means, test_codes["means"]), f"{colours(model)} pixels": pixels}
    measured = []
    for name, (of_train, of_test) in features.items():
        given = ", given their labels" if model.classes and of_train is means else ""
        with threadpool_limits(machine.threads):
            found = [*accuracies((of_train, labels), (of_test, truth), seed=config.seed)]
        for each in found:
            logger.info("%s accuracy %.4f +- %.4f, %s, %d labels", each.reader, *each[3:], name, each.labels)
        measured += [
            Measured(
                name=f"{each.reader}_accuracy",
                value=each.value,
                standard_error=each.standard_error,
                unit="share of test images",
                better="higher",
                data=f"{checkpoint.dataset.name}: {name} of {len(truth):,} test images{given}",
                settings={
                    "epoch": checkpoint.epoch,
                    "precision": machine.precision.name,
                    "labels": each.labels,
                    "draws": each.draws,
                    "seed": config.seed,
                    **READERS[each.reader],
                },
            )
            for each in found
        ]
    return measured
