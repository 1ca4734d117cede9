"""Everything that training changes: how it starts, is saved in a checkpoint, and is restored."""

import copy
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

from ..config.model import ModelConfig
from ..config.objective import ObjectiveConfig
from ..config.parameters import TrainConfig
from ..data.pixels import mean_image
from ..errors import CheckpointError
from ..models import VAE, build_model
from ..models.load import check_tensors
from ..objectives import build_objective
from ..storage.checkpoints import Checkpoint
from ..storage.records import DataCard
from .average import follow
from .machine import Machine
from .optimizer import build_optimizer, check_optimizer, clear_tiny_moments
from .step import Step

_SEEDING = threading.Lock()  # of torch's default generator, which is one for all threads


@dataclass
class TrainingState:
    """Everything that training changes; a checkpoint holds exactly this."""

    step: Step  # model and objective
    description: tuple[ModelConfig, ObjectiveConfig]  # what it was built from
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator  # of order, noise and binarisation, on the CPU
    average: VAE | None = None  # of the model's weights, where `train.average` asks for it
    epoch: int = 0  # the last one finished
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def updates(self) -> int:
        """How many updates the optimizer has made; a step that the scaler skips is none."""
        return max((int(moments["step"]) for moments in self.optimizer.state.values()), default=0)

    @property
    def evaluated(self) -> VAE:
        """What losses are measured on and `load_model` reads: the average where there is one."""
        return self.average if self.average is not None else self.step.model

    def update(self, config: TrainConfig, share: float, number: int) -> Tensor | None:
        """Take a step down the gradients, which are those of the whole team.

        Args:
            config: clipping and averaging.
            share: of each group's learning rate, as the schedule says.
            number: of the step, from 1.

        Returns:
            The norm of all gradients before clipping, (), where they are clipped.
        """
        norm = None
        self.set_share(share)
        if config.clip_norm != "none":
            self.scaler.unscale_(self.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(self.step.parameters(), config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.finish_step(config, number)
        return norm

    def finish_step(self, config: TrainConfig, number: int) -> None:
        """Clear tiny moments, and move the average of the weights, if there is one, after the step of this number."""
        clear_tiny_moments(self.optimizer, number)
        if self.average is not None and config.average != "none":
            follow(self.average, self.step.model, config.average, number)

    def set_share(self, share: float) -> None:
        """Set the learning rate of the next step, as a share of each group's own."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["initial_lr"]

    def first_non_finite(self) -> str | None:
        """Name a weight, or a moment of Adam, which remembers every gradient, that is infinite or not a number."""
        for name, weight in self.step.named_parameters():
            moments = {f"{key} of {name}": value for key, value in self.optimizer.state.get(weight, {}).items()}
            for what, tensor in {f"weight {name}": weight, **moments}.items():
                if not torch.isfinite(tensor).all():
                    return what
        for name, weight in self.average.named_parameters() if self.average is not None else ():
            if not torch.isfinite(weight).all():
                return f"average of model.{name}"
        return None


def start(
    model: ModelConfig, objective: ObjectiveConfig, config: TrainConfig, images: Tensor, classes: int, machine: Machine
) -> TrainingState:
    """An untrained state, drawn from `config.seed` alone; torch's global generator is left as it was.

    Args:
        model: which model.
        objective: what it minimises.
        config: seed, output bias, average, the optimizer's numbers.
        images: (N, C, H, W) uint8, to train on.
        classes: of the labels.
        machine: that trains.
    """
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = build_model(model, tuple(images.shape[1:]), classes)
        minimised = build_objective(objective, len(images), network.latent_dim)
    if config.output_bias == "data":
        network.start_at(mean_image(images))
    network.prior.start_from(images)
    step = machine.place(Step(network, minimised, machine.precision))
    optimizer = build_optimizer(step, config, fused=machine.device.type in ("cpu", "cuda"))
    scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision.name == "float16")
    average = copy.deepcopy(network).requires_grad_(False).eval() if config.average != "none" else None
    generator = torch.Generator().manual_seed(config.seed)
    return TrainingState(step, (model, objective), optimizer, scaler, generator, average)


def restore(state: TrainingState, checkpoint: Checkpoint) -> TrainingState:
    """Put a checkpoint into an untrained state of the same settings; changed in place.

    Raises:
        CheckpointError: it does not fit that state.
    """
    model, objective = state.step.model, state.step.objective
    try:
        check_tensors(model.state_dict(), checkpoint.model_state)
        check_tensors(model.state_dict() if state.average is not None else {}, checkpoint.trained_state)
        check_tensors(objective.state_dict(), checkpoint.objective_state)
        check_optimizer(state.optimizer, checkpoint.optimizer_state)
        _check_scaler(state.scaler.state_dict(), checkpoint.scaler_state)
        state.evaluated.load_state_dict(checkpoint.model_state)
        if state.average is not None:
            model.load_state_dict(checkpoint.trained_state)
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
        data_card: of the images trained on.
    """
    model = state.step.model
    return Checkpoint(
        epoch=state.epoch,
        latent_dim=model.latent_dim,
        image_shape=list(model.image_shape),
        model=state.description[0].model_dump(mode="json"),
        objective=state.description[1].model_dump(mode="json"),
        model_state=_copied(state.evaluated.state_dict()),
        trained_state=_copied(model.state_dict()) if state.average is not None else {},
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
