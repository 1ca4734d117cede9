"""The judge: a small classifier of the images at hand, whose features samples are compared by."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from ..data.pixels import as_pixels
from ..errors import InputError

FEATURES = 128
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 3, 128, 6e-3, 0.01
SHIFT = 2  # pixels, at most, that a training image is moved by
MAX_SIDE = 32  # larger images are averaged down to it
PART = 1000  # images at once


class Judged(NamedTuple):
    """What the judge says of N images."""

    features: Tensor  # (N, FEATURES) float32, not negative
    probabilities: Tensor  # (N, K) float32, of the classes


class Judge(nn.Module):
    """Three convolutions and a hidden layer, whose outputs are the features.

    Args:
        channels: of the images.
        classes: K, two or more.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_block(channels, 32, 5, 2),
            *_block(32, 64, 3, 1),
            nn.MaxPool2d(2),
            *_block(64, 64, 3, 1),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(64 * 16, FEATURES)
        self.classify = nn.Linear(FEATURES, classes)

    def features(self, pixels: Tensor) -> Tensor:
        """(N, FEATURES), of pixels (N, C, H, W) in [0, 1]."""
        hidden: Tensor = self.hidden(self.convolutions(pixels)).relu()
        return hidden

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, K), the logarithms of the probabilities but for a constant."""
        logits: Tensor = self.classify(self.features(pixels))
        return logits


def _block(inputs: int, outputs: int, size: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


def train_judge(images: Tensor, labels: Tensor, classes: int, *, seed: int, bfloat16: bool = False) -> Judge:
    """Train it on images that are moved by up to SHIFT pixels, in eval mode afterwards.

    torch's global generator is left as it was; the same seed gives the same judge on one machine.

    Args:
        images: (N, C, H, W) uint8, on the device that trains.
        labels: (N,) int64.
        classes: K.
        seed: of weights, order and shifts.
        bfloat16: whether products are computed in it.

    Raises:
        InputError: there is only one class.
    """
    if classes < 2:  # noqa: PLR2004
        raise InputError(
            f"judge: expected images of at least two classes, got {classes}. A classifier of one class learns nothing."
        )
    generator = torch.Generator().manual_seed(seed)
    judge = unfilled_judge(images.shape[1], classes).to_empty(device="cpu")
    for layer in judge.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    judge = judge.to(images.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    batches = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            if len(chosen) == 1:  # which has no variance to normalise by
                continue
            shift = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
            pixels = as_pixels(shrunk(images[chosen])).roll(shift, (2, 3))
            optimizer.zero_grad(set_to_none=True)
            # A block for each step: within one, weights are cast once.
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
                logits = judge(pixels.to(memory_format=torch.channels_last)).float()
            cross_entropy(logits, labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    return judge.eval()


def unfilled_judge(channels: int, classes: int) -> Judge:
    """A judge without weights, on the meta device: no generator moves."""
    with torch.device("meta"):
        return Judge(channels, classes)


def shrunk(images: Tensor) -> Tensor:
    """Images (N, C, H, W), those of more than MAX_SIDE pixels a side averaged down to it, as float in [0, 1]."""
    pixels = as_pixels(images)
    height, width = (min(side, MAX_SIDE) for side in images.shape[2:])
    return pixels if pixels.shape[2:] == (height, width) else adaptive_avg_pool2d(pixels, (height, width))


@torch.no_grad()
def judged(judge: Judge, images: Tensor) -> Judged:
    """Features and probabilities of images (N, C, H, W), uint8 or in [0, 1], on the CPU.

    Args:
        judge: in eval mode, on any device.
        images: on any device.
    """
    device = next(judge.parameters()).device
    features, probabilities = torch.empty(len(images), FEATURES), torch.empty(len(images), judge.classify.out_features)
    for start in range(0, len(images), PART):
        part = slice(start, start + PART)
        pixels = shrunk(images[part].to(device)).to(memory_format=torch.channels_last)
        features[part] = judge.features(pixels)
        probabilities[part] = judge.classify(features[part].to(device)).float().softmax(1)
    return Judged(features, probabilities)
