"""Training through the catalog: what it writes, and what happens when it is broken off, repeated or changed."""

import os
import subprocess
import sys
import weakref

import pandas as pd
import pytest
import torch

from vae_mnist.pipelines.train import nodes
from vae_mnist.storage.checkpoints import read_checkpoint, write_checkpoint

from ..helpers.compare import same
from ..helpers.project import LOSS_COLUMNS, as_params


def checkpoints(project, run="default"):
    return sorted(path.name for path in project.path("06_models", run).glob("*.pt"))


def tensors(project, run, epoch):
    return read_checkpoint(project.path("06_models", run, f"vae_epoch_{epoch:03d}.pt"))


def test_every_epoch_leaves_a_checkpoint_and_a_row(finished):
    assert checkpoints(finished) == ["vae_epoch_001.pt", "vae_epoch_002.pt"]
    history = pd.read_csv(finished.path("07_model_output", "default", "history.csv"))
    assert history["epoch"].tolist() == [1, 2]
    assert list(history.columns)[:9] == LOSS_COLUMNS


def test_each_epoch_logs_one_line(finished):
    lines = [line for line in finished.first_run.stdout.splitlines() if " epoch " in line]
    assert len(lines) == 2
    history = pd.read_csv(finished.path("07_model_output", "default", "history.csv"))
    for line, (_, row) in zip(lines, history.iterrows(), strict=True):
        for split in ("train", "test"):
            assert f"{split} loss {row[f'{split}_loss']:.2f} bce {row[f'{split}_bce']:.2f}" in line
        assert line.endswith(f"{row['seconds']:.1f} s  {4000 / row['seconds']:,.0f} images/s")


def test_training_says_what_its_losses_are(ingested, finished):
    assert "losses are nats per image, grey pixels as Bernoulli means" in finished.first_run.stdout
    options = {"train__weight_decay": 0.01, "train__clip_norm": 10, "train__average": 0.99}
    said = ingested.run("--pipelines=train", train__binarisation="dynamic", **options).stdout
    assert "losses are nats per image, binary pixels: training pixels drawn anew at each step" in said
    assert "grey" not in said
    assert tensors(ingested, "default", 2).trained_state


def test_a_log_file_holds_no_moving_bar(finished):
    assert "\r" not in finished.first_run.stdout + finished.first_run.stderr
    assert "batch/s" not in finished.first_run.stderr


def test_a_finished_run_says_so_and_does_nothing(ingested, monkeypatch, caplog):
    ingested.invoke("--pipelines=train")
    before = {path: path.stat().st_mtime_ns for path in ingested.path("06_models", "default").iterdir()}
    # not the root's, which the first run of this process replaces
    monkeypatch.setattr(nodes.logger, "handlers", [caplog.handler])
    for epochs in (1, 2):
        assert ingested.invoke("--pipelines=train", train__epochs=epochs).exit_code == 0
        assert f"run 'default' is already trained: 2 epochs, {epochs} asked for" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in ingested.path("06_models", "default").iterdir()} == before


def test_changed_settings_are_refused_by_name(ingested):
    ingested.invoke("--pipelines=train")
    result = ingested.invoke("--pipelines=train", model__latent_dim=16)
    assert result.exit_code == 1
    assert (
        "Error: model.latent_dim: the run 'default' has 4, you ask for 16. "
        "Add run=z16 to --params to train it beside 'default', or start over with --params=train.resume=false."
    ) in result.output


def test_starting_over_leaves_no_old_epoch(ingested):
    ingested.invoke("--pipelines=train", train__epochs=3)
    assert ingested.invoke("--pipelines=train", train__resume="false", train__epochs=1, train__seed=5).exit_code == 0
    assert checkpoints(ingested) == ["vae_epoch_001.pt"]
    assert tensors(ingested, "default", 1).settings["train.seed"] == 5


@pytest.mark.parametrize(
    ("keep", "epochs"), [("all", [1, 2, 3, 4, 5]), (2, [4, 5]), ("every-2", [2, 4, 5]), (1, [5])], ids=str
)
def test_only_the_checkpoints_that_are_wanted_stay(ingested, keep, epochs):
    ingested.invoke("--pipelines=train", train__epochs=5, train__keep=keep)
    assert checkpoints(ingested) == [f"vae_epoch_{epoch:03d}.pt" for epoch in epochs]


def test_a_run_goes_on_with_other_retention_and_ends_with_the_same_bits(ingested):
    ingested.invoke("--pipelines=train", run="all", train__epochs=5, train__keep="all")
    ingested.invoke("--pipelines=train", run="few", train__epochs=3, train__keep="all")
    ingested.invoke("--pipelines=train", run="few", train__epochs=5, train__keep=2)
    assert checkpoints(ingested, "few") == ["vae_epoch_004.pt", "vae_epoch_005.pt"]
    assert same(tensors(ingested, "all", 5), tensors(ingested, "few", 5))


def test_a_preset_has_a_run_of_its_own(ingested):
    """A preset after a bare run simply works, whatever differs between their recipes."""
    assert ingested.invoke("--pipelines=train").exit_code == 0
    settings = "--params=ingest.source=sample,train.epochs=1,model.mlp.hidden_dim=16"
    assert ingested.invoke("--env=fast", "--pipelines=train", settings).exit_code == 0
    assert checkpoints(ingested, "fast") == ["vae_epoch_001.pt"]
    assert len(checkpoints(ingested)) == 2


def test_images_that_are_not_those_of_the_data_card_are_refused(ingested):
    folder = ingested.path("05_model_input")
    (folder / "test_images.safetensors").replace(folder / "train_images.safetensors")
    ingested.path("05_model_input", "test_images.safetensors").write_bytes(
        (folder / "train_images.safetensors").read_bytes()
    )
    result = ingested.invoke("--pipelines=train")
    assert result.exit_code == 1
    assert "train_images: expected the images of the data card" in result.output


def test_an_epoch_is_written_before_it_is_logged_and_does_not_stay_in_memory(ingested, monkeypatch):
    """Kedro hands yielded values on through itertools.tee, which keeps 57 of them."""
    events, written, alive = [], [], []

    def write(checkpoint, path):
        alive.append(sum(reference() is not None for reference in written))
        written.append(weakref.ref(checkpoint.model_state["network.posterior.weight"]))
        write_checkpoint(checkpoint, path)
        events.append(f"written {checkpoint.epoch}")

    monkeypatch.setattr("vae_mnist.datasets.checkpoints.write_checkpoint", write)
    monkeypatch.setattr(nodes, "_log_epoch", lambda row, *_: events.append(f"logged {row['epoch']}"))
    assert ingested.invoke("--pipelines=train", train__epochs=6).exit_code == 0
    assert events == [f"{what} {epoch}" for epoch in range(1, 7) for what in ("written", "logged")]
    assert max(alive) <= 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a card that must not be there")
def test_an_impossible_device_ends_the_run_before_any_work(project):
    result = project.invoke(train__device="cuda")
    assert result.exit_code == 1
    assert "Error: train.device: expected one of the 0 CUDA cards" in result.output
    assert not project.path("05_model_input").exists()


def test_a_bar_moves_on_a_terminal(ingested):
    """A real pseudo-terminal: tqdm must see one."""
    import pty
    import termios

    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    command = [sys.executable, "-m", "kedro", "run", "--pipelines=train", as_params(train__batch_size=50)]
    process = subprocess.Popen(command, cwd=ingested.root, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    log = process.communicate(timeout=120)[0].decode()
    shown = b""
    try:
        while chunk := os.read(main, 65536):
            shown += chunk
    except OSError:  # the terminal's other end is closed
        pass
    os.close(main)
    assert process.returncode == 0
    assert b"epoch 1:" in shown
    assert b"batch/s" in shown
    assert shown.count(b"\r") > 2
    assert "batch/s" not in log
