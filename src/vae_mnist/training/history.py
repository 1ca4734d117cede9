"""The losses of an epoch: their sums, the check that they are finite, and the row of the history."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.images import ImageSet
from ..errors import NonFiniteLossError
from ..measures.bounds import Losses, average_terms
from ..objectives import Terms
from ..storage.fields import Split
from .machine import Machine, Precision
from .state import TrainingState
from .team import Team


class StepSums(NamedTuple):
    """The losses of one step."""

    names: tuple[str, ...]  # of the terms
    values: Tensor  # (terms,) nats, summed over the images of the batch
    norm: Tensor | None  # of the gradients, (), where it was measured; the same in all processes of a team


def step_sums(terms: Terms, norm: Tensor | None = None) -> StepSums:
    """The sums of the terms of a step, (B,) nats each."""
    values = {"loss": terms.loss, "distortion": terms.distortion, "rate": terms.rate, **terms.extra}
    return StepSums(tuple(values), torch.stack([value.detach() for value in values.values()]).sum(1), norm)


class EpochSums:
    """The sums of all steps, kept on the device: a look at each step would make a GPU wait.

    Args:
        steps: in the epoch.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.done = 0
        self.names: tuple[str, ...] = ()
        self.sums = torch.empty(0)  # (steps, terms) nats
        self.norms: list[Tensor] = []

    def add(self, step: StepSums) -> None:
        """Add those of the next step."""
        if self.done == 0:
            self.names = step.names
            self.sums = step.values.new_empty(self.steps, len(step.names))
        self.sums[self.done] = step.values
        self.done += 1
        if step.norm is not None:
            self.norms.append(step.norm)

    def averages(self, team: Team, count: int) -> Losses:
        """Mean nats per image over the whole epoch, of all processes; count is the number of images.

        The mean norm of the gradients is among the extra values, where they were clipped; it leaves out the steps in
        which float16 overflowed.
        """
        team.add_up(self.sums)
        means = dict(zip(self.names, (self.sums.cpu().double().sum(0) / count).tolist(), strict=True))
        loss, distortion, rate = (means.pop(part) for part in ("loss", "distortion", "rate"))
        if self.norms:
            norms = torch.stack(self.norms)
            means["gradient_norm"] = norms.nan_to_num(0, 0, 0).sum().item() / max(1, int(norms.isfinite().sum()))
        return Losses(loss, distortion, rate, means)


def check_finite(sums: EpochSums, state: TrainingState, epoch: int, rates: list[float], precision: Precision) -> None:
    """Refuse an epoch in which a loss, a weight or a moment of the optimizer became infinite or not a number.

    Raises:
        NonFiniteLossError: naming the first step whose loss broke, or the weight.
    """
    where = f"in epoch {epoch}"
    broken = (~sums.sums.isfinite()).any(1).nonzero()
    if len(broken):
        step = int(broken[0])
        what, where = "loss", f"{where}, step {step + 1} of {sums.steps}"
        parts = ", ".join(f"{name} {value:g}" for name, value in zip(sums.names, sums.sums[step].tolist(), strict=True))
        detail = f"sums over the batch: {parts}; learning rate {rates[step]:g}"
    elif (name := state.first_non_finite()) is not None:
        what, detail = name, f"learning rate {rates[-1]:g}"
    else:
        return
    raise NonFiniteLossError(
        f"the {what} is not finite {where}: {detail}, {precision.name}. The checkpoints up to epoch {epoch - 1} are "
        "whole. Usual causes: a learning rate too large (try --params=train.learning_rate=1e-4), half precision (try "
        "--params=train.precision=float32)."
    )


def history_row(
    state: TrainingState,
    trained: Losses,
    splits: Mapping[Split, ImageSet],
    machine: Machine,
    seconds: float,
    rate: float,
    skipped: int,
    steps: int,
) -> dict[str, float]:
    """The row of the epoch that has just ended; losses in nats per image.

    Args:
        state: after the epoch.
        trained: averages over its steps.
        splits: "test" and perhaps "validation", measured with the weights as they are now, or their average.
        machine: that measures.
        seconds: of its steps.
        rate: learning rate of its last step.
        skipped: steps that the gradient scaler skipped.
        steps: of training so far.

    Raises:
        NonFiniteLossError: a measured loss is not finite.
    """
    model, objective = state.evaluated, state.step.objective
    losses: dict[Split, Losses] = {"train": trained}
    measured: tuple[Split, ...] = ("test", "validation")
    for split in measured:
        if split in splits and len(splits[split]["labels"]):
            with machine.measuring():
                image_set = splits[split]
                losses[split] = average_terms(model, objective, image_set["images"], image_set["labels"], step=steps)
            if not torch.isfinite(torch.tensor([*losses[split][:3], *losses[split].extra.values()])).all():
                raise NonFiniteLossError(
                    f"the {split} loss is not finite after epoch {state.epoch}: {losses[split]}. The checkpoints up to "
                    f"epoch {state.epoch - 1} are whole. Try a smaller --params=train.learning_rate=1e-4."
                )
    row: dict[str, float] = {"epoch": state.epoch}
    for split in ("train", "test"):
        row |= _columns(split, losses[split], model.likelihood.name)
    row |= {"seconds": seconds, "learning_rate": rate, "beta": float(objective.beta_at(torch.tensor(steps)))}
    row |= {f"{split}_neg_elbo": losses[split].neg_elbo for split in ("train", "test")} | {"skipped_steps": skipped}
    if "validation" in losses:
        row |= _columns("validation", losses["validation"], model.likelihood.name)
        row |= {"validation_neg_elbo": losses["validation"].neg_elbo}
    for split, parts in losses.items():
        row |= {f"{split}_{name}": value for name, value in parts.extra.items()}
    return row


def _columns(split: str, losses: Losses, distortion: str) -> dict[str, float]:
    return {f"{split}_loss": losses.loss, f"{split}_{distortion}": losses.distortion, f"{split}_kld": losses.rate}
