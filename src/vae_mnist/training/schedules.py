"""The learning-rate schedule."""

from math import cos, pi

from ..config.parameters import TrainConfig


def rate_shares(config: TrainConfig, epoch: int, steps: int) -> list[float]:
    """The share of the learning rate in each step of an epoch: a rise over the warm-up, then as the schedule says.

    It depends on the step alone, so there is no state to save.

    Args:
        config: schedule, warm-up, epochs.
        epoch: from 1.
        steps: in an epoch.
    """
    warmup, end, shares = config.warmup_steps, config.epochs * steps, []
    for step in range((epoch - 1) * steps, epoch * steps):
        done = (step - warmup) / (end - warmup) if step >= warmup else 0.0
        fall = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + cos(pi * done)) / 2}[config.schedule]
        shares.append((step + 1) / warmup if step < warmup else fall)
    return shares
