"""Trained objectives, from checkpoints."""

from reprlib import repr as brief

import torch

from ..config.objective import ObjectiveConfig
from ..errors import CheckpointError
from ..models.load import check_tensors
from ..storage.checkpoints import Checkpoint
from .build import build_objective
from .terms import Objective


def objective_from_checkpoint(checkpoint: Checkpoint) -> Objective:
    """The objective of a checkpoint, with its weights, on the CPU.

    Raises:
        CheckpointError: the weights do not fit the objective that the checkpoint describes.
    """
    try:
        with torch.device("meta"):  # no generator moves
            config = ObjectiveConfig(**checkpoint.objective)
            objective = build_objective(config, checkpoint.dataset.counts["train"], checkpoint.latent_dim)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{brief(checkpoint.objective)} describes no objective: {error}") from error
    try:
        check_tensors(objective.state_dict(), checkpoint.objective_state)
    except CheckpointError as error:
        raise CheckpointError(f"the checkpoint's weights do not fit its objective: {error}") from error
    weights = {name: tensor.clone() for name, tensor in checkpoint.objective_state.items()}
    objective.load_state_dict(weights, assign=True)
    return objective.eval()
