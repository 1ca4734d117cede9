"""Where a model computes, with how many threads, and in which arithmetic."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, NamedTuple

import torch

from ..config.parameters import TrainConfig
from ..errors import ConfigError


class Precision(NamedTuple):
    """The arithmetic of a pass; parameters and losses are float32 in all of them."""

    name: str
    dtype: torch.dtype | None  # of autocast; None: float32 throughout, but for the products of tf32

    @property
    def scaled(self) -> bool:
        """Whether small gradients would vanish without a gradient scaler."""
        return self.dtype is torch.float16

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Let PyTorch choose the type of each operation in the block."""
        return torch.autocast(device.type, self.dtype, enabled=self.dtype is not None)

    @contextmanager
    def products(self) -> Iterator[None]:
        """Let matrix products of float32 round their factors to TF32 in the block, or see that they do not."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.name == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


class Machine(NamedTuple):
    """What `train.device`, `train.precision` and `train.threads` mean here; all pipelines use it."""

    device: torch.device
    precision: Precision
    threads: int  # of the CPU

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Compute with these threads and products in the block."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with self.precision.products():
                yield
        finally:
            torch.set_num_threads(before)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Compute passes that no gradient follows, in this precision."""
        with self.at_work(), self.precision.autocast(self.device):
            yield


def resolve_machine(config: TrainConfig) -> Machine:
    """What this machine offers of what is asked for.

    Raises:
        ConfigError: the device or precision cannot be had here.
    """
    device = resolve_device(config.device)
    return Machine(device, resolve_precision(config.precision, device), thread_count(config.threads))


def resolve_device(name: str) -> torch.device:
    """The device of `train.device`; of the processes that torchrun starts, each has a card of its own.

    Raises:
        ConfigError: this machine or this build of torch has no such device.
    """
    processes, rank = (
        int(os.environ.get(key, default)) for key, default in (("LOCAL_WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device, cards = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and processes > 1:
        if name != "cuda":
            raise ConfigError(
                f"train.device: expected cuda, for {processes} processes with a card each, got {name!r}. "
                "Use --params=train.device=cuda."
            )
        device = torch.device("cuda", rank)
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
    has_bfloat16 = device.type == "cuda" and _has_bfloat16(device)
    if name == "auto":
        name = "float32" if device.type != "cuda" else "bfloat16" if has_bfloat16 else "float16"
    if name == "bfloat16" and device.type == "cuda" and not has_bfloat16:
        raise ConfigError(
            f"train.precision: {torch.cuda.get_device_name(device)} has no bfloat16. "
            "Use --params=train.precision=float16."
        )
    if name == "tf32" and device.type != "mps" and not has_bfloat16:  # cards have both or neither
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
        raise ConfigError(
            f"train.precision: tf32 needs a CUDA card of Ampere's generation or later, and {where} has none of it. "
            "Use --params=train.precision=float32 or auto."
        )
    if name != "float32" and device.type == "mps":
        raise ConfigError(
            f"train.precision: on mps expected float32, got {name!r}. Use --params=train.precision=float32 or auto."
        )
    dtypes = {"float32": None, "tf32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return Precision(name, dtypes[name])


def _has_bfloat16(card: torch.device) -> bool:
    with torch.cuda.device(card):  # PyTorch answers for the current one
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))  # emulation is slower than float16


def thread_count(threads: int | Literal["auto"]) -> int:
    """CPU threads of `train.threads`.

    auto is one for each physical core that this process may use, as its affinity and its container's quota say; the
    processes of a team on one machine share them.
    """
    if threads != "auto":
        return threads
    from joblib import cpu_count

    cores: int = cpu_count(only_physical_cores=True)
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def machine_facts(machine: Machine) -> dict[str, Any]:
    """What else decides the bits of a training, apart from parameters and digits: for the run's record."""
    device = machine.device
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": machine.precision.name,
        "threads": machine.threads,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
