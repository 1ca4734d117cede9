"""Everything that training changes: how it starts, is saved in a checkpoint, and is restored."""

import platform
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from math import inf
from reprlib import repr as brief
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..config.parameters import ModelConfig, ObjectiveConfig, TrainConfig
from ..data.pixels import mean_image
from ..errors import CheckpointError
from ..models import build_model
from ..models.load import check_tensors
from ..objectives import build_objective
from ..storage.checkpoints import Checkpoint
from ..storage.records import DataCard
from .machine import Machine
from .step import Step

_SEEDING = threading.Lock()  # of torch's default generator, which is one for all threads


@dataclass
class TrainingState:
    """Everything that training changes; a checkpoint holds exactly this."""

    step: Step  # model and objective
    description: tuple[ModelConfig, ObjectiveConfig]  # what it was built from
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator  # of order and noise, on the CPU
    epoch: int = 0  # the last one finished
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def updates(self) -> int:
        """How many updates the optimizer has made; a step that the scaler skips is none."""
        return max((int(moments["step"]) for moments in self.optimizer.state.values()), default=0)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def first_non_finite(self) -> str | None:
        """Name a weight, or a moment of Adam, which remembers every gradient, that is infinite or not a number."""
        for name, weight in self.step.named_parameters():
            moments = {f"{key} of {name}": value for key, value in self.optimizer.state.get(weight, {}).items()}
            for what, tensor in {f"weight {name}": weight, **moments}.items():
                if not torch.isfinite(tensor).all():
                    return what
        return None


def start(
    model: ModelConfig, objective: ObjectiveConfig, config: TrainConfig, images: Tensor, machine: Machine
) -> TrainingState:
    """An untrained state, drawn from `config.seed` alone; torch's global generator is left as it was.

    Args:
        model: which model.
        objective: what it minimises.
        config: seed, output bias, Adam's numbers.
        images: (N, C, H, W) uint8, to train on.
        machine: that trains.
    """
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = build_model(model, tuple(images.shape[1:]))
        minimised = build_objective(objective, len(images), network.latent_dim)
    if config.output_bias == "data":
        network.start_at(mean_image(images))
    step = Step(network, minimised, machine.precision).to(machine.device)
    betas, fused = (config.adam_beta1, config.adam_beta2), machine.device.type in ("cpu", "cuda")
    optimizer = torch.optim.Adam(step.parameters(), lr=config.learning_rate, betas=betas, fused=fused)
    scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision.name == "float16")
    return TrainingState(step, (model, objective), optimizer, scaler, torch.Generator().manual_seed(config.seed))


def restore(state: TrainingState, checkpoint: Checkpoint) -> TrainingState:
    """Put a checkpoint into an untrained state of the same settings; changed in place.

    Raises:
        CheckpointError: it does not fit that state.
    """
    model, objective = state.step.model, state.step.objective
    try:
        check_tensors(model.state_dict(), checkpoint.model_state)
        check_tensors(objective.state_dict(), checkpoint.objective_state)
        _check_optimizer(state.optimizer, checkpoint.optimizer_state)
        _check_scaler(state.scaler.state_dict(), checkpoint.scaler_state)
        model.load_state_dict(checkpoint.model_state)
        objective.load_state_dict(checkpoint.objective_state)
        # Its own groups: a file must not set learning rate or betas.
        saved = state.optimizer.state_dict() | {"state": checkpoint.optimizer_state["state"]}
        state.optimizer.load_state_dict(saved)
        state.scaler.load_state_dict(checkpoint.scaler_state)
        state.generator.set_state(checkpoint.rng_state)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"epoch {checkpoint.epoch} cannot be resumed: {error} Start over with --params=train.resume=false."
        ) from error
    state.epoch = checkpoint.epoch
    state.history = [dict(row) for row in checkpoint.history]
    return state


def snapshot(state: TrainingState, settings: Mapping[str, Any], data_card: DataCard) -> Checkpoint:
    """The state as a checkpoint: copies on the CPU, so training can continue at once.

    Args:
        state: after an epoch.
        settings: of `run_settings`.
        data_card: of the digits trained on.
    """
    model = state.step.model
    return Checkpoint(
        epoch=state.epoch,
        latent_dim=model.latent_dim,
        image_shape=list(model.image_shape),
        model=state.description[0].model_dump(mode="json"),
        objective=state.description[1].model_dump(mode="json"),
        model_state=_copied(model.state_dict()),
        objective_state=_copied(state.step.objective.state_dict()),
        optimizer_state=_copied(state.optimizer.state_dict()),
        scaler_state=_copied(state.scaler.state_dict()),
        rng_state=state.generator.get_state(),
        history=[dict(row) for row in state.history],
        settings=dict(settings),
        dataset=data_card,
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # says which build, where the package's metadata do not
            "vae_mnist": version("vae_mnist"),
        },
    )


def _check_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Refuse the state of an optimizer with other settings or parameters than the one given."""
    # These say how a step is computed, which depends on the machine; the others say what it computes.
    free = {"params", "foreach", "fused", "capturable"}
    for expected, found in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        # A key that another version of torch does not know is its default.
        for key in sorted((expected.keys() & found.keys()) - free):
            value = list(expected[key]) if isinstance(expected[key], tuple) else expected[key]
            if found[key] != value:
                raise CheckpointError(f"optimizer: expected {key} {value}, found {brief(found[key])}.")
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    wanted = {
        index: {"step": torch.tensor(0.0), "exp_avg": parameter, "exp_avg_sq": parameter}
        for index, parameter in enumerate(parameters)
    }
    if saved["state"]:  # nothing where float16 has skipped every step so far
        check_tensors(_named(wanted), _named(saved["state"]))


def _named(state: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{name} of parameter {index}": tensor for index, each in state.items() for name, tensor in each.items()}


def _check_scaler(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse the state of a gradient scaler with other settings than the one given."""
    moving = {"scale", "_growth_tracker"}
    fits = found.keys() == expected.keys() and all(
        type(found[key]) is type(value) and (found[key] == value or (key in moving and 0 <= found[key] < inf))
        for key, value in expected.items()
    )
    if not fits:
        raise CheckpointError(f"scaler_state: expected one like {dict(expected)}, found {brief(found)}.")


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same nested dicts and lists, tensors copied to the CPU."""
    copies: dict[str, Any] = tree_map_only(Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), dict(state))
    return copies
