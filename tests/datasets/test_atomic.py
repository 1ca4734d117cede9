import resource

import pandas as pd
import pytest
from kedro.io import DatasetError
from matplotlib.figure import Figure
from PIL import Image
from plotly.graph_objects import Figure as PlotlyFigure

from vae_mnist.datasets.pictures import FigureDataset, ImageDataset, PlotlyDataset
from vae_mnist.datasets.tables import CSVDataset, JSONDataset
from vae_mnist.errors import WriteError


@pytest.mark.parametrize(
    ("kind", "name", "data"),
    [
        (CSVDataset, "a.csv", pd.DataFrame({"x": range(10_000)})),
        (JSONDataset, "a.json", ["x" * 10_000]),
        (PlotlyDataset, "b.json", PlotlyFigure(layout={"title": "x" * 10_000})),
        (FigureDataset, "a.png", Figure()),
        (ImageDataset, "b.png", Image.effect_noise((100, 100), 50)),
    ],
)
def test_kedros_own_datasets_keep_the_old_file_where_the_disk_takes_no_more(tmp_path, kind, name, data):
    (tmp_path / name).write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DatasetError) as caught:
            kind(filepath=str(tmp_path / name)).save(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(caught.value.__cause__, WriteError)
    assert f"{name}: cannot be written: File too large." in str(caught.value.__cause__)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"
