"""Equality to the bit."""

import pandas as pd
import torch
from pydantic import BaseModel


def same(left, right, ignore=("seconds",)):
    """Whether nested values hold the same, tensors bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right) and left.dtype == right.dtype
    if isinstance(left, pd.DataFrame):
        return left.equals(right)
    if isinstance(left, BaseModel):
        return type(left) is type(right) and same(dict(left), dict(right), ignore)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k], ignore) for k in left if k not in ignore)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(*each, ignore) for each in zip(left, right, strict=True))
    return left == right
