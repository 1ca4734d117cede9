"""Device, threads and precision."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from math import inf
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from ..config.parameters import TrainConfig
from ..errors import ConfigError

Placed = TypeVar("Placed", bound=nn.Module)
KEPT = 2**25  # bytes of a block that glibc keeps, at most; it allows no more
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # options of mallopt, from malloc.h


class Precision(NamedTuple):
    """The arithmetic of a pass; parameters and losses are float32 in all of them."""

    name: str
    dtype: torch.dtype | None  # of autocast; None: float32 throughout, but for the products of tf32

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Let PyTorch choose the type of each operation in the block."""
        return torch.autocast(device.type, self.dtype, enabled=self.dtype is not None)


class Machine(NamedTuple):
    """What `train.device`, `train.precision` and `train.threads` mean here; all pipelines use it."""

    device: torch.device
    precision: Precision
    threads: int  # of the CPU

    def place(self, module: Placed) -> Placed:
        """The module on this device, weights of convolutions laid out channels last, in which those are fastest."""
        return module.to(self.device).to(memory_format=torch.channels_last)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Compute with these threads in the block.

        Products and convolutions of float32 round their factors to TF32 only if asked to. A CUDA card takes those
        convolutions whose sums always have the same order, so that it gives the same bits each time.
        """
        keep_freed_memory()
        threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
        cudnn, rounded = torch.backends.cudnn, self.precision.name == "tf32"
        torch.set_num_threads(self.threads)
        try:
            with cudnn.flags(enabled=cudnn.enabled, deterministic=True, allow_tf32=rounded):
                torch.set_float32_matmul_precision("high" if rounded else "highest")
                yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(products)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Compute passes that no gradient follows, in this precision."""
        with self.at_work(), self.precision.autocast(self.device):
            yield


@cache
def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the tensors of the next pass, for as long as this process lasts.

    It keeps blocks of at most 32 MiB, and at most 1 GiB at the end of the heap. What it gives back, the system has to
    clear again at the next pass, which takes up to a third of the time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, size in ((_MMAP_THRESHOLD, KEPT), (_TRIM_THRESHOLD, 2**30)):
            libc.mallopt(option, size)


def resolve_machine(config: TrainConfig) -> Machine:
    """What this machine offers of what is asked for.

    Raises:
        ConfigError: the device or precision is not available on this machine.
    """
    device = resolve_device(config.device)
    threads = config.threads if config.threads != "auto" else _cores()
    return Machine(device, resolve_precision(config.precision, device), threads)


def resolve_device(name: str) -> torch.device:
    """The device of `train.device`; of the processes that torchrun starts, each has a card of its own.

    Raises:
        ConfigError: this machine or this build of torch has no such device.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device, cards = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and processes > 1:
        if name != "cuda":
            raise ConfigError(
                f"train.device: expected cuda, for {processes} processes with a card each, got {name!r}. "
                "Use --params=train.device=cuda."
            )
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda" and (device.index or 0) >= cards:
        raise ConfigError(
            f"train.device: expected one of the {cards} CUDA cards that torch {torch.__version__} sees here, got "
            f"{str(device)!r}. Use fewer processes, or --params=train.device=cpu or auto."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            "train.device: 'mps' needs an Apple GPU, and there is none here. Use --params=train.device=cpu or auto."
        )
    return device


def resolve_precision(name: str, device: torch.device) -> Precision:
    """The arithmetic of `train.precision` on a device.

    Raises:
        ConfigError: the device does not offer it.
    """
    where, offered = device.type, ["float32"]
    if device.type == "cpu":
        offered += ["bfloat16", "float16"]
    elif device.type == "cuda":
        where = torch.cuda.get_device_name(device)
        # Cards have bfloat16 and tf32 since Ampere, earlier ones neither.
        offered += ["float16", "bfloat16", "tf32"] if _has_bfloat16(device) else ["float16"]
    if name == "auto" and device.type == "cuda":
        name = "bfloat16" if "bfloat16" in offered else "float16"
    elif name == "auto":
        name = "bfloat16" if device.type == "cpu" and _bfloat16_is_faster() else "float32"
    if name not in offered:
        raise ConfigError(
            f"train.precision: on {where} expected {' or '.join(offered)}, got {name!r}. "
            "Use one of these, or --params=train.precision=auto."
        )
    return Precision(name, {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name))


def _has_bfloat16(card: torch.device) -> bool:
    with torch.cuda.device(card):  # PyTorch answers for the current one
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))  # emulation is slower than float16


@cache
def _bfloat16_is_faster() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 faster than those of float32: a trial of at most 50 ms.

    With instructions for bfloat16 it takes half the time or less, without them at least twice as much. The list of
    instructions would not say what oneDNN was told to leave out, nor what it makes of them on another architecture.
    """
    threads, seconds = torch.get_num_threads(), {torch.float32: inf, torch.bfloat16: inf}
    torch.set_num_threads(1)  # no waiting for others
    try:
        for dtype in (*seconds,) * 5:  # in turn, the fastest of five each
            left, right = torch.ones(32, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
            started = perf_counter()
            torch.mm(left, right)
            seconds[dtype] = min(seconds[dtype], perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return seconds[torch.bfloat16] < seconds[torch.float32]


def _cores() -> int:
    """Physical cores that this process may use, as its affinity and its container's quota say; a team shares them."""
    from joblib import cpu_count

    cores: int = cpu_count(only_physical_cores=True)
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def machine_facts(machine: Machine) -> dict[str, Any]:
    """What else decides the bits of a training, apart from parameters and images: for the run's record."""
    device = machine.device
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": machine.precision.name,
        "threads": machine.threads,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
