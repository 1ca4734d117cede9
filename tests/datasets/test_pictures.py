import os
from base64 import b64decode

import pytest
from kedro.io import DatasetError
from matplotlib.figure import Figure
from PIL import Image

from vae_mnist.datasets.pictures import FigureDataset, ImageDataset
from vae_mnist.datasets.tables import JSONDataset


def test_a_picture_comes_back_and_has_a_preview(tmp_path):
    picture = Image.effect_noise((20, 10), 50)
    dataset = ImageDataset(filepath=str(tmp_path / "sub" / "a.png"))
    dataset.save(picture)
    assert dataset.load() == picture
    assert b64decode(dataset.preview()) == (tmp_path / "sub" / "a.png").read_bytes()
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.png"]


def test_a_figure_comes_back_as_a_picture(tmp_path):
    dataset = FigureDataset(filepath=str(tmp_path / "a.png"))
    dataset.save(Figure(figsize=(2, 1), dpi=50))
    assert dataset.load().size == (100, 50)


def test_a_picture_is_not_synced_for_it_can_be_made_again(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "fsync")
    ImageDataset(filepath=str(tmp_path / "a.png")).save(Image.new("L", (2, 2)))
    with pytest.raises(DatasetError, match="fsync"):
        JSONDataset(filepath=str(tmp_path / "a.json")).save({})
