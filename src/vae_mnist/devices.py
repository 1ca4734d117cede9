"""Where training runs, and in which arithmetic."""

import os
from typing import Any, Literal, NamedTuple

import torch

from .config import TrainConfig
from .errors import ConfigError


class Precision(NamedTuple):
    """The arithmetic of the forward pass; parameters and losses are float32 in all of them."""

    name: str
    autocast: torch.dtype | None  # None: float32 throughout

    @property
    def scaled(self) -> bool:
        """Whether small gradients would vanish without a gradient scaler."""
        return self.autocast is torch.float16


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
    if name != "float32" and device.type == "mps":
        raise ConfigError(
            f"train.precision: on mps expected float32, got {name!r}. Use --params=train.precision=float32 or auto."
        )
    dtypes = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
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
