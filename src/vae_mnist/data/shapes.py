"""Images in another size, in colour and without."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .pixels import PART

AS_READ = 28  # the size that leaves images as they were read: MNIST's own
COLOUR_SEED = 0
# Thousandths of red, green and blue in the lightness of a pixel: integers, whose sums are exact.
LUMA = torch.tensor([299.0, 587.0, 114.0])[:, None, None]
DARKEST = 64  # least value of a colour's channels: pure blue can hardly be seen on black


def draw_colours(count: int) -> Tensor:
    """A colour for each of `count` images: (count, 3) uint8, red, green, blue, each in DARKEST..255.

    The hue is uniform, drawn from a fixed seed. The first colours are the same for any count, and only integers are
    used: they are the same on every machine.
    """
    generator = torch.Generator().manual_seed(COLOUR_SEED)
    hue = torch.randint(1536, (count, 1), generator=generator)  # on a circle with red at 0, green at 512, blue at 1024
    distance = (hue - torch.tensor([0, 512, 1024])).abs()
    share = (512 - torch.minimum(distance, 1536 - distance)).clamp(0, 256)  # of 256
    return (DARKEST + (255 - DARKEST) * share // 256).to(torch.uint8)


def redraw(images: Tensor, size: int, colours: Tensor | None = None, *, grey: bool = False) -> Tensor:
    """Images in another size, in colour on black if `colours` are given, or without their colours.

    Bilinear with antialiasing: unlike bicubic, it gives no values outside 0..255, whose clipping would change the mean.
    From 28 to 32, 64 or 128 pixels its weights are multiples of 1/64 and its sums exact in float32, which gives the
    same bytes on every machine.

    Args:
        images: (N, C, H, W) uint8.
        size: pixels a side; AS_READ keeps H and W.
        colours: (N, 3) uint8, of white; for grey images.
        grey: whether images in colour become grey, by ITU-R BT.601.

    Returns:
        (N, C, size, size) uint8, with colours three channels, grey one; the same tensor if nothing changes.
    """
    channels, *sides = images.shape[1:]
    shape = sides if size == AS_READ else [size, size]
    grey = grey and channels > 1
    if shape == sides and colours is None and not grey:
        return images
    drawn = torch.empty(len(images), 1 if grey else channels if colours is None else 3, *shape, dtype=torch.uint8)
    for start in range(0, len(images), PART):
        part = slice(start, start + PART)
        pixels = interpolate(images[part].float(), shape, mode="bilinear", antialias=True).round_()
        if colours is not None:
            pixels = (pixels * colours[part, :, None, None]).div_(255).round_()
        elif grey:
            pixels = (pixels * LUMA).sum(1, keepdim=True).div_(1000).round_()
        drawn[part] = pixels
    return drawn
