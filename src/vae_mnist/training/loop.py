"""The training loop."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter

import torch

from ..config.parameters import TrainConfig
from ..data.images import ImageSet
from ..storage.fields import Split
from .batches import Batch, Batches, binarised
from .compiled import choose_step
from .history import EpochSums, StepSums, check_finite, history_row, step_sums
from .machine import Machine
from .schedules import rate_shares
from .state import TrainingState
from .team import ALONE, Team

Progress = Callable[[Iterable[Batch], int], Iterable[Batch]]  # (batches, epoch) -> the same batches


def train(
    state: TrainingState,
    splits: Mapping[Split, ImageSet],
    config: TrainConfig,
    machine: Machine,
    progress: Progress = lambda batches, _: batches,
    team: Team = ALONE,
) -> Iterator[TrainingState]:
    """Train on from `state`, one epoch at a time.

    Args:
        state: where training stands; changed in place.
        splits: "train", and for the first process of the team "test" and perhaps "validation", on the machine's device.
        config: how to train.
        machine: device, precision, threads.
        progress: wraps the batches of an epoch, to show them pass.
        team: the processes that train together, each calling this with the same state and images.

    Yields:
        The state after each epoch, its row of losses appended to the history by the first process of the team.

    Raises:
        ConfigError: `train.compile` is true, and the step cannot be compiled.
        NonFiniteLossError: with epoch and step; the state of the epoch before was the last one yielded.
    """
    splits, dynamic = binarised(splits, config), config.binarisation == "dynamic"
    forward, objective = team.wrap(state.step), state.step.objective
    sizes, count = (objective.samples, state.step.model.noise_dim, config.batch_size), len(splits["train"]["labels"])

    def plain(batch: Batch, share: float, number: int) -> StepSums:
        terms = forward(batch, torch.tensor(number))
        state.optimizer.zero_grad(set_to_none=True)
        # The mean over the whole batch: a team averages over its processes, however few images one has.
        state.scaler.scale(terms.minimised.sum() * team.size / batch.total).backward()
        return step_sums(terms, state.update(config, share, number + 1))

    take_step = choose_step(plain, state, config, count, machine, team)
    for epoch in range(state.epoch + 1, config.epochs + 1):
        batches = Batches(splits["train"], *sizes, state.generator, team, dynamic, objective.noise_dim)
        with machine.at_work():
            updates, started, sums = state.updates, perf_counter(), EpochSums(len(batches))
            shares, before = rate_shares(config, epoch, len(batches)), (epoch - 1) * len(batches)
            state.step.train()
            for number, batch in enumerate(progress(batches, epoch)):
                sums.add(take_step(batch, shares[number], before + number))
            seconds = perf_counter() - started
            trained = sums.averages(team, count)
            rates = [share * config.learning_rate for share in shares]
            check_finite(sums, state, epoch, rates, machine.precision)
            skipped = len(batches) - (state.updates - updates)  # by the gradient scaler: float16 overflowed
            state.set_share(1.0)  # what a checkpoint says does not depend on where it was taken
            state.step.eval()
            state.epoch = epoch
            if team.rank == 0:
                state.history.append(
                    history_row(state, trained, splits, machine, seconds, rates[-1], skipped, epoch * len(batches))
                )
        yield state
