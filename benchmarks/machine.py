"""What the figures were measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from vae_mnist.project.record import code_version

PACKAGES = ("torch", "torchvision", "kedro", "numpy", "pythae", "jax", "jaxlib", "optax")

# Beginnings of the names of variables that change kernels, threads or their waiting.
KERNELS = ("OPENBLAS_", "MKL_", "ONEDNN_", "DNNL_", "OMP_", "GOMP_", "KMP_", "ATEN_", "XLA_", "TORCHINDUCTOR_")


def machine(device: str) -> dict[str, Any]:
    """Hardware, threads, versions, commit (JSON)."""
    code = code_version()
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cpus": len(psutil.Process().cpu_affinity()),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "card": torch.cuda.get_device_name() if device == "cuda" else None,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "variables": {key: value for key, value in sorted(os.environ.items()) if key.startswith(KERNELS)},
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": f"{code.commit[:7]}{' with changes' if code.dirty else ''}" if code.commit else None,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
