"""One module each: the same network, data, batch size and optimizer, in somebody's own way.

A contestant is built from the folder of digits, trains one epoch at a time and can tell its test loss.
"""

from abc import ABC, abstractmethod

LATENT, HIDDEN, PIXELS, BATCH, RATE = 32, 512, 784, 128, 1e-3
CONV_HIDDEN = 256  # of the convolutional network


class Contestant(ABC):
    """What the benchmark asks of each."""

    def answer(self, order: str) -> float | tuple[float, float]:
        """Do "epoch" or "test"."""
        return self.epoch() if order == "epoch" else self.test_loss()

    @abstractmethod
    def epoch(self) -> tuple[float, float]:
        """Train on every digit once; seconds of the training pass, and its mean loss in nats per image."""

    @abstractmethod
    def test_loss(self) -> float:
        """Mean loss over the test digits, one posterior sample each, in nats per image."""
