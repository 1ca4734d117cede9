"""What fits into memory: how much is free, and how much training, evaluation and generation would take."""

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from ..config.parameters import EvaluateConfig, ModelConfig
from ..errors import ConfigError
from ..models import VAE

# Bytes an image takes for each of its pixels, hidden and latent dimensions. Upper bounds, rounded up from measured
# peaks; tests/training/test_memory.py holds them to new measurements.
TRAINED = (24, 16, 56)  # a step forth and back
DECODED = (20, 12, 24)  # a pass without gradients

# Bytes a parameter takes: weight, gradient and two moments of Adam; weight and moments again in a snapshot, in the
# bytes of its file, and in the checkpoint gone on from; one for what the allocator keeps.
PARAMETER = 14 * 4

_WEIGHT = 4 * 4  # bytes of an importance weight, and of what its logarithm and sum need
_MEASURED = 1000  # images in one piece of a test loss
_BINARISED = 10_000  # images binarised in one piece, 17 bytes a pixel
_DECODED = 4096  # codes decoded in one piece
_SHOWN, _PICTURE = 400, 1_300_000  # digits on one page, and bytes that each takes while the page is written
_THREADS = 2**28  # bytes of addresses that new threads reserve and hardly use; `ulimit -v` counts them


class Sizes(NamedTuple):
    """What a network's memory depends on."""

    pixels: int
    hidden_dim: int
    latent_dim: int

    @classmethod
    def of(cls, model: ModelConfig | VAE, image_shape: Sequence[int]) -> "Sizes":
        """Sizes of a model that is built, or is to be."""
        return cls(prod(image_shape), model.hidden_dim, model.latent_dim)

    @property
    def parameters(self) -> int:
        """How many numbers are trained; biases are left out."""
        return self.hidden_dim * (2 * self.pixels + 3 * self.latent_dim)

    def image(self, rates: Sequence[int]) -> int:
        """Bytes an image takes at these rates."""
        return sum(size * rate for size, rate in zip(self, rates, strict=True))


class Need(NamedTuple):
    """Bytes that some work takes at its peak."""

    fixed: int  # whatever is chosen
    each: int  # for each image at once

    def of(self, count: int) -> int:
        """Bytes for so many images at once."""
        return self.fixed + count * self.each


def training_need(sizes: Sizes, count: int) -> Need:
    """What training on `count` digits takes, a batch at a time."""
    # Digits, their order and the noise of an epoch are on the device as a whole.
    epoch = count * (sizes.pixels + 8 + 4 * sizes.latent_dim)
    tested = min(count, _MEASURED) * sizes.image(DECODED)
    return Need(PARAMETER * sizes.parameters + epoch + tested, sizes.image(TRAINED))


def evaluation_need(sizes: Sizes, count: int, samples: int) -> Need:
    """What an evaluation on `count` digits takes, a chunk at a time."""
    means = 3 * 4 * count * sizes.latent_dim  # in pieces, in one, and as squares for their variance
    tested = min(count, _MEASURED) * sizes.image(DECODED) + min(count, _BINARISED) * 17 * sizes.pixels
    return Need(means + tested + _WEIGHT * samples, sizes.image(DECODED))


def generation_need(sizes: Sizes, shown: int) -> Need:
    """What generating takes: a piece at work, a page, every digit and its code, and the file of them that is mapped."""
    return Need(_DECODED * sizes.image(DECODED) + _PICTURE * shown, 2 * 4 * (sizes.pixels + sizes.latent_dim))


def available_memory(device: torch.device) -> int:
    """Bytes that can still be had: of a CUDA card its free memory, else what system, container and shell allow."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [psutil.virtual_memory().available, *_container_free()]
    if hasattr(psutil, "RLIMIT_AS"):  # Linux: `ulimit -v`
        limit = psutil.Process().rlimit(psutil.RLIMIT_AS)[0]
        if limit != psutil.RLIM_INFINITY:
            free.append(limit - psutil.Process().memory_info().vms - _THREADS)
    return max(0, min(free))


def check_training(
    model: ModelConfig, image_shape: Sequence[int], count: int, batch_size: int, device: torch.device
) -> None:
    """Refuse a training that memory cannot hold.

    Args:
        model: which model.
        image_shape: (C, H, W).
        count: how many training digits.
        batch_size: as asked for; a batch has no more images than there are digits.
        device: where training runs.

    Raises:
        ConfigError: naming the batch size that would fit, or the model's sizes if none would.
    """
    sizes = Sizes.of(model, image_shape)
    _check("train.batch_size", min(batch_size, count), "images", training_need(sizes, count), sizes, device)


def check_evaluation(model: VAE, count: int, config: EvaluateConfig) -> None:
    """Refuse an evaluation that memory cannot hold.

    Args:
        model: on the device that evaluates.
        count: how many images.
        config: number of samples, chunk size.

    Raises:
        ConfigError: naming the chunk size that would fit, or the model's sizes if none would.
    """
    sizes = Sizes.of(model, model.image_shape)
    need = evaluation_need(sizes, count, config.importance_samples)
    rows = min(config.chunk_size, count * config.importance_samples)
    _check("evaluate.chunk_size", rows, "decoder outputs", need, sizes, _device(model))


def check_generation(model: VAE, count: int) -> None:
    """Refuse to generate more digits than memory can hold.

    Args:
        model: on the device that decodes.
        count: how many digits.

    Raises:
        ConfigError: naming the number that would fit, or the model's sizes if none would.
    """
    sizes = Sizes.of(model, model.image_shape)
    _check("generate.count", count, "digits", generation_need(sizes, min(count, _SHOWN)), sizes, _device(model))


def _check(key: str, asked: int, what: str, need: Need, sizes: Sizes, device: torch.device) -> None:
    free = available_memory(device)
    if need.of(asked) <= free:
        return
    # Less than what fits at this moment: memory that is free now may be taken when the next run asks.
    fits = (free - need.fixed) // need.each * 9 // 10
    if fits < 1:
        raise ConfigError(
            f"model.hidden_dim, model.latent_dim: {sizes.hidden_dim:,} and {sizes.latent_dim:,} need about "
            f"{_gigabytes(need.of(1))}, and {_gigabytes(free)} of memory are free. Choose a smaller model."
        )
    fits -= fits % 10 ** max(0, len(str(fits)) - 2)  # two figures are enough
    raise ConfigError(
        f"{key}: {asked:,} {what} at once need about {_gigabytes(need.of(asked))}, and {_gigabytes(free)} of "
        f"memory are free; at most {fits:,} would fit: --params={key}={fits}"
    )


def _container_free(root: Path = Path("/")) -> Iterator[int]:
    """Bytes that each control group around this process leaves (Linux)."""
    table = root / "proc/self/cgroup"
    for line in table.read_text().splitlines() if table.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top, names = (
                root / "sys/fs/cgroup/memory",
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            )
        else:
            continue
        # In a container the path may be the host's, of which only the top is to be seen.
        inner = top / path.lstrip("/")
        for group in [inner, *inner.parents]:
            if not group.is_relative_to(top) or not (group / names[0]).is_file():
                continue
            limit, used = ((group / name).read_text().strip() for name in names[:2])
            if limit != "max":
                cached = dict(map(str.split, (group / "memory.stat").read_text().splitlines()))[names[2]]
                # Pages of files count as used, and are given back when they are needed.
                yield int(limit) - int(used) + int(cached)


def _device(model: VAE) -> torch.device:
    return next(model.parameters()).device


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
