"""The learning-rate schedule."""

from math import cos, pi

from ..config.parameters import TrainConfig


def learning_rates(config: TrainConfig, epoch: int, steps: int) -> list[float]:
    """The learning rate of each step of an epoch: a rise over the warm-up, then as the schedule says.

    A rate depends on the step alone, so there is no state to save.

    Args:
        config: learning rate, schedule, warm-up, epochs.
        epoch: from 1.
        steps: in an epoch.
    """
    warmup, end, shares = config.warmup_steps, config.epochs * steps, []
    for step in range((epoch - 1) * steps, epoch * steps):
        done = (step - warmup) / (end - warmup) if step >= warmup else 0.0
        fall = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + cos(pi * done)) / 2}[config.schedule]
        shares.append((step + 1) / warmup if step < warmup else fall)
    return [share * config.learning_rate for share in shares]
