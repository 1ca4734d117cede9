"""An exponential moving average of the weights (Polyak & Juditsky 1992)."""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float, updates: int) -> None:
    """Move the average towards the model's weights; changed in place.

    Args:
        average: a copy of the model, with weights of its own.
        model: after an update.
        decay: weight of the average so far, once there are enough updates.
        updates: made so far, this one included; the first ones move the average faster, so that the random weights it
            starts from are soon forgotten.
    """
    move = get_ema_multi_avg_fn(min(decay, (1 + updates) / (10 + updates)))
    move(list(average.parameters()), list(model.parameters()), None)
    for copy, buffer in zip(average.buffers(), model.buffers(), strict=True):
        copy.copy_(buffer)
