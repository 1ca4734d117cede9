"""Checkpoint files: one dict each, readable by `torch.load` with its safe default. Nothing in them is executed."""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from itertools import chain
from os import PathLike
from pathlib import Path
from reprlib import repr as brief
from typing import Annotated, BinaryIO, Literal, Self

import torch
from pydantic import ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from ..errors import CheckpointError
from .archives import check_archive, seal
from .atomic import atomic_write
from .fields import MAX_INTEGER, Few, History, ImageShape, Nested, OptimizerState, Tensors, shown
from .records import DataCard, Record, first_problem

FORMAT_VERSION = 4
FILE_NAME = re.compile(r"vae_epoch_(\d+)\.pt")


class Checkpoint(Record):
    """A run after an epoch: the keys of its file, and what they must hold.

    Tensors are not copied. They are finite, require no gradient and share no memory: tied weights must be copied.
    """

    model_config = ConfigDict(protected_namespaces=())  # model_state is no method of pydantic

    format_version: Literal[4] = 4
    epoch: Annotated[int, Field(ge=1)]
    latent_dim: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    image_shape: ImageShape  # [C, H, W]
    model: Nested  # what the weights belong to: numbers and text, in at most four levels of dicts and lists
    objective: Nested  # what was minimised, likewise
    model_state: Tensors  # the average of the weights, where there is one
    trained_state: Tensors  # then the weights that training goes on from; else empty
    objective_state: Tensors
    optimizer_state: OptimizerState  # as torch.optim has it
    scaler_state: Nested  # of the gradient scaler; empty unless float16
    rng_state: Tensor  # uint8, of the generator of order, noise and binarisation
    history: History  # one row an epoch
    settings: Nested  # "group.name" -> value: what must not change on resuming
    dataset: DataCard
    versions: Few[dict[str, str | None]]

    @model_validator(mode="after")
    def _refuse_wrong_contents(self) -> Self:
        if (rows := len(self.history)) != self.epoch:
            raise ValueError(f"expected a row of history for each of {self.epoch} epochs, found {rows}.")
        if self.rng_state.dtype != torch.uint8:
            raise ValueError(f"expected rng_state as uint8, found {shown(self.rng_state)}.")
        groups = [self.model_state, self.trained_state, self.objective_state, *self.optimizer_state["state"].values()]
        tensors = [*chain.from_iterable(group.items() for group in groups), ("rng_state", self.rng_state)]
        # Before any number is read: a tensor of stride 0 has terabytes of them.
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for _, tensor in tensors}
        held, stored = sum(tensor.nbytes for _, tensor in tensors), sum(storages.values())
        if held > stored:
            raise ValueError(
                f"expected tensors that share no memory, of at most {stored:,} bytes, found {held:,} bytes."
            )
        for name, tensor in tensors:
            if not _is_finite(tensor):
                raise ValueError(f"expected finite numbers in {brief(name)}, found infinite ones or NaN.")
        return self


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.stack(tensor.aminmax()).isfinite().all())  # without a tensor of the same size


def checkpoint_name(epoch: int) -> str:
    """The file's name without its suffix: vae_epoch_001."""
    return f"vae_epoch_{epoch:03d}"


def outdated(epochs: Sequence[int], keep: int | str) -> list[int]:
    """Which epochs' checkpoints to remove, ascending; never the newest.

    Args:
        epochs: those there are, in any order.
        keep: of `TrainConfig`: "all"; n >= 1 for the newest n; "every-10" for each tenth and the newest.
    """
    ascending = sorted(epochs)
    if keep == "all":
        return []
    if isinstance(keep, int):
        return ascending[:-keep]
    every = int(keep.removeprefix("every-"))
    return [epoch for epoch in ascending[:-1] if epoch % every]


def weights_digest(state: Mapping[str, Tensor]) -> Tensor:
    """Identify weights: (32,) uint8, the sha256 of names, dtypes, shapes and bytes; their order does not matter."""
    digest = sha256()
    for name, tensor in sorted(state.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """The content of a checkpoint's file, with its checksum.

    Raises:
        CheckpointError: `from_bytes` would refuse it, e.g. for a tensor that requires a gradient.
    """
    archive = BytesIO()
    torch.save(dict(checkpoint) | {"dataset": checkpoint.dataset.model_dump()}, archive)
    seal(archive)
    check_archive(archive)
    return archive.getvalue()


def from_bytes(content: bytes) -> Checkpoint:
    """Read a checkpoint, on the CPU, from the content of its file; raises what `read_checkpoint` raises."""
    return _read(BytesIO(content))


def write_checkpoint(checkpoint: Checkpoint, path: str | PathLike[str]) -> None:
    """Write a checkpoint with its checksum, whole or not at all.

    Raises:
        CheckpointError: `read_checkpoint` would refuse the file.
        WriteError: the disk is full, read-only, forbidden or gone.
    """
    content = to_bytes(checkpoint)  # in memory first: on a full disk torch's own writer raises no OSError
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(content)


def read_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Read a checkpoint, on the CPU, from its file.

    Raises:
        DamagedCheckpointError: the file is not as it was written.
        CheckpointError: no such file, not a checkpoint, a pickled object inside, another format, wrong contents.
    """
    path = Path(path)
    try:
        if not path.is_file():  # reading from a pipe would wait for ever
            found = "a folder" if path.is_dir() else "no file" if path.exists() else "nothing"
            raise CheckpointError(f"expected a checkpoint file, found {found}. Check name and folder.")  # noqa: TRY301
        with path.open("rb") as file:
            checkpoint = _read(file)
        _check_name(checkpoint, path.name)
    except OSError as error:
        raise CheckpointError(f"{path}: expected a checkpoint file, but it cannot be read: {error}.") from error
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error
    return checkpoint


def _read(file: BinaryIO) -> Checkpoint:
    try:
        check_archive(file)
        file.seek(0)
        content = torch.load(file, map_location="cpu", weights_only=True)
        _check_version(content)
        return Checkpoint.model_validate(content)
    except (CheckpointError, OSError):
        raise
    except ValidationError as error:
        raise CheckpointError(f"{first_problem(error)} It was not written by this project: train again.") from error
    except Exception as error:  # the readers of malformed bytes can fail in any way; each becomes one message
        raise CheckpointError(f"expected a checkpoint, but it cannot be read ({error!r:.200}).") from error


def _check_version(content: object) -> None:
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int:
        raise CheckpointError(f"expected a dict with format_version {FORMAT_VERSION}, found {shown(content)}.")
    if version != FORMAT_VERSION:
        newer = "a newer vae_mnist wrote it: update vae_mnist."
        older = "an older vae_mnist wrote it: train the model again, or read it with that version."
        reason = newer if version > FORMAT_VERSION else older
        raise CheckpointError(f"expected format_version {FORMAT_VERSION}, found {version}: {reason}")


def _check_name(checkpoint: Checkpoint, name: str) -> None:
    match = FILE_NAME.fullmatch(name)
    if match and int(match[1]) != checkpoint.epoch:
        raise CheckpointError(
            f"expected epoch {int(match[1])} as its name says, found epoch {checkpoint.epoch}: it was renamed. "
            f"Give it its name back, {checkpoint_name(checkpoint.epoch)}.pt, or one of your own."
        )
