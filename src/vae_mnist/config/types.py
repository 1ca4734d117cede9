"""What all parameter groups are made of."""

import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Width = Annotated[int, Field(ge=1, le=65_536)]  # of a layer
Patch = Annotated[int, Field(ge=1, le=16)]  # pixels a side of a cell of the finest feature map

Item = TypeVar("Item")
# One number a level, the finest first; YAML has lists only.
Levels = Annotated[tuple[Item, ...], Field(min_length=1, max_length=8, strict=False)]


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):  # among literals, pydantic takes true for 1
        raise ValueError("a number")  # noqa: TRY004 pydantic's own
    return value


NoBoolean = BeforeValidator(_no_boolean)  # for literal numbers


def text(pattern: str, description: str) -> AfterValidator:
    """Text that matches a pattern, asked for in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(description)
        return value

    return AfterValidator(check)


class ParameterGroup(BaseModel):
    """Frozen, strict about types, and closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
