"""One step's loss: model and objective as one module, plain or compiled."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config.parameters import TrainConfig
from ..errors import ConfigError
from ..models import VAE
from ..objectives import Objective, Terms
from .batches import Batch
from .machine import Machine, Precision

CACHE = "TORCHINDUCTOR_CACHE_DIR"

Forward = Callable[[Batch, Tensor], Terms]


class Step(nn.Module):
    """Batch -> terms of the loss: what autocast, torch.compile and DistributedDataParallel wrap.

    Args:
        model: gives the pass.
        objective: computes the loss from it.
        precision: of the pass; losses and densities are float32 in all of them.
    """

    def __init__(self, model: VAE, objective: Objective, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.precision = precision

    def forward(self, batch: Batch, step: Tensor) -> Terms:
        """The terms of each image of a batch, (B,) nats; step, (), is the number of updates made before."""
        with self.precision.autocast(batch.images.device):
            result = self.model(batch.images, batch.noise, batch.labels)
        terms: Terms = self.objective(result, step, batch.extra_noise)
        return terms


class Compiled:
    """Compiled for the size of the first batch; one of another size, which is an epoch's last, goes the plain way.

    Raises:
        ConfigError: from the first batch on, where it cannot be compiled.
    """

    def __init__(self, plain: Forward) -> None:
        self.plain = plain
        self.fast: Forward | None = None
        self.size = 0

    def __call__(self, batch: Batch, step: Tensor) -> Terms:
        """As `Step.forward`; losses differ from the plain pass by rounding alone."""
        if self.fast is None:
            return self._first(batch, step)
        return (self.fast if len(batch.images) == self.size else self.plain)(batch, step)

    def _first(self, batch: Batch, step: Tensor) -> Terms:
        from torch._dynamo.exc import TorchDynamoException  # slow to import; of all of the compiler's errors

        options: dict[str, str | int | bool | Callable[..., object]] = {
            # A card waits for Python between small kernels; a graph launches all of them at once.
            "triton.cudagraphs": batch.images.device.type == "cuda",
            "cpp_cache_precompile_headers": False,  # they would be written to that default folder all the same
        }
        self.fast, self.size = torch.compile(self.plain, options=options, dynamic=False), len(batch.images)
        try:
            return self.fast(batch, step)
        except TorchDynamoException as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            compiler = [line for line in lines[1:] if " error: " in line][:1]  # what it said of why
            said = "; ".join([lines[0], *compiler])
            raise ConfigError(
                f"train.compile: torch.compile failed: {said}. It needs a C++ compiler on a CPU, Triton on a CUDA "
                "card. Use --params=train.compile=false."
            ) from error


def check_compiled(config: TrainConfig, network: str, machine: Machine) -> None:
    """Refuse the steps that PyTorch 2.11 compiled wrongly for a CUDA card: the first silently, the other with an error.

    Raises:
        ConfigError: `train.compile` with float16 or `model.network=conv` on a card.
    """
    cases = [
        ("train.precision=float16", machine.precision.name == "float16", "the decoder's gradients came out as zero"),
        ("model.network=conv", network == "conv", "it failed"),
    ]
    for setting, asked, said in cases if config.compile and machine.device.type == "cuda" else ():
        if asked:
            raise ConfigError(
                f"train.compile: expected false with {setting} on a CUDA card, got true. When PyTorch compiled such a "
                f"step, {said}. Use --params=train.compile=false."
            )


def keep_code_at_home() -> None:
    """Have the compiler keep its code in the user's own cache, in this process and those that it starts.

    PyTorch's default is a folder, of code and pickles, that anybody on this machine could have made before.
    """
    default = Path(tempfile.gettempdir(), "torchinductor_")
    if os.environ.get(CACHE, str(default)).startswith(str(default)):  # PyTorch writes its choice there itself
        os.environ[CACHE] = str(Path(torch.hub.get_dir()).with_name("inductor"))
