"""Training as a node: resume, log, hand each epoch to the catalog."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pandas as pd
from torch import Tensor

from ...config.parameters import ModelConfig, ObjectiveConfig, TrainConfig
from ...data.images import Digits, check_data_card, check_digits, digits_sha256
from ...errors import DataError
from ...storage.checkpoints import Checkpoint, checkpoint_name, read_checkpoint
from ...training.batches import progress_bar
from ...training.loop import restore, snapshot, start, train
from ...training.machine import Neighbours, crowded, resolve_device, resolve_precision
from ...training.memory import Sizes, check_training
from ...training.resume import check_resume, run_settings
from ...training.team import launched
from ...training.workers import Job, leading, train_in_processes

logger = logging.getLogger(__name__)

Epochs = Iterator[tuple[dict[str, Callable[[], Checkpoint]], list[dict[str, float]]]]


def train_model(
    train_digits: Digits,
    validation_digits: Digits,
    test_digits: Digits,
    data_card: dict[str, Any],
    digits_files: dict[str, str],
    resume_point: dict[str, Callable[[], Checkpoint | None]],
    run: str,
    model: ModelConfig,
    objective: ObjectiveConfig,
    config: TrainConfig,
) -> Iterator[tuple[dict[str, Callable[[], Checkpoint]], pd.DataFrame]]:
    """Train, or go on training; the catalog writes each epoch as it is yielded.

    Args:
        train_digits: images (N, 1, H, W) uint8.
        validation_digits: perhaps none.
        test_digits: for the test loss of each epoch.
        data_card: of these digits.
        digits_files: where they lie, for processes of their own.
        resume_point: the run's checkpoints so far, oldest first; reading the last gives the newest whole one, or None.
        run: the run's name.
        model: which model.
        objective: which loss.
        config: how to train.

    Yields:
        ({"vae_epoch_001": function that takes the checkpoint}, history so far), once an epoch; the function is to be
        called before the next epoch begins.

    Raises:
        ConfigError: the device or precision cannot be had here, or memory does not hold what is asked for.
        DataError: the digits are not those of the data card.
        ResumeError: settings or digits differ from the newest checkpoint's.
        NonFiniteLossError: training diverged.
    """
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    check_data_card(data_card)
    splits = {"train": train_digits, "validation": validation_digits, "test": test_digits}
    for split, digits in splits.items():
        _check_split(split, digits, data_card)
    shape, count = train_digits["images"].shape[1:], len(train_digits["images"])
    check_training(model, shape, count, config.batch_size, device)
    newest = list(resume_point.values())[-1]() if resume_point and config.resume else None
    settings = run_settings(model=model, objective=objective, train=config)
    if newest is not None:
        check_resume(newest, run, settings, data_card)
    job = Job(model.model_dump(), objective.model_dump(), config.model_dump(), digits_files, data_card)
    if newest is not None and newest["epoch"] >= config.epochs:
        logger.info(
            "run %r is already trained: %d epochs, %d asked for. Go on with --params=train.epochs=%d, "
            "or start over with --params=train.resume=false",
            run,
            newest["epoch"],
            config.epochs,
            newest["epoch"] + 20,
        )
        with leading(None):
            yield {}, pd.DataFrame(newest["history"])
        return
    if newest is not None:
        logger.info("run %r goes on after epoch %d", run, newest["epoch"])
    elif resume_point and not config.resume:
        logger.info("run %r starts over; its %d old epochs go as new ones come", run, len(resume_point))
    logger.info(
        "training %r on %s: %s, %s parameters, %s on %s",
        run,
        data_card["title"],
        model.name,
        f"{Sizes.of(model, shape).parameters:,}",
        precision.name,
        device,
    )
    logger.info("losses are nats per image, grey pixels as Bernoulli means: no density of grey images")
    images = {split: digits["images"] for split, digits in splits.items()}
    # Where torchrun has started processes, it alone says how many.
    elsewhere = config.processes > 1 and not launched()
    epochs = _elsewhere(job, newest, config) if elsewhere else _here(job, newest, images)
    neighbours, warned = Neighbours(), device.type != "cpu"
    for checkpoint, history in epochs:
        if not warned and history[-1]["seconds"] > 1 and (warning := crowded(neighbours.busy(), config)):
            logger.warning("%s", warning)
            warned = True
        yield checkpoint, pd.DataFrame(history)
        # Back here the catalog has written both: an epoch that is logged is an epoch that is safe.
        _log_epoch(history[-1], config.epochs, count)


def _here(job: Job, newest: Checkpoint | None, images: dict[str, Tensor]) -> Epochs:
    """Train in this process, perhaps as the first of those that torchrun has started."""
    model, objective, config = job.groups()
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    state = start(model, config, images["train"], device, precision)
    if newest is not None:
        restore(state, newest)
    images = {split: each.to(device) for split, each in images.items()}
    with leading(job, newest) as team:
        for trained in train(state, images, objective, config, precision, progress_bar, team):
            # A function, not the checkpoint: kedro keeps up to 57 yielded values alive (itertools.tee hands them on).
            name, take = checkpoint_name(trained.epoch), partial(snapshot, trained, job.settings(), job.data_card)
            yield {name: take}, trained.history


def _elsewhere(job: Job, newest: Checkpoint | None, config: TrainConfig) -> Epochs:
    """Train in processes of their own."""
    for path in train_in_processes(job, newest, config.processes):
        yield {path.stem: partial(read_checkpoint, path)}, read_checkpoint(path)["history"]


def _check_split(split: str, digits: Digits, data_card: dict[str, Any]) -> None:
    check_digits(digits, f"{split}_digits")
    expected, found = data_card["sha256"][split], digits_sha256(digits)
    if found != expected:
        raise DataError(
            f"{split}_digits: expected the digits of the data card (sha256 {expected[:12]}…), "
            f"found others ({found[:12]}…): one of the files was changed. Run kedro run --pipeline=ingest again."
        )


def _log_epoch(row: dict[str, float], epochs: int, count: int) -> None:
    parts = "  ".join(
        f"{split} loss {row[f'{split}_loss']:.2f} bce {row[f'{split}_bce']:.2f} kld {row[f'{split}_kld']:.2f}"
        for split in ("train", "test", "validation")
        if f"{split}_loss" in row
    )
    if skipped := row["skipped_steps"]:
        parts += f"  {skipped} steps skipped: float16 overflowed"
    speed = f"{row['seconds']:.1f} s  {count / row['seconds']:,.0f} images/s"
    logger.info("epoch %*d/%d  %s  %s", len(str(epochs)), row["epoch"], epochs, parts, speed)
