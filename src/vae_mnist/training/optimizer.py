"""AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) or Muon: groups of weights, and the check of a saved state."""

from collections.abc import Mapping
from reprlib import repr as brief
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from ..config.parameters import TrainConfig
from ..errors import CheckpointError
from ..models.load import check_tensors
from .muon import Muon
from .step import Step

_SIDE = 16  # rows and columns from which Muon takes a matrix
_TINY, _EVERY = 1e-32, 100  # of a moment; steps: 1e-32 x 0.9^100 is not yet denormal


def build_optimizer(step: Step, config: TrainConfig, *, fused: bool) -> torch.optim.AdamW:
    """The optimizer of a step's weights, in groups: of layers, other ones, and the objective's own.

    Each group keeps its learning rate at the schedule's full height as `initial_lr`, as PyTorch's schedulers do.

    Args:
        step: model and objective.
        config: optimizer, learning rate, Adam's decay rates, weight decay.
        fused: update all weights in one kernel, where the device has it.
    """
    matrices, layers, others = [], [], []
    for name, weight in step.model.named_parameters():
        # Decay is for layers: biases, pseudo-inputs and the places of a mixture are not to be small.
        if weight.ndim in (0, 1) or not name.endswith(".weight"):
            others.append(weight)
        elif config.optimizer == "muon" and min(weight.flatten(1).shape) >= _SIDE:
            matrices.append(weight)
        else:
            layers.append(weight)
    groups: list[dict[str, Any]] = [{"params": layers, "weight_decay": config.weight_decay}, {"params": others}]
    if own := list(step.objective.parameters()):
        groups.append({"params": own, **step.objective.optimizer_settings})
    betas = (config.adam_beta1, config.adam_beta2)
    make: type[torch.optim.AdamW] = torch.optim.AdamW
    if config.optimizer == "muon":
        make = Muon
        groups = [group | {"orthogonal": False} for group in groups]
        groups.append({"params": matrices, "weight_decay": config.weight_decay, "orthogonal": True})
    optimizer = make(groups, lr=config.learning_rate, betas=betas, weight_decay=0.0, fused=fused)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


@torch.no_grad()
def clear_tiny_moments(optimizer: torch.optim.Optimizer, number: int) -> None:
    """Set the moments to zero that are below 1e-32, after every hundredth step.

    The gradients of a pixel that is black in most images are zero in most steps, and the moments decay until they are
    denormal numbers, with which processors compute slowly. Next to the 1e-8 that Adam adds to the root of the second
    moment, they are too small to change a weight.

    Args:
        optimizer: after a step.
        number: of that step, from 1.
    """
    if number % _EVERY == 0:
        for state in optimizer.state.values():
            for name in state.keys() - {"step"}:
                state[name].copy_(hardshrink(state[name], _TINY))


def check_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Refuse the state of an optimizer with other settings or parameters than the one given.

    Raises:
        CheckpointError: naming the first difference.
        ValueError: another number of groups.
    """
    # These say how a step is computed, which depends on the machine; the others say what it computes.
    free = {"params", "foreach", "fused", "capturable"}
    for expected, found in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        # A key that another version of torch does not know is its default.
        for key in sorted((expected.keys() & found.keys()) - free):
            value = list(expected[key]) if isinstance(expected[key], tuple) else expected[key]
            if found[key] != value:
                raise CheckpointError(f"optimizer: expected {key} {value}, found {brief(found[key])}.")
    wanted: dict[int, dict[str, Tensor]] = {}
    for group in optimizer.param_groups:
        moments = ("momentum",) if group.get("orthogonal") else ("exp_avg", "exp_avg_sq")
        for parameter in group["params"]:
            wanted[len(wanted)] = {"step": torch.tensor(0.0)} | dict.fromkeys(moments, parameter)
    if saved["state"]:  # nothing where float16 has skipped every step so far
        check_tensors(_named(wanted), _named(saved["state"]))


def _named(state: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{name} of parameter {index}": tensor for index, each in state.items() for name, tensor in each.items()}
