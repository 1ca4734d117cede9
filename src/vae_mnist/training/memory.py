"""Memory: how much is free, and how much training, evaluation and generation would take.

A model's passes run on the meta device, where tensors have shapes but no bytes: this works for any model.
"""

import copy
import os
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator
from math import ceil, prod
from pathlib import Path, PurePosixPath

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..config.model import ModelConfig
from ..config.objective import ObjectiveConfig
from ..config.parameters import TrainConfig
from ..data.pixels import PART
from ..errors import ConfigError
from ..measures.bounds import BATCH_SIZE
from ..models import VAE, Pass, build_model
from ..objectives import Terms, build_objective
from ..sampling import chunk_of
from .machine import KEPT

# Bytes a parameter takes: weight, gradient and two moments of Adam; weight and moments again in a snapshot, in the
# bytes of its file, and in the checkpoint gone on from; one for what the allocator keeps. An average of the weights is
# one more number in each of these places.
_PARAMETER, _AVERAGE = 14 * 4, 4 * 4
_SPARE = 2.0  # what allocators and convolutions take in addition to the tensors; tests hold it to measured peaks
_BINARISED = 17  # bytes a pixel of the PART of the images that is being binarised
_PICTURE = 1_300_000  # bytes that each image on a page takes while the page is written
# Controller -> its folder, the files with its limit and its use, and the key of cached pages in memory.stat.
_CONTROL_GROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),  # version 2
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
_THREADS = 2**28  # bytes of addresses that new threads reserve and hardly use; `ulimit -v` counts them


class _Peak(TorchDispatchMode):
    """Adds up the bytes of tensors that are alive at one moment."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204 PyTorch's signature
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self._alive:  # noqa: SLF001
                storage = tensor.untyped_storage()
                self._alive[storage._cdata] = storage.nbytes()  # noqa: SLF001
                weakref.finalize(storage, self._alive.pop, storage._cdata)  # noqa: SLF001
                self.bytes = max(self.bytes, sum(self._alive.values()))
        return result


def peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes that the tensors of some work take at one moment."""
    with _Peak() as peak:
        work()
    return int(peak.bytes)


def training_need(
    model: ModelConfig,
    objective: ObjectiveConfig,
    config: TrainConfig,
    image_shape: tuple[int, ...],
    count: int,
    device: torch.device,
    batch_size: int,
) -> int:
    """Bytes that training on `count` images of shape (C, H, W) takes at its peak, checkpoints included.

    On a CPU, the images themselves are not counted: they are read from their file batch by batch, which may be larger
    than the memory. Copies of them are: those that are binarised, and those of other processes.
    """
    # The processes of a team on one machine share its memory and each batch; on cards each has its own.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if device.type != "cuda" else 1
    with torch.device("meta"):
        network = build_model(model, image_shape)
        minimised = build_objective(objective, count, network.latent_dim)
    averaged = sum(parameter.numel() for parameter in network.parameters()) if config.average != "none" else 0
    parameters = sum(parameter.numel() for part in (network, minimised) for parameter in part.parameters())
    copies = processes * (2 if config.binarisation == "static" else 1) - (device.type == "cpu")
    image_set = count * (copies * prod(image_shape) + processes * 2 * 8)  # with label and place in the epoch's order

    def loss(images: int) -> Tensor:
        noise = torch.empty(images, minimised.noise_dim, device="meta")
        terms: Terms = minimised(_passed(network, minimised.samples, images), torch.tensor(0), noise)
        return terms.minimised.sum()

    trained = peak_bytes(lambda: loss(ceil(batch_size / processes)).backward())
    with torch.no_grad():
        measured = peak_bytes(lambda: loss(min(count, BATCH_SIZE) // minimised.samples + 1))
    weights = _PARAMETER * parameters + _AVERAGE * averaged
    return image_set + processes * (weights + int(_SPARE * max(trained, measured)))


def evaluation_need(model: VAE, count: int, samples: int, chunk_size: int) -> int:
    """Bytes that an evaluation on `count` images takes at its peak, `samples` posterior samples each."""
    shape = model.image_shape
    network = copy.deepcopy(model).to("meta")
    images, each = max(1, chunk_size // samples), min(samples, chunk_size)
    with torch.no_grad():
        weighted = peak_bytes(lambda: _passed(network, each, min(images, count)).log_weights)
        tested = peak_bytes(lambda: _passed(network, 1, min(count, BATCH_SIZE)).log_weights)
    binarised = count * prod(shape) + min(count, PART) * _BINARISED * prod(shape)
    means = 2 * 4 * count * model.latent_dim  # and as squares for their variance
    weights = 4 * 4 * samples * images  # each, and what their logarithm and sum need
    return means + binarised + weights + KEPT + int(_SPARE * max(weighted, tested))


def generation_need(model: VAE, count: int, shown: int) -> int:
    """Bytes that generating takes: a piece at work, a page, every image and its code, and the file of them."""
    network = copy.deepcopy(model).to("meta")
    piece = torch.empty(min(count, chunk_of(model)), model.latent_dim, device="meta")
    with torch.no_grad():
        decoded = peak_bytes(lambda: network.decode(piece, torch.empty(len(piece), dtype=torch.int64, device="meta")))
    kept = 2 * 4 * count * (prod(model.image_shape) + model.latent_dim)
    return kept + _PICTURE * shown + int(_SPARE * decoded)


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


def check_memory(key: str, asked: int, what: str, need: Callable[[int], int], device: torch.device) -> None:
    """Refuse a value of a parameter that needs more memory than is free.

    Args:
        key: the parameter that decides how much it is.
        asked: its value.
        what: it counts, in words.
        need: bytes needed for a value of it.
        device: whose memory it takes.

    Raises:
        ConfigError: naming the value that would fit, or the model if none would.
    """
    free = available_memory(device)
    if need(asked) <= free:
        return
    # Less than what fits at this moment: memory that is free now may be taken when the next run asks.
    fits = bisect_right(range(1, asked + 1), 0.9 * free, key=need)
    if fits < 1:
        raise ConfigError(
            f"model: one of the {what} at once needs about {_gigabytes(need(1))}, and {_gigabytes(free)} of memory "
            "are free. Choose a smaller model: model.latent_dim, and the sizes of model.network."
        )
    fits -= fits % 10 ** max(0, len(str(fits)) - 2)  # two figures are enough
    raise ConfigError(
        f"{key}: {asked:,} {what} at once need about {_gigabytes(need(asked))}, and {_gigabytes(free)} of "
        f"memory are free; at most {fits:,} would fit: --params={key}={fits}"
    )


def _passed(network: VAE, samples: int, images: int) -> Pass:
    pixels = torch.empty(images, *network.image_shape, device="meta")
    noise = torch.empty(samples, images, network.noise_dim, device="meta")
    result: Pass = network(pixels, noise, torch.empty(images, dtype=torch.int64, device="meta"))
    return result


def _container_free(root: Path = Path("/")) -> Iterator[int]:
    """Bytes that each control group around this process leaves (Linux)."""
    table = root / "proc/self/cgroup"
    for line in table.read_text().splitlines() if table.is_file() else ():
        _, controllers, path = line.split(":", 2)
        for controller in _CONTROL_GROUPS.keys() & controllers.split(","):
            folder, limit, used, cached = _CONTROL_GROUPS[controller]
            # In a container the path may be the host's, and only the top folder is visible.
            for group in [PurePosixPath(path), *PurePosixPath(path).parents]:
                place = root / folder / group.relative_to("/")
                if (place / limit).is_file() and (most := (place / limit).read_text().strip()) != "max":
                    statistics = dict(map(str.split, (place / "memory.stat").read_text().splitlines()))
                    # Cached pages of files count as used, but are freed when memory is needed.
                    yield int(most) - int((place / used).read_text()) + int(statistics[cached])


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
