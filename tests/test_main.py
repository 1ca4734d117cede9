"""`python -m vae_mnist`: in the project, installed elsewhere, and under torchrun."""

import sys

import pytest

from .helpers.marks import slow_after
from .helpers.project import as_params


def test_the_package_runs_as_a_module(finished):
    result = finished.command(sys.executable, "-m", "vae_mnist", "--pipelines=evaluate", as_params(), check=True)
    assert "pipelines" not in result.stderr
    assert "run        default" in result.stdout


@pytest.mark.parametrize(
    "words", slow_after(1, [["--pipelines=train", "--only-missing-outputs", as_params()], ["--help"]])
)
def test_torchrun_ends_where_the_first_process_has_nothing_to_train(finished, tmp_path, words):
    """The others wait for it, an hour if need be."""
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        f"--log-dir={tmp_path}",
    ]
    finished.command(*torchrun, "-m", "vae_mnist", *words, check=True, timeout=60, env={"PYTHONPATH": "src"})


@pytest.mark.slow
def test_kedro_package_gives_a_wheel_that_runs_anywhere(finished, tmp_path):
    finished.kedro("package", check=True, timeout=600)
    (wheel,) = finished.root.joinpath("dist").glob("*.whl")
    site = tmp_path / "site"
    finished.command(
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel), check=True
    )
    home = tmp_path / "elsewhere"
    home.mkdir()
    conf = finished.root / "dist" / "conf-vae_mnist.tar.gz"
    result = finished.command(
        "env", "-C", str(home), sys.executable, "-m", "vae_mnist", f"--conf-source={conf}",
        as_params(train__epochs=1), env={"PYTHONPATH": str(site)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert (home / "data" / "06_models" / "default" / "vae_epoch_001.pt").is_file()
    assert "anonymous usage data" not in result.stdout + result.stderr
    assert "epoch 1/1  train loss" in result.stdout
    assert "WARNING" not in result.stdout + result.stderr
