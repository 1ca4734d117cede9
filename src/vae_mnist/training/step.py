"""The loss of a batch: the forward pass as it stands, or compiled."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..objectives.elbo import NegativeElbo, negative_elbo
from .batches import Batch
from .machine import Precision

CACHE = "TORCHINDUCTOR_CACHE_DIR"

Forward = Callable[[Batch], NegativeElbo]


def forward_pass(network: nn.Module, beta: float, precision: Precision, *, compiled: bool = False) -> Forward:
    """What gives the loss of each image of a batch, (B,) nats, to run backward from.

    Args:
        network: images, noise -> `VAEOutput`.
        beta: weight of the KL term.
        precision: of the forward pass.
        compiled: by `torch.compile`, as the first batch comes; losses differ from the plain pass by rounding alone.

    Raises:
        ConfigError: from the first batch on, where it cannot be compiled.
    """

    def plain(images: Tensor, noise: Tensor) -> NegativeElbo:
        with torch.autocast(images.device.type, precision.autocast, enabled=precision.autocast is not None):
            output = network(images, noise)
        return negative_elbo(output, images, beta, check_range=False)

    return _Compiled(plain) if compiled else lambda batch: plain(batch.images, batch.noise)


class _Compiled:
    """Compiled for the size of the first batch; one of another size, which is an epoch's last, goes the plain way."""

    def __init__(self, plain: Callable[[Tensor, Tensor], NegativeElbo]) -> None:
        self.plain = plain
        self.fast: Callable[[Tensor, Tensor], NegativeElbo] | None = None
        self.size = 0

    def __call__(self, batch: Batch) -> NegativeElbo:
        if self.fast is None:
            return self._first(batch)
        return (self.fast if len(batch.images) == self.size else self.plain)(batch.images, batch.noise)

    def _first(self, batch: Batch) -> NegativeElbo:
        from torch._dynamo.exc import TorchDynamoException  # slow to import; of all of the compiler's errors

        _keep_code_at_home()
        options: dict[str, str | int | bool | Callable[..., object]] = {
            # A card waits for Python between small kernels; a graph launches all of them at once.
            "triton.cudagraphs": batch.images.device.type == "cuda",
            "cpp_cache_precompile_headers": False,  # they would lie at that default place all the same
        }
        self.fast, self.size = torch.compile(self.plain, options=options, dynamic=False), len(batch.images)
        try:
            return self.fast(batch.images, batch.noise)
        except TorchDynamoException as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            compiler = [line for line in lines[1:] if " error: " in line][:1]  # what it said of why
            said = "; ".join([lines[0], *compiler])
            raise ConfigError(
                f"train.compile: torch.compile failed: {said}. It needs a C++ compiler on a CPU, Triton on a CUDA "
                "card. Use --params=train.compile=false."
            ) from error


def _keep_code_at_home() -> None:
    """PyTorch's default is a folder, of code and pickles, that anybody on this machine could have made before."""
    default = Path(tempfile.gettempdir(), "torchinductor_")
    if os.environ.get(CACHE, str(default)).startswith(str(default)):  # PyTorch writes its choice there itself
        os.environ[CACHE] = str(Path(torch.hub.get_dir()).with_name("inductor"))
