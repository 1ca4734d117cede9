import json

import pytest
from kedro.io import DatasetError

from vae_mnist.datasets.records import RecordDataset
from vae_mnist.measures.measured import Measured

from ..helpers.records import card

LOSS = Measured(name="loss", value=1.5, unit="nats per image", better="lower", data="here", settings={"epoch": 2})


def cards(tmp_path):
    return RecordDataset(filepath=str(tmp_path / "card.json"), holds="vae_mnist.storage.records:DataCard")


def test_one_object_comes_back_from_plain_json(tmp_path):
    cards(tmp_path).save(card())
    assert cards(tmp_path).load() == card()
    assert json.loads((tmp_path / "card.json").read_text())["title"] == "some images"
    assert json.loads(cards(tmp_path).preview())["title"] == "some images"


def test_a_list_of_objects_comes_back(tmp_path):
    dataset = RecordDataset(filepath=str(tmp_path / "m.json"), holds="vae_mnist.measures.measured:Measurements")
    dataset.save([LOSS, LOSS])
    assert dataset.load() == [LOSS, LOSS]


@pytest.mark.parametrize("content", ["{", "[]", '{"title": "x"}', "5"])
def test_what_is_no_such_object_is_refused_with_what_to_do(tmp_path, content):
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(DatasetError, match=r"card\.json: .* Delete it and run the pipeline that makes it again"):
        cards(tmp_path).load()
