import json
import re

import pytest
from pydantic import ValidationError

from vae_mnist.storage.records import DataCard, first_problem

from ..helpers.records import CARD


def problem(content):
    with pytest.raises(ValidationError) as caught:
        DataCard.model_validate(content)
    return first_problem(caught.value)


def test_a_card_from_json_gives_the_same_json():
    card = DataCard.model_validate(json.loads(json.dumps(CARD)))
    assert card.title == "some images"
    assert card.sha256["test"] == "2" * 64
    assert card.files["images.gz"].known is False
    assert card.model_dump() == CARD


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"title": ...}, "title: missing."),
        ({"title": 5}, "title: expected a valid string, found 5."),
        ({"colour": "red"}, "expected the keys name, title, .*, found 'colour'."),
        ({"counts": {"train": 1, "test": 1}}, "counts: expected at least 3 items"),
        ({"counts": {"train": 1, "test": 1, "val": 1}}, "counts.val.*: expected 'train', 'validation' or 'test'"),
        ({"counts": CARD["counts"] | {"test": -1}}, "counts.test: expected greater than or equal to 0, found -1"),
        ({"counts": CARD["counts"] | {"test": 1.0}}, "counts.test: expected a valid integer, found 1.0"),
        ({"counts": {str(n): 1 for n in range(20_000)}}, "counts: expected at most 10,000 entries, found 20,000"),
        ({"sha256": CARD["sha256"] | {"test": "0" * 63}}, "sha256.test: expected pattern"),
        ({"sha256": CARD["sha256"] | {"test": "0" * 64 + "\n"}}, "sha256.test: expected pattern"),
        ({"train_pixel_mean": float("nan")}, "train_pixel_mean: expected "),
        ({"files": {"a": {"bytes": 1, "sha256": "0" * 64}}}, "files.a.known: missing"),
        ({"files": {"\x1b[31m": {}}}, r"files.'\\x1b\[31m'.bytes: missing"),
    ],
)  # fmt: skip
def test_a_damaged_card_is_refused_by_the_name_of_the_key(change, text):
    content = {key: value for key, value in (CARD | change).items() if value is not ...}
    assert re.match(text, problem(content))


@pytest.mark.parametrize("content", [None, [], "text", 5, {}])
def test_what_is_no_card_is_refused(content):
    assert problem(content)


def test_only_the_first_problem_is_told():
    assert problem(CARD | {"name": 1, "title": 2}) == "name: expected a valid string, found 1."
