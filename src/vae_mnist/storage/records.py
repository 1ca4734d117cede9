"""Classes for what is read from files, and pydantic's errors in this project's words."""

import re
from reprlib import repr as brief
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .fields import Count, Few, ImageShape, PerSplit, Sha256, shown


class Record(BaseModel):
    """Base class of what crosses a file boundary: exact types, finite numbers, no unknown keys."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_key(cls, data: object) -> object:
        # Pydantic would collect an error for each; see `fields`.
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"expected the keys {', '.join(cls.model_fields)}, found {brief(key)}.")
        return data


class FileFacts(Record):
    """One of the files that the images were read from."""

    bytes: Count
    sha256: Sha256
    known: bool | None  # whether it is the published file; None: it has no published checksum


class DataCard(Record):
    """Identifies a data set: the content of data_card.json, and of `dataset` in a checkpoint."""

    name: str  # short, for captions: "MNIST", or "MNIST 64 x 64 in colour"
    title: str  # name and numbers of images
    source: str  # where it was read, in words
    counts: PerSplit[Count]  # images
    image_shape: ImageShape  # [C, H, W]
    class_counts: PerSplit[Few[list[Count]]]  # images of class 0, 1, …
    train_pixel_mean: Annotated[float, Field(ge=0, le=1)]
    sha256: PerSplit[Sha256]  # of images and labels
    files: Few[dict[str, FileFacts]]  # file name -> facts; empty for data that comes from a package
    class_names: Few[list[str]] = []  # of class 0, 1, …; empty: their numbers
    factors: Few[dict[str, Count]] = {}  # of variation: name -> number of values; empty: not known

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_counts["train"])

    def class_name(self, label: int) -> str:
        """Of a class, its number if it has no name."""
        return self.class_names[label] if label < len(self.class_names) else str(label)


def first_problem(error: ValidationError) -> str:
    """Pydantic's first error as "key: expected …, found …."."""
    detail = error.errors(include_url=False)[0]
    # Keys come from the file as well.
    key = ".".join(str(part) if re.fullmatch(r"[\w.]{1,60}", str(part)) else brief(part) for part in detail["loc"])
    opening = f"{key}: " if key else ""
    if detail["type"] == "missing":
        return f"{opening}missing."
    if detail["type"] == "value_error":
        return opening + detail["msg"].removeprefix("Value error, ")
    expected = re.sub(r"^\w+ should (be|have|match) ", "", detail["msg"])
    return f"{opening}expected {expected}, found {shown(detail['input'])}."
