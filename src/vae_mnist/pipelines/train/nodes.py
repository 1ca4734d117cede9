"""Training as a node: resume, log, hand each epoch to the catalog."""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pandas as pd
from tqdm import tqdm

from ...batches import Batch
from ...checkpoints import Checkpoint, checkpoint_name
from ...config import ModelConfig, ObjectiveConfig, TrainConfig
from ...devices import resolve_device, resolve_precision
from ...errors import DataError
from ...memory import check_training
from ...preprocessing import Digits, check_data_card, check_digits, digits_sha256
from ...resume import check_resume, run_settings
from ...training import TrainingState, restore, snapshot, start, train

logger = logging.getLogger(__name__)


def train_model(
    train_digits: Digits,
    validation_digits: Digits,
    test_digits: Digits,
    data_card: dict[str, Any],
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
    settings = run_settings(model=model, objective=objective, train=config)
    check_training(model, train_digits["images"].shape[1:], len(train_digits["images"]), config.batch_size, device)
    state = start(model, config, train_digits["images"].shape[1:], device, precision)
    newest = list(resume_point.values())[-1]() if resume_point and config.resume else None
    if newest is not None:
        check_resume(newest, run, settings, data_card)
        state = restore(state, newest)
        if state.epoch >= config.epochs:
            logger.info(
                "run %r is already trained: %d epochs, %d asked for. Go on with --params=train.epochs=%d, "
                "or start over with --params=train.resume=false",
                run,
                state.epoch,
                config.epochs,
                state.epoch + 20,
            )
            yield {}, pd.DataFrame(state.history)
            return
        logger.info("run %r goes on after epoch %d", run, state.epoch)
    elif resume_point and not config.resume:
        logger.info("run %r starts over; its %d old epochs go as new ones come", run, len(resume_point))
    logger.info(
        "training %r on %s: %s, %s parameters, %s on %s",
        run,
        data_card["title"],
        model.name,
        f"{sum(p.numel() for p in state.model.parameters()):,}",
        precision.name,
        device,
    )
    logger.info("losses are nats per image, grey pixels as Bernoulli means: no density of grey images")
    images = {split: digits["images"].to(device) for split, digits in splits.items()}
    for trained in train(state, images, objective, config, precision, _progress_bar):
        # A function, not the checkpoint: kedro keeps up to 57 yielded values alive (itertools.tee hands them on).
        yield (
            {checkpoint_name(trained.epoch): partial(snapshot, trained, settings, data_card)},
            pd.DataFrame(trained.history),
        )
        # Back here the catalog has written both: an epoch that is logged is an epoch that is safe.
        _log_epoch(trained, config.epochs, len(images["train"]))


def _check_split(split: str, digits: Digits, data_card: dict[str, Any]) -> None:
    check_digits(digits, f"{split}_digits")
    expected, found = data_card["sha256"][split], digits_sha256(digits)
    if found != expected:
        raise DataError(
            f"{split}_digits: expected the digits of the data card (sha256 {expected[:12]}…), "
            f"found others ({found[:12]}…): one of the files was changed. Run kedro run --pipeline=ingest again."
        )


def _progress_bar(batches: Iterable[Batch], epoch: int) -> Iterable[Batch]:
    # disable=None: a bar on a terminal, nothing in a log file
    return tqdm(batches, desc=f"epoch {epoch}", unit="batch", leave=False, disable=None)


def _log_epoch(state: TrainingState, epochs: int, count: int) -> None:
    row = state.history[-1]
    parts = "  ".join(
        f"{split} loss {row[f'{split}_loss']:.2f} bce {row[f'{split}_bce']:.2f} kld {row[f'{split}_kld']:.2f}"
        for split in ("train", "test", "validation")
        if f"{split}_loss" in row
    )
    if skipped := row["skipped_steps"]:
        parts += f"  {skipped} steps skipped: float16 overflowed"
    speed = f"{row['seconds']:.1f} s  {count / row['seconds']:,.0f} images/s"
    logger.info("epoch %*d/%d  %s  %s", len(str(epochs)), state.epoch, epochs, parts, speed)
