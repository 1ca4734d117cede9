"""Training in several processes: real torchrun, real deaths."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pandas as pd
import psutil
import pytest

from vae_mnist.storage.checkpoints import read_checkpoint

from ..helpers.processes import MANY, wait_for
from ..helpers.project import as_params, without_coverage

# 4,000 images in batches of 333: two processes have 167 and 166 of each, and 2 and 2 of the last.
ODD = {"train__batch_size": 333, "train__epochs": 2}
TRAIN = "--pipelines=train"


def losses(project, run):
    history = pd.read_csv(project.path("07_model_output", run, "history.csv"))
    return history.drop(columns=["seconds"]).to_numpy()


def checkpoints(project, run="default"):
    return sorted(project.path("06_models", run).glob("vae_epoch_*.pt"))


def epochs(project, run="default"):
    return [read_checkpoint(path).epoch for path in checkpoints(project, run)]


@contextmanager
def torchrun(project, launch=("--standalone", "--nproc-per-node=2"), path=(), **overrides):
    """What a user types, in a group of processes of its own."""
    logs = f"--log-dir={project.root / 'torchrun'}"
    program = ["-m", "vae_mnist", TRAIN, as_params(**overrides)]
    command = [sys.executable, "-m", "torch.distributed.run", *launch, logs, *program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = without_coverage() | {"PYTHONPATH": os.pathsep.join(map(str, (*path, project.root / "src")))}
    with subprocess.Popen(command, cwd=project.root, env=environment, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def finish(process, timeout=300):
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, out + err
    return out


def children(process):
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(processes):
    return psutil.wait_procs(processes, timeout=10)[1] == []


def free_port():
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        return any_socket.getsockname()[1]


def machine(project, number, port, **options):
    """What is typed on one of two machines."""
    place = (f"--node-rank={number}", "--master-addr=127.0.0.1", f"--master-port={port}")
    return torchrun(project, launch=("--nnodes=2", "--nproc-per-node=2", *place), **options)


def test_losses_do_not_depend_on_the_number_of_processes_nor_on_when_it_changes(ingested):
    assert ingested.invoke(TRAIN, run="one", **ODD).exit_code == 0
    with torchrun(ingested, run="two", **ODD) as process:
        out = finish(process)
    assert losses(ingested, "two") == pytest.approx(losses(ingested, "one"), rel=1e-4)
    assert out.count(" epoch 1/2") == 1, "the first process alone tells"
    assert ingested.invoke(TRAIN, run="two", **(ODD | {"train__epochs": 3})).exit_code == 0
    assert ingested.invoke(TRAIN, run="one", **(ODD | {"train__epochs": 3})).exit_code == 0
    assert losses(ingested, "two") == pytest.approx(losses(ingested, "one"), rel=1e-4)
    assert epochs(ingested, "two") == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        {"model__network": "conv", "model__prior": "flow"},
        {"objective__name": "iwae"},
        {"train__precision": "bfloat16"},
        {"train__clip_norm": 5, "train__average": 0.9, "train__binarisation": "dynamic", "train__weight_decay": 0.1},
        {"train__optimizer": "muon"},
        {"train__compile": True},
    ],
    ids=str,
)
def test_losses_of_every_kind_do_not_depend_on_the_number_of_processes(ingested, choices):
    settings = ODD | {"train__epochs": 1} | choices
    assert ingested.invoke(TRAIN, run="one", **settings).exit_code == 0
    with torchrun(ingested, run="three", launch=("--standalone", "--nproc-per-node=3"), **settings) as process:
        finish(process)
    tolerance = 1e-4 if {"train__precision", "train__optimizer"}.isdisjoint(choices) else 1e-2  # bfloat16 in both
    assert losses(ingested, "three") == pytest.approx(losses(ingested, "one"), rel=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_run(ingested, rank):
    with torchrun(ingested, **MANY) as process:
        wait_for(lambda: len(checkpoints(ingested)) >= 2, process)
        everybody = children(process)
        (victim,) = (each for each in everybody if each.environ().get("RANK") == str(rank))
        victim.send_signal(signal.SIGKILL)
        died = time.monotonic()
        process.communicate(timeout=60)
        assert time.monotonic() - died < 10
    assert process.returncode != 0
    assert all_gone(everybody)
    found = epochs(ingested)
    assert found == list(range(found[0], found[-1] + 1))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_launcher_leaves_no_processes(ingested, number):
    with torchrun(ingested, **MANY) as process:
        wait_for(lambda: checkpoints(ingested), process)
        everybody = children(process)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert all_gone(everybody)
    assert epochs(ingested)


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_a_machine_that_dies_ends_the_run_on_the_other(ingested, dies):
    port = free_port()
    with machine(ingested, 0, port, **MANY) as first, machine(ingested, 1, port, **MANY) as second:
        wait_for(lambda: len(checkpoints(ingested)) >= 2, first)
        victim, other = (first, second) if dies == 0 else (second, first)
        left = children(other)
        # all of a machine at once, as when its power goes
        for each in [*children(victim), psutil.Process(victim.pid)]:
            each.kill()
        died = time.monotonic()
        other.communicate(timeout=60)
        assert time.monotonic() - died < 10
        assert other.returncode != 0
        assert all_gone(left)
    assert epochs(ingested)


@pytest.mark.slow
def test_two_machines_train_one_model_from_the_images_of_the_first_and_unpickle_nothing(ingested, tmp_path):
    assert ingested.invoke(TRAIN, run="one", **ODD).exit_code == 0
    # Each process is without a way to unpickle.
    forbid = "import pickle\ndef no(*_, **__): raise SystemExit('unpickled')\npickle.loads = pickle.load = no\n"
    (tmp_path / "sitecustomize.py").write_text(forbid)
    command = [sys.executable, "-c", "import pickle; pickle.loads(b'N.')"]
    assert "unpickled" in ingested.command(*command, env={"PYTHONPATH": str(tmp_path)}).stderr
    for count in (1, 2):  # the second run goes on from the first one's checkpoint
        port, params = free_port(), ODD | {"run": "two", "train__epochs": count}
        elsewhere = params | {"data_root": tmp_path / "empty"}
        with (
            machine(ingested, 0, port, path=[tmp_path], **params) as first,
            machine(ingested, 1, port, path=[tmp_path], **elsewhere) as second,
        ):
            outputs = [finish(each) for each in (first, second)]
    assert losses(ingested, "two") == pytest.approx(losses(ingested, "one"), rel=1e-4)
    assert "epoch 2/2" in outputs[0]
    assert "epoch" not in outputs[1], "the first process alone tells"
    assert "resumes after epoch 1" in outputs[0]
    assert not (tmp_path / "empty").exists()
    records = json.loads(ingested.path("07_model_output", "two", "run_record.json").read_text())
    assert [record["exit"] for record in records] == ["finished", "finished"]
