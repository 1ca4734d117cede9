"""One figure of merit."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Value = str | int | float | bool | None


class Measured(BaseModel):
    """What metrics.json, the comparison of runs and every tracker read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    value: float
    standard_error: float | None = None  # of the mean over images, where it is one
    unit: str
    better: Literal["lower", "higher"] | None  # None: neither
    data: str  # that it was measured on
    settings: dict[str, Value] = {}  # with which it can be measured again


Measurements = list[Measured]
