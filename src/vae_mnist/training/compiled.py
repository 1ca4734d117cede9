"""A whole training step as one compiled function: pass, gradients and update."""

import hashlib
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..config.parameters import TrainConfig
from ..errors import ConfigError
from ..objectives import Terms
from .batches import Batch
from .history import StepSums, step_sums
from .machine import Machine
from .state import TrainingState
from .team import Team

logger = logging.getLogger(__name__)

CACHE = "TORCHINDUCTOR_CACHE_DIR"
# Steps that repay the compiler's time with nothing in its cache, and networks whose steps it makes faster: the others
# spend their time in large convolutions (docs/performance.md).
REPAYING, FASTER = 8000, ("mlp", "conv")

PlainStep = Callable[[Batch, float, int], StepSums]  # batch, share of the learning rate, steps taken before


def check_compiled(config: TrainConfig, machine: Machine) -> None:
    """Refuse to compile for anything but a CPU.

    Raises:
        ConfigError: `train.compile` is true, and the device is another.
    """
    if config.compile is True and machine.device.type != "cpu":
        raise ConfigError(
            f"train.compile: expected auto or false on {machine.device}, got true. Compiled steps were tested on CPUs "
            "only. Use --params=train.compile=false."
        )


def is_compiled(state: TrainingState, config: TrainConfig, images: int, machine: Machine, team: Team) -> bool:
    """What `train.compile` means here; auto: where it repays the compiler's time.

    Args:
        state: that is trained.
        config: how.
        images: in an epoch.
        machine: that trains.
        team: the processes that train together.

    Raises:
        ConfigError: see `check_compiled`.
    """
    check_compiled(config, machine)
    if config.compile != "auto":
        return config.compile
    steps = config.epochs * ceil(images / config.batch_size)
    whole = team.size == 1 and config.optimizer == "adamw" and machine.precision.name != "float16"
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    repays = steps >= REPAYING and state.description[0].network in FASTER
    return whole and repays and machine.device.type == "cpu" and compiler is not None


def choose_step(
    plain: PlainStep, state: TrainingState, config: TrainConfig, images: int, machine: Machine, team: Team
) -> PlainStep:
    """The plain step, or the same compiled; see `is_compiled`."""
    if not is_compiled(state, config, images, machine, team):
        return plain
    return CompiledStep(state, config, min(config.batch_size, images), team, plain)


class CompiledStep:
    """Steps of one batch size, traced once into a graph of tensor operations, which is compiled.

    Without autograd and an optimizer in between, the compiler can merge the small operations of a whole step. Losses
    differ from those of plain steps by rounding alone.

    Args:
        state: that is trained.
        config: how.
        total: images in the batches to compile for: those of full size, wherever training begins or goes on.
        team: the processes that train together.
        plain: the same step, not compiled: for the first one, in which the optimizer makes its moments, and for batches
            of another size, such as the last of an epoch.
    """

    def __init__(self, state: TrainingState, config: TrainConfig, total: int, team: Team, plain: PlainStep) -> None:
        keep_code_at_home()
        self.state, self.config, self.total, self.team, self.plain = state, config, total, team, plain
        # Gradients that are added up, unscaled or orthogonalised first are handed to the optimizer.
        self.updates = team.size == 1 and config.optimizer == "adamw" and not state.scaler.is_enabled()
        self.tried = self.failed = False
        self.names: tuple[str, ...] = ()  # of the terms

    def __call__(self, batch: Batch, share: float, number: int) -> StepSums:
        """Take a step.

        Args:
            batch: on the CPU.
            share: of each group's learning rate, as the schedule says.
            number: of steps taken before.

        Raises:
            ConfigError: it cannot be compiled, and `train.compile` is true.
        """
        if self.failed or batch.total != self.total or not self.state.optimizer.state:
            return self.plain(batch, share, number)
        if not self.tried:
            self._compile(batch, share, number)
            return self(batch, share, number)
        with torch.no_grad():
            sums, norm, gradients = self.fast(*self.kept, *self._given(batch, share, number))
        if self.updates:
            self.state.finish_step(self.config, number + 1)
        else:
            for weight, gradient in zip(self.trained.values(), self.team.sums_of(gradients), strict=True):
                weight.grad = gradient
            norm = self.state.update(self.config, share, number + 1)
        return StepSums(self.names, sums, norm)

    def _compile(self, batch: Batch, share: float, number: int) -> None:
        """Make `fast`, or find that it cannot be made."""
        self.tried = True
        # Slow to import.
        from torch._dynamo.exc import TorchDynamoException  # of all of the compiler's errors
        from torch.fx.experimental.proxy_tensor import make_fx

        optimizer = self.state.optimizer
        # The weights that the loss depends on: the optimizer has met their gradients.
        self.trained = {name: each for name, each in self.state.step.named_parameters() if each in optimizer.state}
        weights = {name: weight.detach() for name, weight in self.trained.items()}
        moments = {name: optimizer.state[weight] for name, weight in self.trained.items()} if self.updates else {}
        self.kept, self.tree = tree_flatten((weights, moments))
        # Copies, because tracing takes a step, and so does the call that compiles.
        copies = [tensor.clone() for tensor in [*self.kept, *self._given(batch, share, number)]]
        options: dict[str, str | int | bool | Callable[..., object]] = {
            "cpp_wrapper": True,  # all kernels in one file, which takes a third less time to compile
            "cpp_cache_precompile_headers": False,  # they would be written to the default folder all the same
            "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,  # shapes and types are always the same
        }
        self.fast = torch.compile(make_fx(self._step)(*copies), options=options, fullgraph=True, dynamic=False)
        logger.info("compiling the training step, which takes up to a minute the first time")
        try:
            # PyTorch's cache would give this processor code that was generated for the vectors of another.
            with torch.no_grad(), torch.compiler.config.patch(cache_key_tag=processor()):  # type: ignore[attr-defined]
                self.fast(*copies)
        except TorchDynamoException as error:
            self.failed = True
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        compiler = [line for line in lines[1:] if " error: " in line][:1]  # what it said of why
        said = f"train.compile: torch.compile failed: {'; '.join([lines[0], *compiler])}. It needs a C++ compiler."
        if self.config.compile is True:
            raise ConfigError(f"{said} Use --params=train.compile=false.") from error
        logger.warning("%s Going on with steps that are not compiled.", said)

    def _given(self, batch: Batch, share: float, number: int) -> list[Tensor]:
        """The tensors that are new in each step."""
        self.state.set_share(share)
        numbers = [self.state.scaler.get_scale()]
        for group in self.state.optimizer.param_groups:
            first, second = (1 - beta ** (number + 1) for beta in group["betas"])  # Adam's corrections of its moments
            numbers += [group["lr"], group["lr"] / first, 1 / sqrt(second)]
        extra = [batch.extra_noise] if batch.extra_noise is not None else []
        return [torch.tensor(number), torch.tensor(numbers), batch.images, batch.labels, batch.noise, *extra]

    def _step(self, *tensors: Tensor) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """What is compiled: the sums of the terms, the norm of the gradients, and these if they are still to be used.

        Args:
            tensors: `kept`, whose weights and moments are updated in place, and those of `_given`.
        """
        weights, moments = tree_unflatten(tensors[: len(self.kept)], self.tree)
        now, numbers, images, labels, noise, *extra = tensors[len(self.kept) :]
        with torch.enable_grad():
            leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
            batch = Batch(images, labels, noise, self.total, *extra)
            terms: Terms = functional_call(self.state.step, leaves, (batch, now))
            loss = terms.minimised.sum() / self.total * numbers[0]
            gradients = list(torch.autograd.grad(loss, list(leaves.values())))
        self.names, sums, norm = step_sums(terms)
        if not self.updates:
            return sums, norm, gradients
        if self.config.clip_norm != "none":
            norm = torch.nn.utils.get_total_norm(gradients)
            factor = (self.config.clip_norm / (norm + 1e-6)).clamp(max=1)  # as `clip_grad_norm_` has it
            gradients = [gradient * factor for gradient in gradients]
        names = {weight: name for name, weight in self.trained.items()}
        by_name = dict(zip(leaves, gradients, strict=True))
        for group, three in zip(self.state.optimizer.param_groups, numbers[1:].split(3), strict=True):
            for name in (names[weight] for weight in group["params"] if weight in names):
                adamw_(weights[name], by_name[name], moments[name], group, three)
        return sums, norm, []


def adamw_(
    weight: Tensor, gradient: Tensor, moments: Mapping[str, Tensor], group: Mapping[str, Any], numbers: Tensor
) -> None:
    """Update a weight and its moments in place, as `torch.optim.AdamW` does.

    Args:
        weight: of any shape.
        gradient: of the same.
        moments: `step` (), `exp_avg` and `exp_avg_sq` of the weight's shape.
        group: betas, eps and weight_decay.
        numbers: (3,) learning rate, the same over 1 - beta1^t, and 1 / sqrt(1 - beta2^t).
    """
    (beta1, beta2), (rate, corrected, root) = group["betas"], numbers
    moments["step"].add_(1)
    average = moments["exp_avg"].lerp_(gradient, 1 - beta1)
    square = moments["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    if group["weight_decay"]:
        weight.mul_(1 - rate * group["weight_decay"])
    weight.sub_(corrected * average / (square.sqrt() * root + group["eps"]))


def keep_code_at_home() -> None:
    """Have the compiler keep its code in the user's own cache, in this process and those that it starts.

    PyTorch's default is a folder, of code and pickles, that anybody on this machine could have made before. Each
    processor has a folder of its own: machines of several kinds may share a home folder.
    """
    default = Path(tempfile.gettempdir(), "torchinductor_")
    if os.environ.get(CACHE, str(default)).startswith(str(default)):  # PyTorch writes its choice there itself
        os.environ[CACHE] = str(Path(torch.hub.get_dir()).with_name("inductor") / processor())


def processor() -> str:
    """What compiled code depends on: the instructions of this processor, and the vectors that PyTorch uses of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    known = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    digest = hashlib.sha256("\n".join([platform.machine(), platform.processor(), *sorted(known)]).encode()).hexdigest()
    return f"{torch.backends.cpu.get_cpu_capability()}-{digest[:12]}".replace(" ", "_")
