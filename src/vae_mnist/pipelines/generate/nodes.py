"""New images as tensors, as one grid, and as single images."""

from collections.abc import Callable
from functools import partial
from math import ceil, sqrt
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...config.parameters import GenerateConfig, TrainConfig
from ...errors import CheckpointError, ConfigError, InputError
from ...models import model_from_checkpoint
from ...models.likelihoods import shown_words
from ...plots import Caption, sample_grid
from ...sampling import class_labels, decode, prior_codes
from ...storage.checkpoints import Checkpoint
from ...training.machine import resolve_machine
from ...training.memory import check_memory, generation_need

GRID_LIMIT = 400  # images on one page


def generate_images(
    checkpoints: dict[str, Callable[[], Checkpoint]], config: GenerateConfig, train: TrainConfig
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Decode codes drawn from the prior.

    Args:
        checkpoints: oldest first.
        config: how many, of which class, from which seed and checkpoint.
        train: device, precision and threads.

    Returns:
        {"images": (N, C, H, W) float32 pixel means in [0, 1], "codes": (N, Z)}, of a conditional model "labels" (N,) as
        well, and the facts for the caption.

    Raises:
        CheckpointError: no checkpoint of that name.
        ConfigError: memory does not hold that many images, or the model has no such class.
    """
    name = list(checkpoints)[-1] if config.checkpoint == "newest" else config.checkpoint
    if name not in checkpoints:
        raise CheckpointError(
            f"generate.checkpoint: expected 'newest' or one of {_names(list(checkpoints))}, got {name!r}."
        )
    checkpoint, machine = checkpoints[name](), resolve_machine(train)
    model = machine.place(model_from_checkpoint(checkpoint))

    def need(count: int) -> int:
        return generation_need(model, count, min(count, GRID_LIMIT))

    check_memory("generate.count", config.count, "images", need, machine.device)
    try:
        each = torch.arange(config.count) % max(1, model.classes)
        chosen = each if config.label == "each" else config.label
        labels = class_labels(model, chosen, config.count, by_turns=True)
    except InputError as error:
        raise ConfigError(f"generate.label: {str(error).removeprefix('labels: ')}") from error
    with machine.measuring():
        codes = prior_codes(model, config.count, labels=labels, seed=config.seed, temperature=config.temperature)
        images = decode(model, codes, labels)
    tensors = {"images": images, "codes": codes} | ({"labels": labels} if labels is not None else {})
    by_turns = bool(model.classes) and not isinstance(config.label, int)
    drawn = f"seed {config.seed}"
    if labels is not None:
        drawn += ", a column a class" if by_turns else f", class {checkpoint.dataset.class_name(int(labels[0]))}"
    drawn += f", temperature {config.temperature:g}" if config.temperature != 1 else ""
    columns = model.classes if by_turns else 0
    said = {"drawn": drawn, "shown": shown_words(model.likelihood), "columns": columns}
    return tensors, {"dataset": checkpoint.dataset, "row": checkpoint.history[-1]} | said


def draw_images(tensors: dict[str, Tensor], facts: dict[str, Any], run: str) -> Image.Image:
    """One page of them, as square as can be; at most GRID_LIMIT."""
    images = tensors["images"]
    shown = images[:GRID_LIMIT]
    what = f"{len(images):,} new images" if len(shown) == len(images) else f"{len(shown)} of {len(images):,} new images"
    title = f"{what}, {facts['drawn']} ({facts['shown']})"
    columns = facts["columns"] or ceil(sqrt(len(shown)))
    return sample_grid(shown, columns, Caption.of(title, run, facts["dataset"], facts["row"]))


def to_images(tensors: dict[str, Tensor]) -> dict[str, Callable[[], Image.Image]]:
    """Single images, their pixels as they are (MNIST is white on black); each is made when it is written."""
    image_set = tensors["images"]
    width = len(str(len(image_set)))
    return {
        f"image_{index:0{max(4, width)}d}": partial(_picture, image) for index, image in enumerate(image_set, start=1)
    }


def _picture(image: Tensor) -> Image.Image:
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()  # (H, W, C)
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def _names(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:3])}, …, {', '.join(names[-2:])}"  # noqa: PLR2004
