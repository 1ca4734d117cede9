"""`python -m vae_mnist`: in the project, installed elsewhere, and under torchrun."""

import sys

import pytest

from .helpers.marks import slow_after
from .helpers.project import as_params


@pytest.mark.parametrize(
    "words", slow_after(1, [["--pipelines=train", "--only-missing-outputs", as_params()], ["--help"]])
)
def test_torchrun_ends_where_the_first_process_has_nothing_to_train(finished, tmp_path, words):
    """The others wait for it, an hour if need be."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--log-dir={tmp_path}"]
    command = [sys.executable, *launch, "-m", "vae_mnist", *words]
    finished.command(*command, check=True, timeout=60, env={"PYTHONPATH": "src"})


@pytest.mark.slow
def test_kedro_package_gives_a_wheel_that_runs_anywhere(finished, tmp_path):
    finished.kedro("package", check=True, timeout=600)
    (wheel,) = finished.root.joinpath("dist").glob("*.whl")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    finished.command(*pip, check=True)
    home = tmp_path / "elsewhere"
    home.mkdir()
    conf = f"--conf-source={finished.root / 'dist' / 'conf-vae_mnist.tar.gz'}"
    command = ["env", "-C", str(home), sys.executable, "-m", "vae_mnist", conf, as_params(train__epochs=1)]
    result = finished.command(*command, env={"PYTHONPATH": str(site)})
    assert result.returncode == 0, result.stdout + result.stderr
    assert (home / "data" / "06_models" / "default" / "vae_epoch_001.pt").is_file()
    assert "anonymous usage data" not in result.stdout + result.stderr
    assert "epoch 1/1  train loss" in result.stdout
    assert "WARNING" not in result.stdout + result.stderr
