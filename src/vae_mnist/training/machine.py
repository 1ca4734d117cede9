"""Where training runs, and in which arithmetic."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Literal, NamedTuple

import psutil
import torch

from ..config.parameters import TrainConfig
from ..errors import ConfigError

CROWDED = 0.5  # of a CPU that a thread has to do without


class Precision(NamedTuple):
    """The arithmetic of the forward pass; parameters and losses are float32 in all of them."""

    name: str
    autocast: torch.dtype | None  # None: float32 throughout, but for the products of tf32

    @property
    def scaled(self) -> bool:
        """Whether small gradients would vanish without a gradient scaler."""
        return self.autocast is torch.float16

    @contextmanager
    def products(self) -> Iterator[None]:
        """Let matrix products of float32 round their factors to TF32 in the block, or see that they do not."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.name == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def resolve_device(name: str) -> torch.device:
    """The device of `train.device`.

    Raises:
        ConfigError: this machine or this build of torch has no such device.
    """
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"train.device: expected one of the {torch.cuda.device_count()} CUDA cards that torch {torch.__version__} "
            f"sees here, got {name!r}. Use --params=train.device=cpu or auto."
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
    # Emulated bfloat16 is slower than float16.
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
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


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many CPU threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Neighbours:
    """What other processes do on the CPUs that this one may use, from here on."""

    def __init__(self) -> None:
        self._seen = self._seconds()

    def busy(self) -> float:
        """How many CPUs other processes have kept busy since the last look."""
        before, self._seen = self._seen, self._seconds()
        wall, others = (now - then for now, then in zip(self._seen, before, strict=True))
        return max(0.0, others / wall) if wall else 0.0

    @staticmethod
    def _seconds() -> tuple[float, float]:
        """The time, and the CPU seconds that other processes have had so far."""
        this = psutil.Process()
        times = psutil.cpu_times(percpu=True)
        mine = (process.cpu_times() for process in [this, *this.children(recursive=True)])
        work = sum(cpu.user + cpu.nice + cpu.system for cpu in (times[number] for number in _cpus()))
        return perf_counter(), work - sum(each.user + each.system for each in mine)


def crowded(busy: float, config: TrainConfig) -> str | None:
    """What to say to somebody whose threads have to wait for CPUs; None if they need not.

    Args:
        busy: CPUs that other processes use.
        config: threads, processes.
    """
    threads, cpus = thread_count(config.threads), len(_cpus())
    if threads == 1 or cpus - busy > config.processes * threads - CROWDED:
        return None
    return (
        f"other processes keep {busy:.1f} of {cpus} CPUs busy. {threads} threads that wait for each other then take "
        "several times as long; one does not: --params=train.threads=1"
    )


def _cpus() -> list[int]:
    this = psutil.Process()
    # macOS has no affinity.
    return this.cpu_affinity() if hasattr(this, "cpu_affinity") else list(range(psutil.cpu_count() or 1))


def machine_facts(config: TrainConfig) -> dict[str, Any]:
    """What decides, beside parameters and digits, which bits training gives: for the run's record.

    Raises:
        ConfigError: the device or precision cannot be had here.
    """
    device = resolve_device(config.device)
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": resolve_precision(config.precision, device).name,
        "threads": thread_count(config.threads),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
