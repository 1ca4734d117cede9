"""What a run's record says, and that it says enough."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from vae_mnist.project.runs import PACKAGES
from vae_mnist.storage.checkpoints import read_checkpoint

from ..helpers.compare import same
from ..helpers.project import ROOT, without_coverage


def records(project, run="default"):
    return json.loads(project.path("07_model_output", run, "run_record.json").read_text())


def test_a_record_says_what_was_run_where_and_how_it_ended(finished):
    first = records(finished)[0]
    card = json.loads(finished.path("05_model_input", "data_card.json").read_text())
    assert first["run"] == "default"
    assert first["pipelines"] == ["__default__"]
    assert first["exit"] == "finished"
    assert first["started"] <= first["ended"]
    assert first["data"] == {"title": card["title"], "sha256": card["sha256"]}
    assert first["parameters"]["train"]["epochs"] == 2
    assert set(first["parameters"]) >= {"ingest", "model", "objective", "train", "evaluate", "report", "run"}
    assert first["packages"].keys() == set(PACKAGES)
    assert first["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert first["machine"]["device"] == "cpu"
    assert first["machine"]["threads"] == 1
    assert first["machine"]["precision"] == "float32"
    assert first["machine"]["python"] == sys.version.split()[0]


def same_but_for_time(left, right):
    moments = {"started", "ended", "run"}
    left, right = ({key: value for key, value in record.items() if key not in moments} for record in (left, right))
    left["parameters"], right["parameters"] = (record["parameters"] | {"run": ""} for record in (left, right))
    return left == right


def test_equal_records_mean_equal_weights(finished):
    """The name of the run apart, which stands for the place; each in a process of its own."""
    for run in ("one", "two"):
        assert finished.run("--pipeline=train", run=run).returncode == 0
    assert finished.run("--pipeline=train", run="three", train__seed=1).returncode == 0
    one, two, three = (records(finished, run)[-1] for run in ("one", "two", "three"))
    weights = [
        read_checkpoint(finished.path("06_models", run, "vae_epoch_002.pt"))["model_state"]
        for run in ("one", "two", "three")
    ]
    assert same_but_for_time(one, two)
    assert same(weights[0], weights[1])
    assert not same_but_for_time(one, three)
    assert not same(weights[0], weights[2])


def test_every_run_of_a_name_adds_a_record(project):
    for epochs in (1, 2):
        assert project.invoke("--pipelines=ingest,train", train__epochs=epochs).exit_code == 0
    assert [record["parameters"]["train"]["epochs"] for record in records(project)] == [1, 2]
    assert project.invoke("--pipeline=train", model__latent_dim=9).exit_code == 1
    assert records(project)[-1]["exit"].startswith("failed: model.latent_dim: the run 'default' has 4, you ask for 9.")
    assert project.invoke("--pipeline=evaluate").exit_code == 0
    assert [record["exit"] for record in records(project)][0::3] == ["finished", "finished"]


def test_an_ingest_alone_is_recorded_too(project):
    assert project.invoke("--pipeline=ingest").exit_code == 0
    (record,) = records(project)
    card = json.loads(project.path("05_model_input", "data_card.json").read_text())
    assert record["pipelines"] == ["ingest"]
    assert record["data"] == {"title": card["title"], "sha256": card["sha256"]}
    assert record["exit"] == "finished"


def test_a_killed_run_has_no_end_in_its_record(project):
    from ..faults.test_signals import MANY, running, wait_for

    with running(project, **MANY) as process:
        wait_for(lambda: list(project.path("06_models", "default").glob("*.pt")), process)
    (record,) = records(project)
    assert (record["ended"], record["exit"]) == (None, None)
    assert record["data"]["sha256"]["train"]


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

bootstrap_project(Path.cwd())
threading.Thread(target=interrupt, daemon=True).start()
try:
    run(["ingest", "train"])
except KeyboardInterrupt:
    stopped.set()
    if sys.argv[2] == "again":
        run(["ingest"])
"""


@pytest.mark.parametrize(("then", "exits"), [("ends", ["stopped"]), ("again", ["stopped", "finished"])])
def test_a_run_interrupted_in_a_notebook_is_ended_by_the_next_one_or_with_the_process(project, then, exits):
    params = {
        "ingest": {"source": "sample"},
        "model": {"hidden_dim": 16, "latent_dim": 4},
        "train": {"epochs": 400, "batch_size": 100, "threads": 1},
    }
    project.command(sys.executable, "-c", INTERRUPTED, json.dumps(params), then, check=True, env={"PYTHONPATH": "src"})
    assert [record["exit"] for record in records(project)] == exits
    assert not project.path("06_models", "default", ".owner.json").exists()


def test_digits_that_were_there_already_are_recorded_and_not_kept_from_others(project):
    """Kedro leaves out the nodes of ingest only after the run has begun."""
    assert project.invoke("--pipelines=ingest,train").exit_code == 0
    shutil.rmtree(project.path("06_models"))
    result = project.invoke("--pipelines=ingest,train", "--only-missing-outputs")
    assert result.exit_code == 0, result.output
    first, second = records(project)
    assert second["data"] == first["data"]
    assert project.path("06_models", "default", "vae_epoch_002.pt").is_file()


def test_a_damaged_data_card_is_the_reason_in_the_record(project):
    assert project.invoke("--pipeline=ingest").exit_code == 0
    project.path("05_model_input", "data_card.json").write_text("{}")
    assert project.invoke("--pipeline=train").exit_code == 1
    assert records(project)[-1]["exit"].startswith("failed: data_card: expected a title and the sha256")


def test_a_run_that_cannot_sign_its_lock_gives_it_back(project):
    owner = project.path("06_models", "default", ".owner.json")
    owner.mkdir(parents=True)
    first = project.invoke("--pipeline=ingest")  # kept, with the exception in it, as a notebook keeps it
    assert f"{owner.name}: cannot be written: " in first.output
    owner.rmdir()
    assert project.invoke("--pipeline=ingest").exit_code == 0


def test_an_error_of_several_lines_is_one_line_in_the_record(project):
    assert project.invoke("--pipelines=ingest,train").exit_code == 0
    assert project.invoke("--pipeline=train", model__latent_dim=9, model__hidden_dim=8).exit_code == 1
    assert "you ask for 8. model.latent_dim: the run 'default' has 4" in records(project)[-1]["exit"]


def test_what_a_killed_run_left_is_removed_by_the_next_one_of_its_name(project, caplog):
    folders = ["05_model_input", "06_models/default", "07_model_output/default"]
    left = [project.path(folder, ".x.json.abcd1234.tmp") for folder in folders]
    others = project.path("06_models/other", ".x.json.abcd1234.tmp")
    for path in [*left, others]:
        path.parent.mkdir(parents=True)
        path.write_text("half")
    with caplog.at_level("INFO"):
        assert project.invoke("--pipeline=ingest").exit_code == 0
    assert [path for path in left if path.exists()] == []
    assert others.exists(), "another run may be writing it"
    for folder in folders:
        assert f"removed data/{folder}/.x.json.abcd1234.tmp, the rest of a run that was killed" in caplog.text


@pytest.fixture
def checkout(tmp_path):
    """The package in a git repository of its own."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-q", "-m", "All")
    return root


def git(root, *words):
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def code_version(source):
    code = "import json; from vae_mnist.project.runs import code_version; print(json.dumps(code_version()))"
    command = [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(source)!r}); {code}"]
    environment = without_coverage()  # it would count the copies as code without tests
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def test_the_commit_and_changes_to_it_are_recorded(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert code_version(checkout / "src") == {"version": "0.1.0", "commit": commit, "dirty": False}
    with (checkout / "src" / "vae_mnist" / "errors.py").open("a") as file:
        file.write("# changed\n")
    assert code_version(checkout / "src") == {"version": "0.1.0", "commit": commit, "dirty": True}


def test_a_change_beside_the_package_is_recorded_too(checkout):
    (checkout / "parameters.yml").write_text("train: {}\n")
    assert code_version(checkout / "src")["dirty"] is True


def test_a_package_inside_somebody_elses_repository_has_no_commit(checkout):
    site = checkout / "venv" / "site-packages"
    shutil.copytree(checkout / "src" / "vae_mnist", site / "vae_mnist")
    assert code_version(site) == {"version": "0.1.0", "commit": None, "dirty": None}
