"""Pictures of a run, all from its checkpoints and the test images."""

from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise

import torch
from PIL.Image import Image
from torch import Tensor

from ....config.parameters import ReportConfig, TrainConfig
from ....data.images import ImageSet, check_images
from ....data.pixels import as_pixels
from ....errors import DataError
from ....models import VAE, model_from_checkpoint
from ....models.likelihoods import shown_words
from ....plots import (
    Caption,
    animation,
    interpolation_strips,
    latent_map,
    reconstruction_grid,
    sample_grid,
    traversal_grid,
)
from ....sampling import class_labels, complete, decode, encode, interpolate, reconstruct, sample, traverse
from ....storage.checkpoints import Checkpoint, weights_digest
from ....training.machine import Machine, resolve_machine
from ....training.resume import check_dataset

Partitions = dict[str, Callable[[], Checkpoint]]
LazyPictures = dict[str, Callable[[], Image]]
Codes = dict[str, Tensor]  # of `encode_test_images`: "means" (N, Z), "kl" (Z,) nats, "groups" (G,), "weights" (32,)

MAP_LIMIT = 20_000  # images on the latent map


def draw_samples(
    checkpoints: Partitions, run: str, config: ReportConfig, train: TrainConfig
) -> tuple[LazyPictures, Image]:
    """A grid of samples for every epoch, all from the same codes, and the newest once more.

    Of a conditional model a row a class.
    """
    machine = resolve_machine(train)

    def draw(read: Callable[[], Checkpoint]) -> Image:
        checkpoint = read()
        model, side = _model(checkpoint, machine), config.sample_side
        labels = torch.arange(model.classes).repeat_interleave(side) if model.classes else None
        with machine.measuring():
            images = sample(model, side * (model.classes or side), labels=labels, seed=config.seed)
        which = "of each class" if model.classes else "from the prior"
        caption = _caption(f"Samples {which} ({shown_words(model.likelihood)})", run, checkpoint)
        if model.classes:
            names = [checkpoint.dataset.class_name(label) for label in range(model.classes)]
            return traversal_grid(images, names, caption)
        return sample_grid(images, side, caption)

    return _one_an_epoch("sample", checkpoints, draw)


def draw_reconstructions(
    checkpoints: Partitions, test_images: ImageSet, run: str, config: ReportConfig, train: TrainConfig
) -> tuple[LazyPictures, Image]:
    """Originals above their reconstructions for every epoch, sorted by class, and the newest once more."""
    check_images(test_images, "test_images")
    machine = resolve_machine(train)
    shown = _by_turns(test_images["labels"], config.reconstructions)
    originals, labels = as_pixels(test_images["images"][shown]), test_images["labels"][shown]

    def draw(read: Callable[[], Checkpoint]) -> Image:
        checkpoint = read()
        check_dataset(checkpoint, "test", test_images)
        with machine.measuring():
            images = reconstruct(_model(checkpoint, machine), originals, labels)
        caption = _caption("Test images above their reconstructions", run, checkpoint)
        return reconstruction_grid(originals, images, 10, caption)

    return _one_an_epoch("recon", checkpoints, draw)


def draw_interpolations(
    checkpoints: Partitions, test_images: ImageSet, run: str, config: ReportConfig, train: TrainConfig
) -> Image:
    """Straight paths between the codes of test images of different classes.

    Of several groups of latents the top one changes; a conditional model is given the class of the first image.
    """
    checkpoint, machine = _newest(checkpoints), resolve_machine(train)
    check_dataset(checkpoint, "test", test_images)
    model = _model(checkpoint, machine)
    ends = _by_turns(test_images["labels"], 2 * config.interpolation_pairs)
    # Half a list apart: a path leads from one class to another. Of an odd number the middle one is left out.
    half = max(1, len(ends) // 2)
    images, labels = as_pixels(test_images["images"][ends]), test_images["labels"][ends]
    with machine.measuring():
        codes, strips = encode(model, images, labels)[0], []
        for first in range(half):
            last = len(ends) - half + first
            label = int(labels[first]) if model.classes else None
            path = interpolate(model, codes[first], codes[last], config.interpolation_steps, labels=label)
            strips.append(torch.cat([images[first][None], path, images[last][None]]))
    title = "From one image to another"
    title += ", given the class of the first" if model.classes else ""
    title += ", by the top group of latents" if len(model.groups) > 1 else ""
    return interpolation_strips(strips, _caption(title, run, checkpoint))


def draw_latent_map(checkpoints: Partitions, test_images: ImageSet, test_codes: Codes, run: str) -> object:
    """Posterior means of the test images on two principal components, a figure of Matplotlib."""
    checkpoint = _newest(checkpoints)
    check_dataset(checkpoint, "test", test_images)
    _check_codes(test_codes, checkpoint, run)
    count = len(test_images["labels"])
    shown = min(count, MAP_LIMIT)
    which = "the test images" if shown == count else f"the first {shown:,} of {count:,} test images"
    top, several = int(test_codes["groups"][0]), len(test_codes["groups"]) > 1
    where = "the top group of latents" if several else "latent space"
    caption = _caption(f"Where {which} lie in {where}", run, checkpoint)
    return latent_map(
        test_codes["means"][:shown, :top], test_images["labels"][:shown], caption, checkpoint.dataset.class_name
    )


def draw_traversal(
    checkpoints: Partitions,
    test_images: ImageSet,
    test_codes: Codes,
    run: str,
    config: ReportConfig,
    train: TrainConfig,
) -> Image:
    """The most active latent dimensions of the top group, each walked through from the code of the first test image."""
    checkpoint, machine = _newest(checkpoints), resolve_machine(train)
    check_dataset(checkpoint, "test", test_images)
    _check_codes(test_codes, checkpoint, run)
    kl = test_codes["kl"][: int(test_codes["groups"][0])]
    dimensions = kl.argsort(descending=True)[: config.traversal_dims].tolist()
    values = torch.linspace(-config.traversal_range, config.traversal_range, config.traversal_steps)
    with machine.measuring():
        model = _model(checkpoint, machine)
        label = int(test_images["labels"][0]) if model.classes else None
        images = traverse(model, test_codes["means"][:1], dimensions, values, labels=label)
    labels = [f"z{dimension}\n{kl[dimension]:.2f} nats" for dimension in dimensions]
    which = "dimensions of the top group of latents" if len(model.groups) > 1 else "latent dimensions"
    given = f", given class {checkpoint.dataset.class_name(label)}" if label is not None else ""
    title = f"The most active {which}, from {values[0]:g} to {values[-1]:g}{given}"
    return traversal_grid(images, labels, _caption(title, run, checkpoint))


def draw_latent_groups(checkpoints: Partitions, run: str, config: ReportConfig, train: TrainConfig) -> LazyPictures:
    """What each group of latents does, of a model with several: which of them are drawn anew, and which stay.

    Returns:
        {"top_stays": a top code a row, "top_changes": a top code a column, "one_changes": a group a row}; {} for a
        model with one group.
    """
    checkpoint, machine = _newest(checkpoints), resolve_machine(train)
    model = _model(checkpoint, machine)
    if len(model.groups) == 1:
        return {}
    side, generator = config.sample_side, torch.Generator().manual_seed(config.seed)
    with machine.measuring():
        tops = model.prior_now().draw(side, generator).cpu()  # (side, Z_1)
    noises = torch.randn(side, model.latent_dim - model.groups[0], generator=generator)
    rows, columns = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)

    given = f", class {checkpoint.dataset.class_name(0)}" if model.classes else ""

    def draw(title: str, top: Tensor, noise: Tensor, names: list[str]) -> Image:
        labels = class_labels(model, [0] * len(top), len(top)) if model.classes else None
        with machine.measuring():
            images = decode(model, complete(model, top, noise, labels), labels)
        return traversal_grid(images, names, _caption(title + given, run, checkpoint))

    def one_changes() -> Image:
        top, noise = tops[:1].repeat(len(model.groups) * side, 1), noises[:1].repeat(len(model.groups) * side, 1)
        top[:side] = tops
        for group, (start, end) in enumerate(pairwise([0, *accumulate(model.groups[1:])]), start=1):
            noise[group * side : (group + 1) * side, start:end] = noises[:, start:end]
        names = [f"group {number}\n{size} latents" for number, size in enumerate(model.groups, start=1)]
        return draw("One group drawn anew, the noise of the others kept", top, noise, names)

    numbers = [str(number) for number in range(1, side + 1)]
    stays = "Same top group in a row, groups below drawn anew"
    changes = "Same groups below in a row, top group drawn anew"
    return {
        "top_stays": partial(draw, stays, tops[rows], noises[columns], numbers),
        "top_changes": partial(draw, changes, tops[columns], noises[rows], numbers),
        "one_changes": one_changes,
    }


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
    return machine.place(model_from_checkpoint(checkpoint))


def _check_codes(codes: Codes, checkpoint: Checkpoint, run: str) -> None:
    """Refuse codes of another model: those of an older epoch, say.

    Raises:
        DataError: naming the epoch and run expected.
    """
    complete = codes.keys() >= {"means", "kl", "groups", "weights"}
    if not complete or not torch.equal(codes["weights"], weights_digest(checkpoint.model_state)):
        raise DataError(
            f"test_codes: expected those of epoch {checkpoint.epoch} of run {run}, found others. "
            "Run kedro run --pipelines=evaluate first."
        )


def _caption(title: str, run: str, checkpoint: Checkpoint) -> Caption:
    return Caption.of(title, run, checkpoint.dataset, checkpoint.history[-1])


def _by_turns(labels: Tensor, count: int) -> Tensor:
    """Positions of `count` images whose labels run 0, 1, … 9, 0, 1, …; labels that run out are passed over."""
    queues = [(labels == label).nonzero().squeeze(1).tolist() for label in labels.unique().tolist()]
    turns = (queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue))
    return torch.tensor([position for position, _ in zip(turns, range(count), strict=False)])
