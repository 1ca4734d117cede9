"""pythae (Chadebec, Vincent & Allassonniere 2022): its VAE and its trainer, with the origin's network."""

import logging
import tempfile
from pathlib import Path
from time import perf_counter

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

from ..digits import read
from . import BATCH, CONV_HIDDEN, HIDDEN, LATENT, PIXELS, RATE, Contestant


class Encoder(BaseEncoder):
    """784 -> 512 -> 32, 32; or convolutions before a dense layer, as `vae_mnist.models.conv`."""

    def __init__(self, *, conv: bool) -> None:
        super().__init__()
        if conv:
            down: list[nn.Module] = [nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()]
            self.hidden = nn.Sequential(*down, nn.Flatten(), nn.Linear(64 * 7 * 7, CONV_HIDDEN), nn.ReLU())
        else:
            self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, HIDDEN), nn.ReLU())
        self.mean = nn.Linear(CONV_HIDDEN if conv else HIDDEN, LATENT)
        self.logvar = nn.Linear(CONV_HIDDEN if conv else HIDDEN, LATENT)

    def forward(self, images: Tensor) -> ModelOutput:
        """As pythae wants it."""
        hidden = self.hidden(images)
        return ModelOutput(embedding=self.mean(hidden), log_covariance=self.logvar(hidden))


class Decoder(BaseDecoder):
    """32 -> 512 -> 784, or a dense layer before convolutions."""

    def __init__(self, *, conv: bool) -> None:
        super().__init__()
        if conv:
            small = [nn.Linear(LATENT, CONV_HIDDEN), nn.ReLU(), nn.Linear(CONV_HIDDEN, 64 * 7 * 7), nn.ReLU()]
            up = [nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Sigmoid()]
            self.layers = nn.Sequential(*small, nn.Unflatten(1, (64, 7, 7)), *up)
        else:
            self.layers = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS), nn.Sigmoid())

    def forward(self, z: Tensor) -> ModelOutput:
        """As pythae wants it."""
        return ModelOutput(reconstruction=self.layers(z).view(-1, 1, 28, 28))


class Pythae(Contestant):
    """`BaseTrainer.train_step`, which is pythae's epoch."""

    def __init__(self, folder: Path, device: str, *, conv: bool) -> None:
        logging.disable(logging.INFO)
        torch.manual_seed(0)
        # pythae's own pipeline hands its data set floats in [0, 1].
        train, test = (BaseDataset(digits["images"].float() / 255, digits["labels"].float()) for digits in read(folder))
        self.test = test
        self.trainer = BaseTrainer(
            model=VAE(
                VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce"),
                Encoder(conv=conv),
                Decoder(conv=conv),
            ),
            train_dataset=train,
            training_config=BaseTrainerConfig(
                output_dir=tempfile.mkdtemp(dir=folder),
                num_epochs=1,
                learning_rate=RATE,
                per_device_train_batch_size=BATCH,
                no_cuda=device != "cuda",
            ),
        )
        self.trainer.prepare_training()
        # Its progress bar has a cost that a user can turn off.
        self.trainer.callback_handler.callbacks = []
        self.epochs = 0

    def epoch(self) -> tuple[float, float]:
        """Train on every digit once."""
        self.epochs += 1
        started = perf_counter()
        loss = float(self.trainer.train_step(self.epochs))
        return perf_counter() - started, loss

    @torch.no_grad()
    def test_loss(self) -> float:
        """Mean over the test digits."""
        self.trainer.model.eval()
        images = self.test.data.to(self.trainer.device)
        losses = [float(self.trainer.model({"data": part}).loss) * len(part) for part in images.split(1000)]
        return sum(losses) / len(images)


def build(folder: Path, device: str, *variants: str) -> Pythae:
    """Ready for its first epoch; "conv" for the convolutional network."""
    return Pythae(folder, device, conv="conv" in variants)
