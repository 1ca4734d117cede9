"""Training as a node: resume, log, hand each epoch to the catalog."""

import logging
from collections.abc import Callable, Iterator
from functools import partial

import pandas as pd

from ...config.model import ModelConfig
from ...config.objective import ObjectiveConfig
from ...config.parameters import TrainConfig
from ...data.images import ImageSet, check_images, images_sha256
from ...errors import DataError
from ...models.likelihoods import loss_words
from ...storage.checkpoints import Checkpoint, checkpoint_name, outdated
from ...storage.fields import Split
from ...storage.losses import beside
from ...storage.records import DataCard
from ...training.batches import progress_bar
from ...training.loop import train
from ...training.machine import resolve_machine
from ...training.memory import check_memory, training_need
from ...training.resume import check_resume, run_settings
from ...training.state import restore, snapshot, start
from ...training.together import Job, leading

logger = logging.getLogger(__name__)

Saved = dict[str, Callable[[], Checkpoint] | None]


def train_model(
    train_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    data_card: DataCard,
    resume_point: dict[str, Callable[[], Checkpoint | None]],
    run: str,
    model: ModelConfig,
    objective: ObjectiveConfig,
    config: TrainConfig,
) -> Iterator[tuple[Saved, pd.DataFrame]]:
    """Train or resume training; the catalog writes each epoch as it is yielded.

    Args:
        train_images: images (N, C, H, W) uint8.
        validation_images: perhaps none.
        test_images: for the test loss of each epoch.
        data_card: of these images.
        resume_point: the run's checkpoints so far, oldest first; reading any gives the newest whole one, or None.
        run: the run's name.
        model: which model.
        objective: which loss.
        config: how to train.

    Yields:
        ({"vae_epoch_001": function that takes the checkpoint}, history so far), once an epoch; the function is to be
        called before the next epoch begins. None stands for a checkpoint that `train.keep` no longer wants.

    Raises:
        ConfigError: the device or precision is not available on this machine, or the memory is too small.
        DataError: the images are not those of the data card.
        ResumeError: settings or images differ from the newest checkpoint's.
        NonFiniteLossError: training diverged.
    """
    machine = resolve_machine(config)
    splits: dict[Split, ImageSet] = {"train": train_images, "validation": validation_images, "test": test_images}
    for split, image_set in splits.items():
        _check_split(split, image_set, data_card)
    count = len(train_images["labels"])
    newest = list(resume_point.values())[-1]() if resume_point and config.resume else None
    settings = run_settings(model, objective, config, machine.precision)
    if newest is not None:
        check_resume(newest, run, settings, data_card)
        if newest.epoch >= config.epochs:
            logger.info(
                "run %r is already trained: %d epochs, %d asked for. Continue with --params=train.epochs=%d, "
                "or start over with --params=train.resume=false",
                run,
                newest.epoch,
                config.epochs,
                newest.epoch + 20,
            )
            yield {}, pd.DataFrame(newest.history)
            return
        logger.info("run %r resumes after epoch %d", run, newest.epoch)
    elif resume_point and not config.resume:
        logger.info(
            "run %r starts over; its %d old checkpoints are removed as new ones are written", run, len(resume_point)
        )
    shape = tuple(train_images["images"].shape[1:])
    need = partial(training_need, model, objective, config, shape, count, machine.device)
    check_memory("train.batch_size", min(config.batch_size, count), "images", need, machine.device)
    state = start(model, objective, config, train_images["images"], data_card.classes, machine)
    if newest is not None:
        restore(state, newest)
    logger.info(
        "training %r on %s: %s, %s prior, %s parameters, %s on %s",
        run,
        data_card.title,
        model.network,
        model.prior,
        f"{sum(parameter.numel() for parameter in state.step.parameters()):,}",
        machine.precision.name,
        machine.device,
    )
    logger.info("losses are %s", loss_words(state.step.model.likelihood.words, config.binarisation))
    on_device = {
        split: ImageSet(images=image_set["images"].to(machine.device), labels=image_set["labels"].to(machine.device))
        for split, image_set in splits.items()
    }
    epochs = {int(name.rpartition("_")[2]) for name in resume_point} if newest is not None else set()
    same = config.model_copy(update={"precision": machine.precision.name})  # auto may be another on their machines
    job = Job(model=model, objective=objective, config=same, classes=data_card.classes)
    with leading(job, train_images, newest) as team:
        for trained in train(state, on_device, config, machine, progress_bar, team):
            epochs = {epoch for epoch in epochs if epoch < trained.epoch} | {trained.epoch}
            gone = outdated(sorted(epochs), config.keep)
            epochs -= set(gone)
            # A function, not the checkpoint: kedro keeps up to 57 yielded values alive (itertools.tee hands them on).
            saved: Saved = {checkpoint_name(trained.epoch): partial(snapshot, trained, settings, data_card)}
            yield saved | dict.fromkeys(map(checkpoint_name, gone)), pd.DataFrame(trained.history)
            # Back here the catalog has written both: an epoch that is logged is an epoch that is safe.
            _log_epoch(trained.history[-1], config.epochs, count, trained.step.model.likelihood.name)


def _check_split(split: Split, image_set: ImageSet, data_card: DataCard) -> None:
    check_images(image_set, f"{split}_images")
    expected, found = data_card.sha256[split], images_sha256(image_set)
    if found != expected:
        raise DataError(
            f"{split}_images: expected the images of the data card (sha256 {expected[:12]}…), "
            f"found others ({found[:12]}…): one of the files was changed. Run kedro run --pipelines=ingest again."
        )


def _log_epoch(row: dict[str, float], epochs: int, count: int, distortion: str) -> None:
    parts = "  ".join(
        f"{split} loss {row[f'{split}_loss']:.2f} {distortion} {row[f'{split}_{distortion}']:.2f} "
        f"kld {row[f'{split}_kld']:.2f}{beside(row[f'{split}_loss'], row[f'{split}_neg_elbo'], ' neg_elbo {:.2f}')}"
        for split in ("train", "test", "validation")
        if f"{split}_loss" in row
    )
    if skipped := row["skipped_steps"]:
        parts += f"  {skipped:.0f} steps skipped: float16 overflowed"
    speed = f"{row['seconds']:.1f} s  {count / row['seconds']:,.0f} images/s"
    logger.info("epoch %*d/%d  %s  %s", len(str(epochs)), row["epoch"], epochs, parts, speed)
