"""Checkpoint files: one dict a file, readable by `torch.load` with its safe default. Nothing is unpickled."""

import pickle
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from .config import ModelConfig
from .errors import CheckpointError, DataError, VaeMnistError
from .files import atomic_write
from .models import VAE, build_model
from .preprocessing import Digits, digits_sha256

FORMAT_VERSION = 1

Checkpoint = dict[str, Any]

KEYS: Mapping[str, type | tuple[type, ...]] = {
    "format_version": int,
    "epoch": int,
    "latent_dim": int,
    "hidden_dim": int,
    "model": dict,  # every argument of the model, and its name
    "model_state": dict,
    "optimizer_state": dict,
    "scheduler_state": (dict, type(None)),  # None: the learning rate is constant
    "scaler_state": dict,  # empty unless float16
    "rng_state": torch.Tensor,  # of the generator of order and noise
    "history": list,  # one dict an epoch
    "settings": dict,  # "group.name" -> value: what must not change when a run goes on
    "config_hash": str,  # sha256 of the settings
    "data_hash": str,  # sha256 of the training digits
    "dataset": dict,  # the data card
    "versions": dict,
}


def checkpoint_name(epoch: int) -> str:
    """The file's name without its suffix: vae_epoch_001."""
    return f"vae_epoch_{epoch:03d}"


def write_checkpoint(checkpoint: Checkpoint, path: str | PathLike[str]) -> None:
    """Write one checkpoint, whole or not at all.

    Raises:
        OSError: the disk is full, read-only or gone.
    """
    with atomic_write(Path(path)) as temporary:
        torch.save(checkpoint, temporary)


def read_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Read one checkpoint onto the CPU, without running anything it may carry.

    Raises:
        CheckpointError: no such file, not a checkpoint, a pickled object inside, another format, a missing key.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: expected a checkpoint file, found {'a folder' if path.is_dir() else 'nothing'}."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, nothing of it was run. Expected a dict of tensors, numbers and text; it holds other "
            f"objects or is no checkpoint at all ({_first_line(error)})."
        ) from error
    except Exception as error:  # a reader of malformed bytes can fail in any way; each becomes one message
        raise CheckpointError(
            f"{path}: expected a file written by torch.save, but it cannot be read ({_first_line(error)}). "
            "Delete it; training goes on from the checkpoint before it."
        ) from error
    _check(checkpoint, path)
    return checkpoint  # type: ignore[no-any-return]


def model_from_checkpoint(checkpoint: Checkpoint) -> VAE:
    """The model of a checkpoint, with its weights, in eval mode, on the CPU.

    Raises:
        CheckpointError: the weights do not fit the model that the checkpoint describes.
    """
    try:
        settings = dict(checkpoint["model"])
        image_shape = settings.pop("image_shape")
        # The weights drawn here are replaced at once: the caller's generator shall not move for them.
        with torch.random.fork_rng(devices=[]):
            model = build_model(ModelConfig(**settings), image_shape)
        model.load_state_dict(checkpoint["model_state"])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint's weights do not fit its model {checkpoint['model']}: {error}"
        ) from error
    return model.eval()


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


def check_dataset(checkpoint: Checkpoint, split: str, digits: Digits) -> None:
    """Refuse digits other than those beside which a checkpoint was trained.

    Raises:
        DataError: naming both.
    """
    expected, found = checkpoint["dataset"]["sha256"][split], digits_sha256(digits)
    if found != expected:
        raise DataError(
            f"{split}_digits: expected those of the run, {checkpoint['dataset']['title']} (sha256 {expected[:12]}…), "
            f"found {len(digits['labels']):,} others ({found[:12]}…). "
            "Run kedro run --pipeline=ingest with the run's ingest.source."
        )


def _check(checkpoint: object, path: Path) -> None:
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path}: expected a dict, found {type(checkpoint).__name__}.")
    version = checkpoint.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: expected format_version {FORMAT_VERSION}, found {version!r}. "
            "It was written by another version of vae_mnist or by another program."
        )
    wrong = [
        f"{key} ({type(checkpoint[key]).__name__})" if key in checkpoint else f"{key} (missing)"
        for key, kind in KEYS.items()
        if not isinstance(checkpoint.get(key, ...), kind)
    ]
    if wrong:
        raise CheckpointError(f"{path}: these keys are missing or of the wrong type: {', '.join(wrong)}.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
