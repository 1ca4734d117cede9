"""Types of the fields of `records`. Those for large values stop at the first wrong entry.

Pydantic would collect an error for each entry instead, 1.4 kB for each of what may be a million.
"""

from collections.abc import Mapping
from functools import partial
from math import isfinite
from reprlib import repr as brief
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, PlainValidator, StringConstraints
from torch import Tensor

MAX_INTEGER, MAX_SIDE, MAX_ENTRIES = 2**63 - 1, 65_536, 10_000
COLUMNS = frozenset({"epoch", "seconds", "learning_rate", "train_loss", "test_loss"})  # at least, in each history row


def shown(value: object) -> str:
    """A value in an error message: shortened; of tensors only shape and type."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return brief(value)


def plain(value: object, depth: int) -> Any:  # noqa: ANN401
    """Copy finite numbers, text and None, in lists and in dicts with text as keys; tuples become lists.

    Args:
        value: of any type.
        depth: how many levels of dicts and lists are allowed.

    Raises:
        ValueError: anything else, or more levels.
    """
    if depth and isinstance(value, dict) and all(type(key) is str for key in value):
        return {key: plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value]
    if value is None or type(value) in {str, bool}:
        return value
    if (type(value) is int and abs(value) <= MAX_INTEGER) or (type(value) is float and isfinite(value)):
        return value
    raise _unexpected(value, f"finite numbers{', text, dicts or lists' if depth else ' or text'}")


def _unexpected(found: object, expected: str) -> ValueError:
    return ValueError(f"expected {expected}, found {shown(found)}.")


def _few(value: object) -> object:
    if isinstance(value, dict | list) and len(value) > MAX_ENTRIES:
        raise ValueError(f"expected at most {MAX_ENTRIES:,} entries, found {len(value):,}.")
    return value


def _tensors(value: object) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        raise _unexpected(value, "a dict of tensors")
    for name, tensor in value.items():
        if type(name) is not str or not isinstance(tensor, Tensor):
            raise _unexpected(tensor, f"a tensor as {shown(name)}")
    return dict(value)


def _optimizer_state(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or value.keys() != {"state", "param_groups"}:
        raise _unexpected(value, "the keys state and param_groups")
    state, groups = value["state"], value["param_groups"]
    if not isinstance(state, Mapping) or not all(type(number) is int for number in state):
        raise _unexpected(state, "state with numbers of parameters as keys")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise _unexpected(groups, "param_groups as a list of dicts")
    tensors = {number: _tensors(tensors) for number, tensors in state.items()}
    return {"state": tensors, "param_groups": plain(groups, depth=3)}


def _history(value: object) -> list[dict[str, int | float]]:
    if not isinstance(value, list):
        raise _unexpected(value, "a list of rows")
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict) or not row.keys() >= COLUMNS or row["epoch"] != number:
            raise _unexpected(row, f"a row of epoch {number} with {', '.join(sorted(COLUMNS))}")
        if not all(type(item) in {int, float} for item in row.values()):
            raise _unexpected(row, f"numbers in the row of epoch {number}")
    rows: list[dict[str, int | float]] = plain(value, depth=2)
    return rows


_T = TypeVar("_T")
Few = Annotated[_T, BeforeValidator(_few)]
Split = Literal["train", "validation", "test"]
PerSplit = Annotated[Few[dict[Split, _T]], Field(min_length=3)]  # all three
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
ImageShape = Annotated[Few[list[Annotated[int, Field(ge=1, le=MAX_SIDE)]]], Field(min_length=3, max_length=3)]

Nested = Annotated[dict[str, Any], BeforeValidator(partial(plain, depth=4))]
Tensors = Annotated[dict[str, Tensor], PlainValidator(_tensors)]
OptimizerState = Annotated[dict[str, Any], PlainValidator(_optimizer_state)]  # {"state": …, "param_groups": …}
History = Annotated[list[dict[str, int | float]], PlainValidator(_history)]
