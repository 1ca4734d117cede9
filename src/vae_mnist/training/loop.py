"""The training loop, what it starts from, and what each epoch leaves behind."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from math import isfinite
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ..config.parameters import ModelConfig, ObjectiveConfig, TrainConfig
from ..data.images import mean_image
from ..errors import CheckpointError, NonFiniteLossError
from ..measures.bounds import LossParts, loss_parts
from ..models import VAE, build_model
from ..objectives.elbo import NegativeElbo
from ..storage.checkpoints import FORMAT_VERSION, Checkpoint, check_optimizer, check_scaler, check_tensors
from .batches import Batch, Batches
from .machine import Precision, thread_count, threads
from .resume import settings_hash
from .schedules import learning_rates
from .step import Forward, forward_pass
from .team import ALONE, Team

Progress = Callable[[Iterable[Batch], int], Iterable[Batch]]  # (batches, epoch) -> the same batches


@dataclass
class TrainingState:
    """All that training changes; a checkpoint holds exactly this."""

    model: VAE
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator  # of order and noise, on the CPU
    epoch: int = 0  # the last one finished
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    state: TrainingState,
    images: Mapping[str, Tensor],
    objective: ObjectiveConfig,
    config: TrainConfig,
    precision: Precision,
    progress: Progress = lambda batches, _: batches,
    team: Team = ALONE,
) -> Iterator[TrainingState]:
    """Train on from `state`, one epoch at a time.

    Args:
        state: where training stands; changed in place.
        images: "train", "test" and perhaps "validation" -> (N, C, H, W) uint8 on the model's device.
        objective: the loss.
        config: epochs, batch size, threads, compile.
        precision: of the forward pass.
        progress: wraps the batches of an epoch, to show them pass.
        team: the processes that train together, each calling this with the same state and images.

    Yields:
        The state after each epoch, its row of losses appended to the history by the first process of the team.

    Raises:
        NonFiniteLossError: with epoch and step; the state of the epoch before was the last one yielded.
    """
    batches = Batches(images["train"], state.model.latent_dim, config.batch_size, state.generator, team)
    forward = forward_pass(team.wrap(state.model), objective.beta, precision, compiled=config.compile)
    for epoch in range(state.epoch + 1, config.epochs + 1):
        with threads(thread_count(config.threads)):
            before, updates, started = _contents(state), _updates(state), perf_counter()
            state.model.train()
            sums = torch.empty(len(batches), 2, device=images["train"].device)  # nats: reconstruction, KL
            rates = learning_rates(config, epoch, len(batches))
            steps = _steps(state, forward, progress(batches, epoch), rates, precision, team)
            for step, terms in enumerate(steps):
                sums[step, 0], sums[step, 1] = terms.reconstruction.detach().sum(), terms.kl.detach().sum()
            team.add_up(sums)
            # One look at the end of the epoch: asking after each step would make a GPU wait for the host.
            if not torch.isfinite(sums).all() or _first_non_finite(state) is not None:
                _put(before, state)
                raise _where_it_broke(state, forward, batches, rates, precision, epoch)
            skipped = len(batches) - (_updates(state) - updates)  # by the gradient scaler: float16 overflowed
            seconds = perf_counter() - started
            _set_rate(state, config.learning_rate)  # what a checkpoint says does not depend on where it was taken
            if team.rank == 0:
                trained = _epoch_losses(sums, len(batches.images), objective.beta)
                state.history.append(_row(epoch, trained, seconds, rates[-1], skipped, state, images, objective.beta))
        state.epoch = epoch
        del before  # or it would take memory while the epoch is written
        yield state


def _steps(
    state: TrainingState,
    forward: Forward,
    batches: Iterable[Batch],
    rates: Iterable[float],
    precision: Precision,
    team: Team,
) -> Iterator[NegativeElbo]:
    """One update a batch; yields the losses of this process's part of it, (B,) nats each."""
    for batch, rate in zip(batches, rates, strict=True):
        with precision.products():
            terms = forward(batch)
            state.optimizer.zero_grad(set_to_none=True)
            # The mean over the whole batch: a team averages over its processes, however few images one has.
            state.scaler.scale(terms.loss.sum() * team.size / batch.total).backward()
        _set_rate(state, rate)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        yield terms


def _set_rate(state: TrainingState, rate: float) -> None:
    for group in state.optimizer.param_groups:
        group["lr"] = rate


def start(
    model: ModelConfig,
    config: TrainConfig,
    images: Tensor,
    device: torch.device,
    precision: Precision,
) -> TrainingState:
    """An untrained state, drawn from `config.seed` alone; torch's global generator is left as it was.

    Args:
        model: which model.
        config: seed, output bias, Adam's numbers.
        images: (N, C, H, W) uint8, to train on.
        device: that trains.
        precision: of the forward pass.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = build_model(model, tuple(images.shape[1:]))
    if config.output_bias == "data":
        network.set_output_bias(mean_image(images))
    network.to(device)
    betas = (config.adam_beta1, config.adam_beta2)
    fused = device.type in ("cpu", "cuda")
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=betas, fused=fused)
    scaler = torch.amp.GradScaler(device.type, enabled=precision.scaled)
    return TrainingState(network, optimizer, scaler, torch.Generator().manual_seed(config.seed))


def restore(state: TrainingState, checkpoint: Checkpoint) -> TrainingState:
    """Put a checkpoint into an untrained state of the same settings; changed in place.

    Raises:
        CheckpointError: it does not fit that state, or its numbers are not finite.
    """
    try:
        check_tensors(state.model.state_dict(), checkpoint["model_state"])
        check_optimizer(state.optimizer, checkpoint["optimizer_state"])
        check_scaler(state.scaler.state_dict(), checkpoint["scaler_state"])
        _put(checkpoint, state)
    except (CheckpointError, RuntimeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"epoch {checkpoint['epoch']} cannot be resumed: {error}") from error
    return state


def _put(contents: Mapping[str, Any], state: TrainingState) -> None:
    state.generator.set_state(contents["rng_state"])
    state.model.load_state_dict(contents["model_state"])
    # With groups of its own, so that nothing in a file can set learning rate or betas.
    state.optimizer.load_state_dict(state.optimizer.state_dict() | {"state": contents["optimizer_state"]["state"]})
    state.scaler.load_state_dict(contents["scaler_state"])
    state.epoch = contents["epoch"]
    state.history = [dict(row) for row in contents["history"]]


def snapshot(
    state: TrainingState,
    settings: Mapping[str, Any],
    data_card: Mapping[str, Any],
) -> Checkpoint:
    """The state as a checkpoint: copies on the CPU, so that training may go on at once.

    Args:
        state: after an epoch.
        settings: of `run_settings`.
        data_card: of the digits trained on.
    """
    model = state.model
    return {
        "format_version": FORMAT_VERSION,
        "latent_dim": model.latent_dim,
        "hidden_dim": model.hidden_dim,
        "model": {
            **{key.removeprefix("model."): value for key, value in settings.items() if key.startswith("model.")},
            "image_shape": list(model.image_shape),
        },
        **_contents(state),
        "scheduler_state": None,
        "settings": dict(settings),
        "config_hash": settings_hash(settings),
        "data_hash": data_card["sha256"]["train"],
        "dataset": dict(data_card),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # says which build, where the package's metadata do not
            "vae_mnist": version("vae_mnist"),
        },
    }


def _epoch_losses(sums: Tensor, count: int, beta: float) -> LossParts:
    bce, kld = (sums.cpu().double().sum(0) / count).tolist()
    return LossParts(bce + beta * kld, bce, kld, bce + kld)


def _first_non_finite(state: TrainingState) -> str | None:
    """Name a weight, or a moment of Adam, which remembers every gradient, that is infinite or not a number."""
    for name, weight in state.model.named_parameters():
        moments = {f"{key} of {name}": value for key, value in state.optimizer.state.get(weight, {}).items()}
        for what, tensor in {f"weight {name}": weight, **moments}.items():
            if not torch.isfinite(tensor).all():
                return what
    return None


def _where_it_broke(
    state: TrainingState,
    forward: Forward,
    batches: Batches,
    rates: list[float],
    precision: Precision,
    epoch: int,
) -> NonFiniteLossError:
    """Train an epoch that went wrong once more, now with a look at each step."""
    what, step, reconstruction, kl = "loss, a gradient or a weight", 0, float("nan"), float("nan")
    team = batches.team
    for step, terms in enumerate(_steps(state, forward, batches, rates, precision, team), start=1):  # noqa: B007
        parts = torch.stack([terms.reconstruction.sum(), terms.kl.sum(), torch.ones_like(terms.kl).sum()])
        *sums, count = team.add_up(parts.detach()).tolist()
        reconstruction, kl = (part / count for part in sums)
        # A scaled gradient may be infinite: the scaler then skips the step, which is counted.
        wrong = None if precision.scaled else _wrong_gradient(state.model)
        found = None if isfinite(reconstruction) and isfinite(kl) else "loss"
        if found := found or wrong or _first_non_finite(state):
            what = found
            break
    rate = rates[step - 1]
    return NonFiniteLossError(
        f"the {what} is not finite in epoch {epoch}, step {step} of {len(batches)}: reconstruction {reconstruction:g}, "
        f"KL {kl:g} nats per image, learning rate {rate:g}, {precision.name}. "
        f"The checkpoints up to epoch {epoch - 1} are whole. Usual causes: a learning rate too large "
        "(try --params=train.learning_rate=1e-4), half precision (try --params=train.precision=float32)."
    )


def _wrong_gradient(model: VAE) -> str | None:
    for name, weight in model.named_parameters():
        if weight.grad is not None and not torch.isfinite(weight.grad).all():
            return f"gradient of {name}"
    return None


def _updates(state: TrainingState) -> int:
    """How many updates the optimizer has made; a step that the scaler skips is none."""
    return max((int(moments["step"]) for moments in state.optimizer.state.values()), default=0)


def _row(
    epoch: int,
    trained: LossParts,
    seconds: float,
    rate: float,
    skipped: int,
    state: TrainingState,
    images: Mapping[str, Tensor],
    beta: float,
) -> dict[str, float]:
    state.model.eval()
    measured = {
        split: loss_parts(state.model, images[split], beta)
        for split in ("test", "validation")
        if split in images and len(images[split])
    }
    for split, parts in measured.items():
        if not torch.isfinite(torch.tensor(parts)).all():
            raise NonFiniteLossError(
                f"the {split} loss is not finite after epoch {epoch}: {parts}. The checkpoints up to epoch {epoch - 1} "
                "are whole. Try a smaller --params=train.learning_rate=1e-4."
            )
    row: dict[str, float] = {"epoch": epoch}
    for split, parts in {"train": trained, "test": measured["test"]}.items():
        row |= {f"{split}_loss": parts.loss, f"{split}_bce": parts.bce, f"{split}_kld": parts.kld}
    row |= {"seconds": seconds, "learning_rate": rate, "beta": beta}
    row |= {"train_neg_elbo": trained.neg_elbo, "test_neg_elbo": measured["test"].neg_elbo, "skipped_steps": skipped}
    if "validation" in measured:
        row |= {f"validation_{part}": value for part, value in measured["validation"]._asdict().items()}
    return row


def _contents(state: TrainingState) -> dict[str, Any]:
    """What `_put` puts back; copies on the CPU."""
    return {
        "epoch": state.epoch,
        "model_state": _copied(dict(state.model.state_dict())),
        "optimizer_state": _copied(state.optimizer.state_dict()),
        "scaler_state": _copied(state.scaler.state_dict()),
        "rng_state": state.generator.get_state(),
        "history": [dict(row) for row in state.history],
    }


def _copied(value: Any) -> Any:  # noqa: ANN401
    """The same nested dicts and lists, tensors copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value
