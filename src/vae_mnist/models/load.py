"""Trained models, from checkpoints."""

from collections.abc import Mapping
from os import PathLike
from reprlib import repr as brief

import torch
from torch import Tensor

from ..config.model import ModelConfig
from ..errors import CheckpointError, VaeMnistError
from ..storage.checkpoints import Checkpoint, read_checkpoint
from ..storage.fields import shown
from .build import build_model
from .vae import VAE


def load_model(path: str | PathLike[str]) -> VAE:
    """The model of a checkpoint file, in eval mode, on the CPU.

    >>> model = load_model("data/06_models/default/vae_epoch_020.pt")  # doctest: +SKIP

    Raises:
        CheckpointError: see `read_checkpoint` and `model_from_checkpoint`.
    """
    checkpoint = read_checkpoint(path)
    try:
        return model_from_checkpoint(checkpoint)
    except VaeMnistError as error:
        raise CheckpointError(f"{path}: {error}") from error


def model_from_checkpoint(checkpoint: Checkpoint) -> VAE:
    """The model of a checkpoint, with its weights, in eval mode, on the CPU.

    Raises:
        CheckpointError: the weights do not fit the model that the checkpoint describes.
    """
    try:
        # On no device: a small file may describe a model that fills the memory, and no generator moves.
        with torch.device("meta"):
            model = build_model(ModelConfig(**checkpoint.model), checkpoint.image_shape, checkpoint.dataset.classes)
    except (RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{brief(checkpoint.model)} describes no model: {error}") from error
    try:
        check_tensors(model.state_dict(), checkpoint.model_state)
    except CheckpointError as error:
        raise CheckpointError(f"the checkpoint's weights do not fit its model: {error}") from error
    # Copies: training the model shall not change the checkpoint.
    weights = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in checkpoint.model_state.items()
    }
    model.load_state_dict(weights, assign=True)
    return model.eval()


def check_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse tensors of other names, shapes or types.

    Raises:
        CheckpointError: naming the first of them, what was expected and what came.
    """
    for name in {**expected, **found}:
        wanted, came = (shown(side[name]) if name in side else "no such tensor" for side in (expected, found))
        if wanted != came:
            raise CheckpointError(f"{brief(name)}: expected {wanted}, found {came}.")
