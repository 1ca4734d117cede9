"""The way of most tutorials: a data loader that opens and scales each picture, sigmoid and BCE, Adam."""

from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from . import BATCH, HIDDEN, LATENT, PIXELS, RATE, Contestant


class OriginVae(nn.Module):
    """784 -> 512 -> 32 -> 512 -> 784."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(PIXELS, HIDDEN)
        self.mean = nn.Linear(HIDDEN, LATENT)
        self.logvar = nn.Linear(HIDDEN, LATENT)
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS), nn.Sigmoid())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixel means, posterior means, posterior log-variances."""
        hidden = torch.relu(self.hidden(images.view(-1, PIXELS)))
        mean, logvar = self.mean(hidden), self.logvar(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        return self.decoder(z), mean, logvar


def loss_of(pixels: Tensor, images: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """Summed over the batch, nats."""
    bce = functional.binary_cross_entropy(pixels, images.view(-1, PIXELS), reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())


class Origin(Contestant):
    """`torchvision.datasets.MNIST`, `ToTensor`, `DataLoader`."""

    def __init__(self, folder: Path, device: str) -> None:
        torch.manual_seed(0)
        self.train, self.test = (
            datasets.MNIST(folder, train=train, transform=transforms.ToTensor()) for train in (True, False)
        )
        self.device = device
        self.model = OriginVae().to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)

    def epoch(self) -> tuple[float, float]:
        """Train on every digit once."""
        started, total = perf_counter(), 0.0
        self.model.train()
        for images, _ in DataLoader(self.train, batch_size=BATCH, shuffle=True):
            loss = loss_of(*self._pass(images))
            self.optimizer.zero_grad()
            (loss / len(images)).backward()
            self.optimizer.step()
            total += loss.item()
        return perf_counter() - started, total / len(self.train)

    @torch.no_grad()
    def test_loss(self) -> float:
        """Mean over the test digits."""
        self.model.eval()
        losses = [loss_of(*self._pass(images)).item() for images, _ in DataLoader(self.test, batch_size=1000)]
        return sum(losses) / len(self.test)

    def _pass(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images = images.to(self.device)
        pixels, mean, logvar = self.model(images)
        return pixels, images, mean, logvar


def build(folder: Path, device: str) -> Origin:
    """Ready for its first epoch."""
    return Origin(folder, device)
