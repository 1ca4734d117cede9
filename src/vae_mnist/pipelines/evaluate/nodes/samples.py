"""How near samples come to test images, by the judge's features."""

import logging
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from ....config.parameters import EvaluateConfig, TrainConfig
from ....data.images import ImageSet, images_sha256
from ....errors import CheckpointError, DataError
from ....measures.judge import FEATURES, PART, Judge, Judged, judged, train_judge, unfilled_judge
from ....measures.measured import Measured, Value
from ....measures.samples import SampleMeasure, measure_samples
from ....models import VAE
from ....models.load import check_tensors
from ....sampling import class_labels, decode, prior_codes
from ....storage.checkpoints import Checkpoint
from ....training.machine import Machine, resolve_machine
from .newest import Partitions, newest

logger = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]
JUDGE_SEED = 0
# What each measure counts, and which of two values is the better one.
MEANINGS: dict[str, tuple[str, Literal["lower", "higher"] | None]] = {
    "frechet_distance": ("squared distance of features", "lower"),
    "kernel_distance": ("squared distance of features", "lower"),
    "precision": ("share of samples", "higher"),
    "recall": ("share of test images", "higher"),
    "density": ("ratio to test images", "higher"),
    "coverage": ("share of test images", "higher"),
    "class_entropy": ("nats", None),
    "confident_share": ("share of samples", "higher"),
    "share_of_class": ("share of samples", None),
}


def make_judge(
    train_images: ImageSet,
    test_images: ImageSet,
    earlier: Callable[[str], Tensors | None],
    config: EvaluateConfig,
    train: TrainConfig,
) -> dict[str, dict[str, Tensor]]:
    """Train a classifier of these images, unless an earlier evaluation has.

    Args:
        train_images: that it learns from.
        test_images: that its accuracy is measured on.
        earlier: gives the judge of a data set, by its sha256, if there is one.
        config: whether samples are measured at all.
        train: device, precision and threads.

    Returns:
        {sha256 of both parts: its weights, and "accuracy" () float64}; empty if it is not needed or was made before.

    Raises:
        InputError: there is only one class.
    """
    if not config.kinds.sample_quality:
        return {}
    name, classes = _name(train_images, test_images), _classes(train_images, test_images)
    if _whole(earlier(name), train_images, classes) is not None:
        return {}
    machine = resolve_machine(train)
    logger.info("training the judge, a classifier of these images; it is kept for other runs")
    with machine.at_work():
        images, labels = (train_images[key].to(machine.device) for key in ("images", "labels"))
        judge = train_judge(
            images, labels, classes, seed=JUDGE_SEED, bfloat16=machine.precision.dtype is torch.bfloat16
        )
        right = judged(judge, test_images["images"]).probabilities.argmax(1) == test_images["labels"]
    accuracy = right.double().mean()
    logger.info("the judge says the class of %.2f %% of the test images", 100 * accuracy)
    return {name: {key: tensor.cpu() for key, tensor in judge.state_dict().items()} | {"accuracy": accuracy}}


def measure_sample_quality(
    checkpoints: Partitions,
    train_images: ImageSet,
    test_images: ImageSet,
    judges: Callable[[str], Tensors | None],
    config: EvaluateConfig,
    train: TrainConfig,
) -> list[Measured]:
    """Distances, precision, recall, density, coverage and classes of samples; of training images as the floor.

    Args:
        checkpoints: oldest first.
        train_images: those that the run was trained with.
        test_images: that samples are compared with.
        judges: of `make_judge`.
        config: number of samples, seed.
        train: device, precision and threads.

    Raises:
        DataError: other images than the run's, or no judge.
        InputError: fewer than 20 test images or samples.
    """
    if not config.kinds.sample_quality:
        return []
    checkpoint, model, machine = newest(checkpoints, {"train": train_images, "test": test_images}, train)
    classes = _classes(train_images, test_images)
    tensors = _whole(judges(_name(train_images, test_images)), train_images, classes)
    if tensors is None:
        raise DataError("judges: expected one of these images, found none. Run kedro run --pipelines=evaluate.")
    judge = unfilled_judge(train_images["images"].shape[1], classes)
    judge.load_state_dict({name: tensor for name, tensor in tensors.items() if name != "accuracy"}, assign=True)
    judge = machine.place(judge).eval()
    real_images, others = (_drawn(part["images"], config) for part in (test_images, train_images))
    with machine.at_work():
        real = judged(judge, real_images)
        floor = judged(judge, others)
        made = _judged_samples(judge, model, machine, config)
        measured = measure_samples(real.features, made.features, made.probabilities, seed=config.seed)
        floors = measure_samples(real.features, floor.features, floor.probabilities, seed=config.seed)
    settings: dict[str, Value] = {
        "seed": config.seed,
        "judge_accuracy": round(float(tensors["accuracy"]), 6),
        "samples": config.sample_images,
    }
    against = f"{checkpoint.dataset.name}: {{}} and {len(real_images):,} test images, by features of the judge"
    samples = against.format(f"pixel means of {config.sample_images:,} samples")
    training = against.format(f"{len(floor.features):,} training images")
    of_run = settings | {"epoch": checkpoint.epoch, "precision": machine.precision.name}
    found = [_measured(each, samples, of_run, checkpoint) for each in measured]
    found += [
        _measured(each._replace(name=f"floor_{each.name}"), training, settings, checkpoint)
        for each in floors
        if each.of_class is None
    ]
    for each in found[:2]:
        logger.info("%s %.4g; of training images %.4g", each.name, each.value, _value(found, f"floor_{each.name}"))
    return found


def _drawn(images: Tensor, config: EvaluateConfig) -> Tensor:
    """As many as there are samples; at random, because classes may take turns."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(config.seed))
    return images[order[: config.sample_images]]


def _judged_samples(judge: Judge, model: VAE, machine: Machine, config: EvaluateConfig) -> Judged:
    count = config.sample_images
    labels = class_labels(model, None, count, by_turns=True)
    if labels is not None:  # in no order, as test images are
        labels = labels[torch.randperm(count, generator=torch.Generator().manual_seed(config.seed))]
    with machine.measuring():
        codes = prior_codes(model, count, labels=labels, seed=config.seed)
    features = torch.empty(count, FEATURES)
    probabilities = torch.empty(count, judge.classify.out_features)
    for start in range(0, count, PART):  # the images themselves are not kept
        part = slice(start, start + PART)
        with machine.measuring():
            images = decode(model, codes[part], None if labels is None else labels[part])
        features[part], probabilities[part] = judged(judge, images)
    return Judged(features, probabilities)


def _measured(each: SampleMeasure, data: str, settings: dict[str, Value], checkpoint: Checkpoint) -> Measured:
    unit, better = MEANINGS[each.name.removeprefix("floor_")]
    better = None if each.name.startswith("floor_") else better  # it is not the model's
    if each.of_class is not None:
        settings = settings | {"class": checkpoint.dataset.class_name(each.of_class)}
    return Measured(
        name=each.name,
        value=each.value,
        standard_error=each.standard_error,
        unit=unit,
        better=better,
        data=data,
        settings=settings,
    )


def _value(found: list[Measured], name: str) -> float:
    return next(each.value for each in found if each.name == name)


def _classes(*parts: ImageSet) -> int:
    return 1 + max(int(part["labels"].max()) for part in parts)


def _name(train_images: ImageSet, test_images: ImageSet) -> str:
    """Identifies the data of a judge."""
    return f"{images_sha256(train_images)[:32]}{images_sha256(test_images)[:32]}"


def _whole(tensors: Tensors | None, train_images: ImageSet, classes: int) -> Tensors | None:
    """The judge's tensors, if they are those of such a classifier."""
    if tensors is None:
        return None
    expected = unfilled_judge(train_images["images"].shape[1], classes).state_dict()
    try:
        check_tensors(expected | {"accuracy": torch.empty((), dtype=torch.float64)}, tensors)
    except CheckpointError:
        return None
    return tensors
