"""Pictures and tables of a run, all from its checkpoints and the test digits."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL.Image import Image
from plotly.graph_objects import Figure as PlotlyFigure
from torch import Tensor

from ...config.parameters import ModelConfig, ReportConfig, TrainConfig
from ...data.images import Digits, check_digits
from ...data.pixels import as_pixels
from ...errors import DataError
from ...models import VAE, model_from_checkpoint
from ...models.build import build_likelihood
from ...plots import (
    Caption,
    animation,
    interactive_loss_curves,
    interpolation_strips,
    latent_map,
    loss_curves,
    reconstruction_grid,
    sample_grid,
    traversal_grid,
)
from ...sampling import encode, interpolate, reconstruct, sample, traverse
from ...storage.checkpoints import Checkpoint, weights_digest
from ...storage.records import DataCard
from ...training.machine import Machine, resolve_machine
from ...training.resume import check_dataset

Partitions = dict[str, Callable[[], Checkpoint]]
LazyPictures = dict[str, Callable[[], Image]]
Codes = dict[str, Tensor]  # "means" (N, Z) of all test digits, "kl" (Z,) nats, "weights" (32,) that they come from

MAP_LIMIT = 20_000  # digits on the latent map

COLUMNS = {
    "epoch": "counted from 1",
    "loss": "what was minimised; for the ELBO bce + beta x kld",
    "bce": "distortion -log p(x|z): Bernoulli cross-entropy, summed over pixels",
    "kld": "rate KL(q(z|x) || p(z)), summed over latent dimensions",
    "neg_elbo": "bce + kld: the loss at beta 1",
    "seconds": "wall time of the training pass",
    "learning_rate": "of the epoch's last step",
}


def make_loss_table(checkpoints: Partitions, history: pd.DataFrame, run: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row an epoch, with run and data in each, and a companion that says what the columns mean.

    Args:
        checkpoints: oldest first.
        history: as training wrote it.
        run: the run's name.
    """
    checkpoint = _newest(checkpoints)
    likelihood = build_likelihood(ModelConfig(**checkpoint.model))
    nats = [column for column in history.columns if column.startswith(("train_", "test_", "validation_"))]
    # four decimals to read; the history keeps every digit
    table = history.round(dict.fromkeys(nats, 4) | {"seconds": 2}).assign(run=run, data=checkpoint.dataset.title)
    card = {
        "run": run,
        "dataset": checkpoint.dataset.model_dump(),
        "unit": "nats per image, averaged over images; lower is better",
        "note": likelihood.words,
        "columns": COLUMNS,
    }
    return table, card


def draw_loss_curves(table: pd.DataFrame, card: dict[str, Any]) -> tuple[Figure, PlotlyFigure]:
    """Loss, BCE and KLD over the epochs, as a picture and for a browser."""
    last = {str(name): value for name, value in table.iloc[-1].items()}
    caption = Caption.of("Loss over the epochs", card["run"], DataCard(**card["dataset"]), last, card["note"])
    return loss_curves(table, caption), interactive_loss_curves(table, caption)


def draw_samples(
    checkpoints: Partitions, run: str, config: ReportConfig, train: TrainConfig
) -> tuple[LazyPictures, Image]:
    """A grid of samples for every epoch, all from the same codes, and the newest once more."""
    machine = resolve_machine(train)

    def draw(read: Callable[[], Checkpoint]) -> Image:
        checkpoint = read()
        with machine.measuring():
            images = sample(_model(checkpoint, machine), config.sample_side**2, seed=config.seed)
        caption = _caption("Samples from the prior (pixel means)", run, checkpoint)
        return sample_grid(images, config.sample_side, caption)

    return _one_an_epoch("sample", checkpoints, draw)


def draw_reconstructions(
    checkpoints: Partitions, test_digits: Digits, run: str, config: ReportConfig, train: TrainConfig
) -> tuple[LazyPictures, Image]:
    """Originals above their reconstructions for every epoch, sorted by digit, and the newest once more."""
    check_digits(test_digits, "test_digits")
    machine = resolve_machine(train)
    originals = as_pixels(test_digits["images"][_by_turns(test_digits["labels"], config.reconstructions)])

    def draw(read: Callable[[], Checkpoint]) -> Image:
        checkpoint = read()
        check_dataset(checkpoint, "test", test_digits)
        with machine.measuring():
            images = reconstruct(_model(checkpoint, machine), originals)
        caption = _caption("Test digits above their reconstructions", run, checkpoint)
        return reconstruction_grid(originals, images, 10, caption)

    return _one_an_epoch("recon", checkpoints, draw)


def draw_interpolations(
    checkpoints: Partitions, test_digits: Digits, run: str, config: ReportConfig, train: TrainConfig
) -> Image:
    """Straight paths between the codes of test digits of different classes."""
    checkpoint, machine = _newest(checkpoints), resolve_machine(train)
    check_dataset(checkpoint, "test", test_digits)
    model = _model(checkpoint, machine)
    ends = test_digits["images"][_by_turns(test_digits["labels"], 2 * config.interpolation_pairs)]
    # Half a list apart: a path leads from one class to another. Of an odd number the middle one is left out.
    half = max(1, len(ends) // 2)
    left, right = as_pixels(ends[:half]), as_pixels(ends[-half:])
    with machine.measuring():
        codes = [encode(model, images)[0] for images in (left, right)]
        strips = [
            torch.cat([first[None], interpolate(model, z1, z2, config.interpolation_steps), last[None]])
            for first, last, z1, z2 in zip(left, right, *codes, strict=True)
        ]
    return interpolation_strips(strips, _caption("From one digit to another", run, checkpoint))


def draw_latent_map(checkpoints: Partitions, test_digits: Digits, test_codes: Codes, run: str) -> Figure:
    """Posterior means of the test digits on two principal components."""
    checkpoint = _newest(checkpoints)
    check_dataset(checkpoint, "test", test_digits)
    _check_codes(test_codes, checkpoint, run)
    count = len(test_digits["labels"])
    shown = min(count, MAP_LIMIT)
    which = "the test digits" if shown == count else f"the first {shown:,} of {count:,} test digits"
    caption = _caption(f"Where {which} lie in latent space", run, checkpoint)
    return latent_map(test_codes["means"][:shown], test_digits["labels"][:shown], caption)


def draw_traversal(
    checkpoints: Partitions, test_codes: Codes, run: str, config: ReportConfig, train: TrainConfig
) -> Image:
    """The most active latent dimensions, each walked through from the code of the first test digit."""
    checkpoint, machine = _newest(checkpoints), resolve_machine(train)
    _check_codes(test_codes, checkpoint, run)
    kl = test_codes["kl"]
    dimensions = kl.argsort(descending=True)[: config.traversal_dims].tolist()
    values = torch.linspace(-config.traversal_range, config.traversal_range, config.traversal_steps)
    with machine.measuring():
        images = traverse(_model(checkpoint, machine), test_codes["means"][:1], dimensions, values)
    labels = [f"z{dimension}\n{kl[dimension]:.2f} nats" for dimension in dimensions]
    title = f"The most active latent dimensions, from -{config.traversal_range:g} to {config.traversal_range:g}"
    return traversal_grid(images, labels, _caption(title, run, checkpoint))


def animate_samples(samples: LazyPictures, config: ReportConfig) -> list[Image]:
    """The sample grids as one animation, thinned evenly to at most `animation_frames` epochs."""
    names = sorted(samples, key=lambda name: (len(name), name))  # epoch 1000 after 999
    count = min(len(names), config.animation_frames)
    chosen = [names[round(at)] for at in torch.linspace(0, len(names) - 1, count).tolist()] if count > 1 else names[-1:]
    return animation((samples[name]() for name in chosen), config.animation_frame_ms)


def _one_an_epoch(
    kind: str, checkpoints: Partitions, draw: Callable[[Callable[[], Checkpoint]], Image]
) -> tuple[LazyPictures, Image]:
    """{"sample_epoch_001": …}: each page is drawn when it is written: a long run needs no more memory."""
    pages: LazyPictures = {name.replace("vae", kind, 1): partial(draw, read) for name, read in checkpoints.items()}
    return pages, list(pages.values())[-1]()


def _newest(checkpoints: Partitions) -> Checkpoint:
    return list(checkpoints.values())[-1]()


def _model(checkpoint: Checkpoint, machine: Machine) -> VAE:
    return model_from_checkpoint(checkpoint).to(machine.device)


def _check_codes(codes: Codes, checkpoint: Checkpoint, run: str) -> None:
    """Refuse codes of another model: those of an older epoch, say.

    Raises:
        DataError: naming the epoch and run expected.
    """
    complete = codes.keys() == {"means", "kl", "weights"}
    if not complete or not torch.equal(codes["weights"], weights_digest(checkpoint.model_state)):
        raise DataError(
            f"test_codes: expected those of epoch {checkpoint.epoch} of run {run}, found others. "
            "Run kedro run --pipelines=evaluate first."
        )


def _caption(title: str, run: str, checkpoint: Checkpoint) -> Caption:
    return Caption.of(title, run, checkpoint.dataset, checkpoint.history[-1])


def _by_turns(labels: Tensor, count: int) -> Tensor:
    """Positions of `count` digits whose labels run 0, 1, … 9, 0, 1, …; labels that run out are passed over."""
    queues = [(labels == digit).nonzero().squeeze(1).tolist() for digit in labels.unique().tolist()]
    turns = (queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue))
    return torch.tensor([position for position, _ in zip(turns, range(count), strict=False)])
