"""Samples, codes, reconstructions and interpolations of a trained model.

The images are pixel means in [0, 1], not Bernoulli draws; with the autoregressive likelihood the mean of each pixel
given the pixels drawn before it. The model's mode and torch's global random state
are left as they are.
"""

from collections.abc import Iterator, Sequence
from math import prod
from reprlib import repr as brief

import torch
from torch import Tensor

from .data.pixels import as_pixels
from .errors import InputError
from .models import VAE

CHUNK = 3 * 2**20  # pixels of decoder outputs at once

Labels = Tensor | Sequence[int] | int | None


@torch.no_grad()
def sample(model: VAE, count: int, *, labels: Labels = None, seed: int = 0, temperature: float = 1.0) -> Tensor:
    """New images: codes from the model's own prior, decoded. (count, C, H, W) in [0, 1], on the CPU.

    Args:
        model: any, on any device.
        count: how many, at least 1.
        labels: of a conditional model, count of 0..K-1 or one for all; None: each class in turn.
        seed: the same seed gives the same codes for every model of one prior and latent size.
        temperature: multiplies the standard deviation of each Gaussian that codes are drawn from.

    Raises:
        InputError: count below 1, a negative temperature, or labels that do not fit.
    """
    chosen = class_labels(model, labels, count, by_turns=True)
    codes = prior_codes(model, count, labels=chosen, seed=seed, temperature=temperature)
    return decode(model, codes, chosen)


@torch.no_grad()
def prior_codes(model: VAE, count: int, *, labels: Labels = None, seed: int = 0, temperature: float = 1.0) -> Tensor:
    """Codes drawn from the model's prior, of all groups of latents, (count, Z), on the CPU; see `sample`."""
    if count < 1:
        raise InputError(f"count: expected at least 1, got {count}.")
    if not temperature >= 0:
        raise InputError(f"temperature: expected 0 or more, got {temperature}.")
    generator = torch.Generator().manual_seed(seed)
    top = model.prior_now().draw(count, generator, temperature).cpu()
    noise = temperature * torch.randn(count, model.latent_dim - top.shape[1], generator=generator)
    return complete(model, top, noise, class_labels(model, labels, count, by_turns=True))


@torch.no_grad()
def complete(model: VAE, top: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
    """Codes of all groups of latents, (N, Z), on the CPU, given those of the top group; see `VAE.complete`.

    Args:
        model: any, on any device.
        top: (N, Z_1).
        noise: (N, Z - Z_1) standard normal, from which the groups below are drawn.
        labels: (N,) int64, for a conditional model.
    """
    device, codes = _device(model), torch.empty(len(top), model.latent_dim)
    for part in _parts(model, len(top)):
        codes[part] = model.complete(top[part].to(device), _on(device, labels, part), noise[part].to(device))
    return codes


def class_labels(model: VAE, labels: Labels, count: int, *, by_turns: bool = False) -> Tensor | None:
    """Labels (count,) int64 on the CPU for a conditional model, None for others; see `sample`.

    Args:
        model: any.
        labels: count of 0..K-1, or one for all.
        count: how many are needed.
        by_turns: whether None means each class in turn.

    Raises:
        InputError: labels for a model that takes none; none for one that does; of another number, or of no class.
    """
    if not model.classes:
        if labels is not None:
            raise InputError("labels: expected none, because the model is not conditional; leave them out.")
        return None
    if labels is None:
        if by_turns:
            return torch.arange(count) % model.classes
        raise InputError(
            f"labels: expected 0 to {model.classes - 1}, one for all or {count}, because the model is conditional, "
            "got none."
        )
    chosen = torch.as_tensor(labels, dtype=torch.int64).cpu()
    chosen = chosen.expand(count) if chosen.ndim == 0 else chosen
    if chosen.shape != (count,) or chosen.min() < 0 or chosen.max() >= model.classes:
        raise InputError(f"labels: expected {count} of 0 to {model.classes - 1}, got {brief(chosen.tolist())}.")
    return chosen


@torch.no_grad()
def decode(model: VAE, z: Tensor, labels: Labels = None) -> Tensor:
    """Pixel means of codes, (N, C, H, W) in [0, 1], on the CPU.

    Args:
        model: any, on any device.
        z: (N, Z), or the codes of the first groups of latents; see `VAE.decode`.
        labels: of a conditional model, N of 0..K-1 or one for all.

    Raises:
        InputError: another shape, or labels that do not fit.
    """
    device, chosen = _device(model), class_labels(model, labels, len(z))
    images = torch.empty(len(z), *model.image_shape)  # filled piece by piece: joining needs twice the memory
    for part in _parts(model, len(z)):
        images[part] = model.decode(z[part].to(device), _on(device, chosen, part))
    return images


@torch.no_grad()
def encode(model: VAE, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of q(z|x), (N, Z) each, on the CPU; of several groups of latents, side by side.

    Args:
        model: any, on any device.
        images: (N, C, H, W), uint8 or float in [0, 1].
        labels: (N,) int64, for a conditional model; others ignore them.

    Raises:
        InputError: another shape, type or range; a conditional model without labels.
    """
    device = _device(model)
    mean, logvar = torch.empty(len(images), model.latent_dim), torch.empty(len(images), model.latent_dim)
    for part in _parts(model, len(images)):
        mean[part], logvar[part] = model.encode(as_pixels(images[part].to(device)), _on(device, labels, part))
    return mean, logvar


@torch.no_grad()
def reconstruct(model: VAE, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """Images through the model by way of their posterior means, (N, C, H, W) in [0, 1], on the CPU.

    Args:
        model: any, on any device.
        images: (N, C, H, W), uint8 or float in [0, 1].
        labels: (N,) int64, for a conditional model; others ignore them.
    """
    return decode(model, encode(model, images, labels)[0], labels if model.classes else None)


@torch.no_grad()
def interpolate(
    model: VAE, z1: Tensor, z2: Tensor, steps: int = 8, *, labels: Labels = None, groups: int = 1
) -> Tensor:
    """Decode the straight line from z1 to z2, both ends included: (steps, C, H, W) in [0, 1], on the CPU.

    Args:
        model: any, on any device.
        z1: (1, Z) or (Z,); of several groups of latents, the first ones are enough.
        z2: likewise.
        steps: at least 2.
        labels: of a conditional model, one for the whole path, or one a step.
        groups: how many groups of latents change, from the top; those below are at their conditional means.

    Raises:
        InputError: fewer steps, another shape, or labels that do not fit.
    """
    if steps < 2:  # noqa: PLR2004
        raise InputError(f"interpolate: expected steps >= 2, both ends included, got {steps}.")
    start, end = _of_groups(model, z1, groups, "interpolate: z1"), _of_groups(model, z2, groups, "interpolate: z2")
    weight = torch.linspace(0, 1, steps, device=z1.device).unsqueeze(1)  # (S, 1)
    return decode(model, torch.lerp(start, end.to(z1.device), weight), labels)


@torch.no_grad()
def traverse(
    model: VAE, z: Tensor, dimensions: list[int], values: Tensor, *, labels: Labels = None, groups: int = 1
) -> Tensor:
    """Decode z with one dimension at a time set to each value: (D x V, C, H, W), one dimension after another.

    Args:
        model: any, on any device.
        z: (1, Z) or (Z,), the code to start from; of several groups of latents, the first ones are enough.
        dimensions: D of 0..Z'-1, of the groups that are kept.
        values: (V,).
        labels: of a conditional model, one for all images, or D x V.
        groups: how many groups of latents are kept, from the top; those below are at their conditional means.

    Raises:
        InputError: another shape, a dimension that does not exist, or labels that do not fit.
    """
    code = _of_groups(model, z, groups, "traverse: z").cpu()
    if wrong := [dimension for dimension in dimensions if not 0 <= dimension < code.shape[1]]:
        raise InputError(f"traverse: expected dimensions of 0 to {code.shape[1] - 1}, got {brief(wrong)}.")
    codes = code.repeat(len(dimensions), len(values), 1)  # (D, V, Z')
    for row, dimension in enumerate(dimensions):
        codes[row, :, dimension] = values
    return decode(model, codes.flatten(0, 1), labels)


def _of_groups(model: VAE, z: Tensor, groups: int, name: str) -> Tensor:
    """The codes of the first groups of latents, (1, Z'), of one code with or without those below."""
    if not 1 <= groups <= len(model.groups):
        raise InputError(f"groups: expected 1 to {len(model.groups)}, got {groups}.")
    width = sum(model.groups[:groups])
    sizes = sorted({width, model.latent_dim})
    if z.shape not in [(*one, size) for size in sizes for one in ((1,), ())]:
        expected = " or ".join(f"(1, {size}) or ({size},)" for size in sizes)
        raise InputError(f"{name}: expected shape {expected}, got {tuple(z.shape)}.")
    return z.reshape(1, -1)[:, :width].float()


def chunk_of(model: VAE) -> int:
    """Decoder outputs that are computed at once."""
    return max(1, CHUNK // prod(model.image_shape))


def _parts(model: VAE, count: int) -> Iterator[slice]:
    size = chunk_of(model)
    return (slice(start, start + size) for start in range(0, count, size))


def _on(device: torch.device, labels: Tensor | None, part: slice) -> Tensor | None:
    return labels[part].to(device) if labels is not None else None


def _device(model: VAE) -> torch.device:
    return next(model.parameters()).device
