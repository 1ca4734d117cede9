"""Checkpoint files: one dict a file, readable by `torch.load` with its safe default. Nothing is unpickled."""

import hashlib
import re
import stat
from collections.abc import Iterator, Mapping
from io import BytesIO
from math import inf, isfinite
from os import PathLike
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import torch
from torch import Tensor

from ..config.parameters import ModelConfig
from ..data.images import Digits, check_digits, digits_sha256
from ..errors import CheckpointError, DamagedCheckpointError, DataError, VaeMnistError
from ..models import VAE, build_model
from .archives import check_archive, seal
from .atomic import atomic_write

FORMAT_VERSION = 2  # 2: with a checksum

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
    "rng_state": Tensor,  # of the generator of order and noise
    "history": list,  # one dict an epoch
    "settings": dict,  # "group.name" -> value: what must not change when a run goes on
    "config_hash": str,  # sha256 of the settings
    "data_hash": str,  # sha256 of the training digits
    "dataset": dict,  # the data card
    "versions": dict,
}

ROW_KEYS = frozenset(
    {"epoch", "seconds", "beta"} | {f"{split}_{part}" for split in ("train", "test") for part in ("loss", "bce", "kld")}
)
_MAX_SIDE = 65_536  # of an image


def checkpoint_name(epoch: int) -> str:
    """The file's name without its suffix: vae_epoch_001."""
    return f"vae_epoch_{epoch:03d}"


def write_checkpoint(checkpoint: Checkpoint, path: str | PathLike[str]) -> None:
    """Write one checkpoint with its checksum, whole or not at all.

    Raises:
        CheckpointError: `read_checkpoint` would refuse the file: an object in it, or a tensor or dict in two places.
        OSError: the disk is full, read-only or gone.
    """
    # In memory first: where the disk is full, torch's own writer ends in anything but an OSError.
    archive = BytesIO()
    torch.save(checkpoint, archive)
    seal(archive)
    check_archive(archive)
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(archive.getbuffer())


def read_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Read one checkpoint onto the CPU, without running anything it may carry.

    Raises:
        DamagedCheckpointError: the file is not as it was written.
        CheckpointError: no such file, not a checkpoint, a pickled object inside, another format, wrong contents.
    """
    path = Path(path)
    try:
        _check_regular(path)
        with path.open("rb") as file:
            check_archive(file)
            file.seek(0)
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        _check(checkpoint)
        _check_name(checkpoint, path.name)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected a checkpoint file, found nothing.") from error
    except DamagedCheckpointError as error:
        raise DamagedCheckpointError(
            f"{path}: {error} If it is the newest of its run, kedro run sets it aside and goes on from the one before; "
            "an older one can be deleted."
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # a disk, or torch's reader, can fail in any way; each becomes one message
        raise CheckpointError(f"{path}: expected a checkpoint, but it cannot be read ({error!r:.200}).") from error
    return checkpoint  # type: ignore[no-any-return]


def model_from_checkpoint(checkpoint: Checkpoint) -> VAE:
    """The model of a checkpoint, with its weights, in eval mode, on the CPU.

    Raises:
        CheckpointError: the weights do not fit the model that the checkpoint describes.
    """
    try:
        settings = dict(checkpoint["model"])
        image_shape = settings.pop("image_shape")
        # On no device: a small file may describe a model that fills the memory, and no generator moves.
        with torch.device("meta"):
            model = build_model(ModelConfig(**settings), image_shape)
    except (RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{brief(checkpoint['model'])} describes no model: {error}") from error
    try:
        check_tensors(model.state_dict(), checkpoint["model_state"])
    except CheckpointError as error:
        raise CheckpointError(f"the checkpoint's weights do not fit its model: {error}") from error
    # Copies: training the model shall not change the checkpoint.
    weights = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in checkpoint["model_state"].items()
    }
    model.load_state_dict(weights, assign=True)
    return model.eval()


def check_tensors(expected: Mapping[str, Tensor], found: Mapping[str, object]) -> None:
    """Refuse tensors of other names, shapes or types, or with numbers that are not finite.

    Raises:
        CheckpointError: naming the first of them, what was expected and what came.
    """
    for name in [*expected, *(name for name in found if name not in expected)]:
        wanted, came = (_layout(tensors.get(name)) for tensors in (expected, found))
        if wanted != came:
            raise CheckpointError(f"{brief(name)}: expected {wanted}, found {came}.")
    for name, tensor in found.items():
        if isinstance(tensor, Tensor) and not tensor.isfinite().all():
            raise CheckpointError(f"{brief(name)}: expected finite numbers, found infinite ones or NaN.")


def check_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Refuse the state of an optimizer with other settings or parameters than the one given, or not finite.

    Raises:
        CheckpointError: what was expected and what came.
    """
    # These say how a step is computed, which depends on the machine; the others say what it computes.
    free = {"params", "foreach", "fused", "capturable"}
    for expected, found in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        # A key that another version of torch does not know is its default.
        for key in sorted((expected.keys() & found.keys()) - free):
            value = list(expected[key]) if isinstance(expected[key], tuple) else expected[key]
            if found[key] != value:
                raise CheckpointError(f"optimizer: expected {key} {value}, found {brief(found[key])}.")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    wanted = {
        f"{name} of parameter {index}": like
        for index, parameter in enumerate(parameters)
        for name, like in {"step": torch.tensor(0.0), "exp_avg": parameter, "exp_avg_sq": parameter}.items()
    }
    came = {
        f"{name} of parameter {index}": tensor
        for index, tensors in saved["state"].items()
        for name, tensor in tensors.items()
    }
    if came:  # nothing where float16 has skipped every step so far
        check_tensors(wanted, came)


def check_scaler(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse the state of a gradient scaler with other settings than the one given.

    Raises:
        CheckpointError: what was expected and what came.
    """
    moving = {"scale", "_growth_tracker"}
    fits = found.keys() == expected.keys() and all(
        type(found[key]) is type(value) and (found[key] == value or (key in moving and 0 <= found[key] < inf))
        for key, value in expected.items()
    )
    if not fits:
        raise CheckpointError(f"scaler_state: expected one like {dict(expected)}, found {brief(found)}.")


def weights_digest(state: Mapping[str, Tensor]) -> Tensor:
    """Identify weights by names, shapes and bytes, in their order: sha256 as (32,) uint8."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


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
    check_digits(digits, f"{split}_digits")
    expected, found = checkpoint["dataset"]["sha256"][split], digits_sha256(digits)
    if found != expected:
        raise DataError(
            f"{split}_digits: expected those of the run, {checkpoint['dataset']['title']} (sha256 {expected[:12]}…), "
            f"found {len(digits['labels']):,} others ({found[:12]}…). "
            "Run kedro run --pipeline=ingest with the run's ingest.source."
        )


def _check_regular(path: Path) -> None:
    # A pipe would let its reader wait for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise CheckpointError(f"expected a checkpoint file, found {'a folder' if path.is_dir() else 'no file'}.")


def _check(checkpoint: object) -> None:
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"expected a dict, found {type(checkpoint).__name__}.")
    version = checkpoint.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"expected format_version {FORMAT_VERSION}, the one that this version of vae_mnist reads, found "
            f"{brief(version)}. Read it with the version that wrote it, or train the model again."
        )
    wrong = [
        f"{key} ({type(checkpoint[key]).__name__})" if key in checkpoint else f"{key} (missing)"
        for key, kind in KEYS.items()
        if type(checkpoint.get(key, ...)) not in (kind if isinstance(kind, tuple) else (kind,))
    ]
    if wrong:
        raise CheckpointError(f"these keys are missing or of the wrong type: {', '.join(wrong)}.")
    for ok, expected, found in _contents(checkpoint):
        if not ok:
            raise CheckpointError(f"expected {expected}, found {brief(found)}. It was not written by this project.")


def _contents(checkpoint: Checkpoint) -> Iterator[tuple[bool, str, object]]:
    """(whether it holds, what is expected, what came); each may rely on those before it."""
    for key, depth in {"model": 2, "settings": 1, "scaler_state": 1, "dataset": 3, "versions": 1}.items():
        yield _is_plain(checkpoint[key], depth), f"{key} of plain numbers and text", checkpoint[key]
    shape = checkpoint["model"].get("image_shape")
    sides = isinstance(shape, list) and all(type(side) is int and 1 <= side <= _MAX_SIDE for side in shape)
    yield sides and len(shape) == 3, "model.image_shape [channels, height, width]", shape  # noqa: PLR2004
    for key in ("latent_dim", "hidden_dim"):
        yield checkpoint[key] == checkpoint["model"].get(key), f"{key} as in model", checkpoint[key]
    beta = checkpoint["settings"].get("objective.beta")
    yield _is_number(beta), "a number as settings objective.beta", beta
    card = checkpoint["dataset"]
    for key in ("name", "title", "source"):
        yield isinstance(card.get(key), str), f"text as dataset {key}", card.get(key)
    for key, kind in {"sha256": str, "counts": int}.items():
        per_split = card.get(key)
        complete = isinstance(per_split, dict) and per_split.keys() == {"train", "validation", "test"}
        yield complete and all(type(value) is kind for value in per_split.values()), f"dataset {key} a split", per_split
    history, epoch = checkpoint["history"], checkpoint["epoch"]
    yield len(history) == epoch >= 1, f"a row of history for each of {epoch} epochs", len(history)
    for number, row in enumerate(history, start=1):
        whole = type(row) is dict and row.keys() >= ROW_KEYS and row["epoch"] == number
        yield whole and all(map(_is_number, row.values())), f"finite losses of epoch {number} in its row", row
    for name, tensor in checkpoint["model_state"].items():
        yield type(tensor) is Tensor, f"a tensor as weights {brief(name)}", tensor
        yield bool(tensor.isfinite().all()), f"finite weights {brief(name)}", "infinite ones or NaN"


def _layout(tensor: object) -> str:
    if isinstance(tensor, Tensor):
        return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
    return "no such tensor" if tensor is None else type(tensor).__name__


def _is_plain(value: object, depth: int) -> bool:
    """Numbers and text, in dicts and lists at most `depth` deep."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(item, depth - 1) for item in inner)
    return value is None or type(value) in {str, int, float, bool}


def _is_number(value: object) -> bool:
    return type(value) in {int, float} and isfinite(value)  # type: ignore[arg-type]


def _check_name(checkpoint: Checkpoint, name: str) -> None:
    match = re.fullmatch(r"vae_epoch_(\d+)\.pt", name)
    if match and int(match[1]) != checkpoint["epoch"]:
        raise CheckpointError(
            f"expected epoch {int(match[1])} as its name says, found epoch {checkpoint['epoch']}: it was renamed. "
            f"Give it its name back, {checkpoint_name(checkpoint['epoch'])}.pt, or one of your own."
        )
