"""The training loop, what it starts from, and what each epoch leaves behind."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from .batches import Batch, Batches
from .checkpoints import FORMAT_VERSION, Checkpoint
from .config import ModelConfig, ObjectiveConfig, ParameterGroup, TrainConfig
from .devices import Precision
from .errors import CheckpointError, NonFiniteLossError, ResumeError
from .losses import negative_elbo
from .metrics import LossParts, loss_parts
from .models import VAE, build_model

# What may differ when a run goes on: it changes how long or where, not what is computed.
FREE_SETTINGS = frozenset({"train.epochs", "train.resume", "train.device", "train.threads"})

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
) -> Iterator[TrainingState]:
    """Train on from `state`, one epoch at a time.

    Args:
        state: where training stands; changed in place.
        images: "train", "test" and perhaps "validation" -> (N, C, H, W) uint8 on the model's device.
        objective: the loss.
        config: epochs, batch size, threads.
        precision: of the forward pass.
        progress: wraps the batches of an epoch, to show them pass.

    Yields:
        The state after each epoch, its row of losses appended to the history.

    Raises:
        NonFiniteLossError: with epoch and step; the state of the epoch before was the last one yielded.
    """
    model, optimizer, scaler = state.model, state.optimizer, state.scaler
    device = images["train"].device
    batches = Batches(images["train"], model.latent_dim, config.batch_size, state.generator)
    for epoch in range(state.epoch + 1, config.epochs + 1):
        with _thread_count(config.threads):
            started = perf_counter()
            model.train()
            sums = torch.empty(len(batches), 2, device=device)  # nats: reconstruction, KL
            for step, batch in enumerate(progress(batches, epoch)):
                with torch.autocast(device.type, precision.autocast, enabled=precision.autocast is not None):
                    output = model(batch.images, batch.noise)
                terms = negative_elbo(output, batch.images, objective.beta, check_range=False)
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(terms.loss.mean()).backward()
                scaler.step(optimizer)
                scaler.update()
                sums[step, 0], sums[step, 1] = terms.reconstruction.detach().sum(), terms.kl.detach().sum()
            trained = _epoch_losses(sums, len(batches.images), objective.beta, epoch, config, precision)
            seconds = perf_counter() - started
            state.history.append(_row(epoch, trained, seconds, state, images, objective.beta))
        state.epoch = epoch
        yield state


def start(
    model: ModelConfig,
    config: TrainConfig,
    image_shape: Iterable[int],
    device: torch.device,
    precision: Precision,
) -> TrainingState:
    """An untrained state, drawn from `config.seed` alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = build_model(model, tuple(image_shape)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=device.type in ("cpu", "cuda"))
    scaler = torch.amp.GradScaler(device.type, enabled=precision.scaled)
    return TrainingState(network, optimizer, scaler, torch.Generator().manual_seed(config.seed))


def restore(state: TrainingState, checkpoint: Checkpoint) -> TrainingState:
    """Put a checkpoint into an untrained state of the same settings; changed in place.

    Raises:
        CheckpointError: its tensors do not fit.
    """
    try:
        state.model.load_state_dict(checkpoint["model_state"])
        state.optimizer.load_state_dict(checkpoint["optimizer_state"])
        state.scaler.load_state_dict(checkpoint["scaler_state"])
        state.generator.set_state(checkpoint["rng_state"])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"epoch {checkpoint['epoch']} cannot be resumed: {error}") from error
    state.epoch = checkpoint["epoch"]
    state.history = [dict(row) for row in checkpoint["history"]]
    return state


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
        "epoch": state.epoch,
        "latent_dim": model.latent_dim,
        "hidden_dim": model.hidden_dim,
        "model": {
            **{key.removeprefix("model."): value for key, value in settings.items() if key.startswith("model.")},
            "image_shape": list(model.image_shape),
        },
        "model_state": _copied(dict(model.state_dict())),
        "optimizer_state": _copied(state.optimizer.state_dict()),
        "scheduler_state": None,
        "scaler_state": _copied(state.scaler.state_dict()),
        "rng_state": state.generator.get_state(),
        "history": [dict(row) for row in state.history],
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


def run_settings(**groups: ParameterGroup) -> dict[str, Any]:
    """Parameters that decide what training computes, as {"group.name": value}."""
    settings = {
        f"{group}.{name}": value for group, config in groups.items() for name, value in config.model_dump().items()
    }
    return {key: value for key, value in settings.items() if key not in FREE_SETTINGS}


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Identify settings, hexadecimal sha256."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()


def check_resume(checkpoint: Checkpoint, run: str, settings: Mapping[str, Any], data_card: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings or other digits.

    Raises:
        ResumeError: naming each difference, and both ways on.
    """
    old = checkpoint["settings"]
    changed = [key for key in sorted({*old, *settings}) if old.get(key) != settings.get(key)]
    differences = [
        f"{key}: the run {run!r} has {old.get(key)!r}, you ask for {settings.get(key)!r}." for key in changed
    ]
    name = "".join(_short(key, settings.get(key)) for key in changed)
    overrides = "".join(f",{key}={settings[key]}" for key in changed if key in settings)
    if checkpoint["dataset"].get("sha256") != data_card["sha256"]:
        differences.append(
            f"data: the run {run!r} was trained on {checkpoint['dataset'].get('title')}; "
            f"the digits now are {data_card['title']}"
            + (", but other ones." if checkpoint["dataset"].get("title") == data_card["title"] else ".")
        )
        name = name or "other"
    if differences:
        raise ResumeError(
            "\n".join(differences)
            + (" " if len(differences) == 1 else "\n")
            + f"Choose another run name: --params=run={name}{overrides} - or start over: --params=train.resume=false"
        )


def _epoch_losses(
    sums: Tensor, count: int, beta: float, epoch: int, config: TrainConfig, precision: Precision
) -> LossParts:
    # One look at the end of the epoch: asking after each step would make a GPU wait for the host.
    finite = torch.isfinite(sums).all(dim=1)
    if not finite.all():
        step = int((~finite).nonzero()[0])
        reconstruction, kl = sums[step].tolist()
        raise NonFiniteLossError(
            f"the loss is not finite in epoch {epoch}, step {step + 1} of {len(sums)}: "
            f"reconstruction {reconstruction}, KL {kl} (learning rate {config.learning_rate}, {precision.name}). "
            f"The checkpoints up to epoch {epoch - 1} are whole. Usual causes: a learning rate too large "
            "(try --params=train.learning_rate=1e-4), half precision (try --params=train.precision=float32)."
        )
    bce, kld = (sums.cpu().double().sum(0) / count).tolist()
    return LossParts(bce + beta * kld, bce, kld, bce + kld)


def _row(
    epoch: int,
    trained: LossParts,
    seconds: float,
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
    row |= {"seconds": seconds, "learning_rate": state.optimizer.param_groups[0]["lr"], "beta": beta}
    row |= {"train_neg_elbo": trained.neg_elbo, "test_neg_elbo": measured["test"].neg_elbo}
    if "validation" in measured:
        row |= {f"validation_{part}": value for part, value in measured["validation"]._asdict().items()}
    return row


@contextmanager
def _thread_count(threads: int | str) -> Iterator[None]:
    if threads == "auto":
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(int(threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _copied(value: Any) -> Any:  # noqa: ANN401
    """The same nested dicts and lists, tensors copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value


def _short(key: str, value: object) -> str:
    """Part of a run name for a changed setting: model.latent_dim = 16 -> z16."""
    abbreviations = {"latent_dim": "z", "hidden_dim": "h", "batch_size": "batch", "learning_rate": "lr"}
    name = key.rpartition(".")[2]
    return f"{abbreviations.get(name, name)}{value}"
