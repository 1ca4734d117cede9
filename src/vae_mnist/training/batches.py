"""Seeded minibatches of images that stay on the device."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..config.parameters import TrainConfig
from ..data.images import ImageSet
from ..data.pixels import as_pixels, binarise
from ..storage.fields import Split
from .team import ALONE, Team

# One binarisation for every epoch, run and machine: test losses compare.
TEST_BINARISATION_SEED = 0


class Batch(NamedTuple):
    """One step's input."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]; 0 or 1 where `train.binarisation` says so
    labels: Tensor  # (B,) int64; a model that is not conditional ignores them
    noise: Tensor  # (S, B, D) standard normal
    total: int  # images in the whole batch, of which a team's process has a part
    extra_noise: Tensor | None = None  # (B, E) standard normal, for objectives that need some


@dataclass(frozen=True)
class Batches:
    """Each iteration is one epoch: a new order, every image once, the last batch ragged.

    Order, noise and binarisation come from one CPU generator: they are the same on every device, and its state is all
    that resuming needs.
    """

    image_set: ImageSet  # images (N, C, H, W) uint8 and labels (N,), on the device that trains
    samples: int  # S
    noise_dim: int  # D
    batch_size: int  # B
    generator: torch.Generator  # on the CPU, in one state in all processes of a team
    team: Team = ALONE  # that share each batch; noise belongs to an image, not to the process that has it
    dynamic: bool = False  # draw each pixel anew, 1 with its grey value as probability
    extra_dim: int = 0  # E

    def __len__(self) -> int:
        return ceil(len(self.image_set["images"]) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        images, labels = self.image_set["images"], self.image_set["labels"]
        order = torch.randperm(len(images), generator=self.generator).to(images.device)
        for whole in order.split(self.batch_size):
            noise = torch.randn(self.samples, len(whole), self.noise_dim, generator=self.generator)
            extra = None
            if self.extra_dim:
                extra = torch.randn(len(whole), self.extra_dim, generator=self.generator)
                extra = self.team.share(extra).to(images.device)
            part = self.team.share(whole)
            pixels = as_pixels(images.index_select(0, part))  # copies rows; indexing goes pixel by pixel
            if self.dynamic:
                # No name for these numbers: they would stay in memory during the pass.
                pixels = (self._uniform(len(whole)).to(images.device) < pixels).float()
            noise = self.team.share(noise, dim=1).to(images.device)
            yield Batch(pixels, labels.index_select(0, part), noise, len(whole), extra)

    def _uniform(self, count: int) -> Tensor:
        """One number in [0, 1) for each pixel of this process's images of a batch of `count`."""
        shape = self.image_set["images"].shape[1:]
        return self.team.share(torch.rand(count, *shape, generator=self.generator))


def binarised(splits: Mapping[Split, ImageSet], config: TrainConfig) -> Mapping[Split, ImageSet]:
    """The images that `train.binarisation` asks for, as far as they are drawn once.

    Args:
        splits: images (N, C, H, W) uint8, on any device.
        config: binarisation, and the seed of static training images.

    Returns:
        With "none" the same; else test and validation images that are 0 or 255; training images also, if static.
    """
    if config.binarisation == "none":
        return splits
    seeds: dict[Split, int] = {"test": TEST_BINARISATION_SEED, "validation": TEST_BINARISATION_SEED}
    if config.binarisation == "static":
        seeds["train"] = config.seed
    return {
        split: _drawn(image_set, seeds[split]) if split in seeds else image_set for split, image_set in splits.items()
    }


def _drawn(image_set: ImageSet, seed: int) -> ImageSet:
    images = image_set["images"]
    return ImageSet(images=binarise(images.cpu(), seed)[0].to(images.device), labels=image_set["labels"])


def progress_bar(batches: Iterable[Batch], epoch: int) -> Iterable[Batch]:
    """The same batches; on a terminal a bar shows them pass."""
    # disable=None: nothing in a log file
    return tqdm(batches, desc=f"epoch {epoch}", unit="batch", leave=False, disable=None)
