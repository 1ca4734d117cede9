"""Equality to the bit."""

import torch


def same(left, right, ignore=("seconds",)):
    """Whether nested checkpoints hold the same, tensors bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right) and left.dtype == right.dtype
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left if k not in ignore)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right
