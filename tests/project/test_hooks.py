"""Runs in one process: one at a time, and each ended, however it ended."""

import contextlib
import json
import sys
import threading

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from vae_mnist.datasets.checkpoints import CheckpointsDataset
from vae_mnist.errors import RunInUseError

from ..helpers.marks import slow_after

PARAMS = {
    "ingest": {"source": "sample"},
    "model": {"mlp": {"hidden_dim": 16}, "latent_dim": 4},
    "train": {"epochs": 2, "batch_size": 500, "threads": 1},
}


def exits(project, run="default"):
    path = project.path("07_model_output", run, "run_record.json")
    return [record["exit"] for record in json.loads(path.read_text())]


def session_run(project, pipelines, **parameters):
    with KedroSession.create(project.root, runtime_params=PARAMS | parameters) as session:
        session.run(pipeline_names=pipelines)


def test_a_second_session_in_another_thread_is_refused_by_name(project, monkeypatch):
    saving, go_on, save = threading.Event(), threading.Event(), CheckpointsDataset.save

    def save_slowly(dataset, checkpoints):
        save(dataset, checkpoints)
        saving.set()
        assert go_on.wait(60)

    monkeypatch.setattr(CheckpointsDataset, "save", save_slowly)
    bootstrap_project(project.root)
    with contextlib.chdir(project.root):
        first = threading.Thread(target=session_run, args=(project, ["ingest", "train"]), kwargs={"run": "first"})
        first.start()
        assert saving.wait(60)
        with pytest.raises(
            RunInUseError, match="run 'first' has been running in another thread of this process since "
        ):
            session_run(project, ["ingest"], run="second")
        go_on.set()
        first.join()
        assert exits(project, "first") == ["finished"]
        assert len(list(project.path("06_models", "first").glob("*.pt"))) == 2
        assert not project.path("06_models", "second").exists()
        session_run(project, ["ingest"], run="second")
    assert exits(project, "second") == ["finished"]


# A notebook's cell that is interrupted: no command of ours stands around it.
INTERRUPTED = """
import json, os, signal, sys, threading, time
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

def run(pipelines):
    with KedroSession.create(Path.cwd(), runtime_params=json.loads(sys.argv[1])) as session:
        session.run(pipeline_names=pipelines)

stopped = threading.Event()

def interrupt():
    while not list(Path("data/06_models/default").glob("*.pt")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    while not stopped.wait(5):  # as a person would: Python loses what is raised in __del__, for one
        os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell started the tests with "&"
bootstrap_project(Path.cwd())
threading.Thread(target=interrupt, daemon=True).start()
try:
    run(["ingest", "train"])
except KeyboardInterrupt:
    stopped.set()
    if sys.argv[2] == "again":
        run(["ingest"])
"""


@pytest.mark.parametrize(("then", "ends"), slow_after(1, [("again", ["stopped", "finished"]), ("ends", ["stopped"])]))
def test_a_run_interrupted_in_a_notebook_is_ended_by_the_next_one_or_with_the_process(project, then, ends):
    params = PARAMS | {"train": PARAMS["train"] | {"epochs": 400, "batch_size": 100}}
    project.command(sys.executable, "-c", INTERRUPTED, json.dumps(params), then, check=True, env={"PYTHONPATH": "src"})
    assert exits(project) == ends
    assert not project.path("06_models", "default", ".owner.json").exists()
