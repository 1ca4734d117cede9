"""python -m benchmarks.labels CHECKPOINT: do samples of a conditional model show the class that was asked for?

A small convolutional classifier is trained on the training digits (about two minutes on two cores) and reads 10,000
samples, as many of each class.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vae_mnist import load_model, sample
from vae_mnist.data.pixels import as_pixels

from .digits import find_digits

EPOCHS, BATCH, RATE = 6, 128, 2e-3


def main() -> None:
    """Print the classifier's accuracy on test digits, and the share of samples of the class asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--mnist-root", type=Path, default=Path("data/01_raw"), help="holds MNIST/raw/…; else a sample")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model, raw = load_model(arguments.checkpoint), find_digits(arguments.mnist_root)
    if not model.classes or model.image_shape != raw.train["images"].shape[1:]:
        parser.error(f"expected a conditional model of {raw.name}, got {model.classes} classes, {model.image_shape}.")
    judge = trained_classifier(raw.train["images"], raw.train["labels"], model.classes)
    accuracy = (classes_of(judge, raw.test["images"]) == raw.test["labels"]).double().mean().item()
    print(f"classifier: {accuracy:.2%} of {len(raw.test['labels']):,} test digits right")
    labels = torch.arange(arguments.count) % model.classes
    images = sample(model, arguments.count, labels=labels, seed=arguments.seed)
    right = classes_of(judge, images) == labels
    each = ", ".join(f"{right[labels == label].double().mean():.1%}" for label in range(model.classes))
    print(f"samples: {right.double().mean():.2%} of {arguments.count:,} of the class asked for ({each})")


def trained_classifier(images: Tensor, labels: Tensor, classes: int, seed: int = 0) -> nn.Module:
    """Two convolutions and two dense layers, trained by Adam with a rate that falls to 0.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        classes: how many.
        seed: of the weights and the order.
    """
    torch.manual_seed(seed)
    channels, height, width = images.shape[1:]
    judge = nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * (height // 4) * (width // 4), 256), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(256, classes),
    )  # fmt: skip
    optimizer = torch.optim.Adam(judge.parameters(), lr=RATE)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = cross_entropy(judge(as_pixels(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval()


@torch.no_grad()
def classes_of(judge: nn.Module, images: Tensor) -> Tensor:
    """The most likely class of each image, (N,) int64."""
    return torch.cat([judge(as_pixels(part)).argmax(1) for part in images.split(1000)])


if __name__ == "__main__":
    main()
