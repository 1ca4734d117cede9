"""Look at what a two-epoch run produced: `python .ci/look_at_run.py DATA_ROOT LOG`. Any surprise ends with an error."""

import json
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

from vae_mnist import load_model, sample

# Where two epochs of the default recipe must end, in nats per image: first train loss, last test loss.
EXPECTED = {"MNIST": ((155, 168), (113, 119)), "5,000-digit sample of MNIST": ((270, 310), (180, 215))}


def main(data: Path, log: str) -> None:
    """Raise AssertionError where the run is not as it should be."""
    card = json.loads((data / "05_model_input" / "data_card.json").read_text(encoding="utf-8"))
    report = data / "08_reporting" / "default"
    table = pd.read_csv(report / "loss_table.csv")
    assert table["epoch"].tolist() == [1, 2], table
    first, last = EXPECTED[card["name"]]
    assert first[0] < table["train_loss"][0] < first[1], table
    assert last[0] < table["test_loss"][1] < last[1], table
    for name in ("samples.png", "recons.png", "latent_map.png", "samples/sample_epoch_002.png", "samples.gif"):
        with Image.open(report / name) as picture:
            assert min(picture.size) > 400, (name, picture.size)  # noqa: PLR2004
    metrics = json.loads((data / "07_model_output" / "default" / "metrics.json").read_text(encoding="utf-8"))
    binarised = {each["name"]: each["value"] for each in metrics if "binarised" in each["data"]}
    assert binarised["importance_weighted_nll"] < binarised["neg_elbo"], binarised
    images = sample(load_model(data / "06_models" / "default" / "vae_epoch_002.pt"), 4)
    assert 0.05 < images.mean() < 0.3, images.mean()  # noqa: PLR2004
    assert "WARNING" not in log, log
    assert "test  loss" in log, log
    print(f"{card['title']}: as it should be")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8"))
