"""What a run's record says, and that it says enough."""

import json
import logging
import os
import subprocess
import sys
from datetime import datetime

import pytest
import torch

from vae_mnist.project import record
from vae_mnist.project.record import PACKAGES, Code, code_version, start_record

from ..helpers.processes import MANY, running, wait_for


def records(project, run="default"):
    return json.loads(project.path("07_model_output", run, "run_record.json").read_text())


def test_a_record_says_what_was_run_where_and_how_it_ended(finished):
    first = records(finished)[0]
    card = json.loads(finished.path("05_model_input", "data_card.json").read_text())
    assert (first["run"], first["pipelines"], first["selection"]) == ("default", ["__default__"], {})
    assert first["exit"] == "finished"
    assert first["started"] <= first["ended"]
    seconds = (datetime.fromisoformat(first["ended"]) - datetime.fromisoformat(first["started"])).total_seconds()
    assert 1 < first["cpu_seconds"] <= (seconds + 1) * os.cpu_count()
    assert first["data"] == {"title": card["title"], "sha256": card["sha256"]}
    assert first["parameters"]["train"].items() >= {"epochs": 2, "seed": 0}.items()
    assert set(first["parameters"]) >= {"ingest", "model", "objective", "train", "evaluate", "report", "run"}
    assert first["packages"].keys() == set(PACKAGES)
    assert first["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    machine = {"device": "cpu", "threads": 1, "precision": "float32", "python": sys.version.split()[0]}
    assert first["machine"].items() >= machine.items()


def test_every_run_of_a_name_adds_a_record_with_its_end(project):
    assert project.invoke("--pipelines=ingest").exit_code == 0
    assert project.invoke("--pipelines=train").exit_code == 0
    assert project.invoke("--pipelines=train", model__latent_dim=9, model__mlp__hidden_dim=8).exit_code == 1
    assert project.invoke("--nodes=measure_bounds").exit_code == 0
    assert project.invoke("--tags=evaluate", "--only-missing-outputs").exit_code == 0
    found = records(project)
    assert [record["pipelines"] for record in found] == [["ingest"], *[["train"]] * 2, *[["__default__"]] * 2]
    assert [record["selection"] for record in found[2:]] == [
        {}, {"node_names": ["measure_bounds"]}, {"tags": ["evaluate"], "only_missing_outputs": True},
    ]  # fmt: skip
    assert [record["exit"] for record in found if record["exit"] != "finished"] == [found[2]["exit"]]
    assert found[2]["exit"].startswith("failed: ")
    assert "\n" not in found[2]["exit"]
    assert "model.latent_dim: the run 'default' has 4" in found[2]["exit"]
    assert len({json.dumps(record["data"]) for record in found}) == 1


@pytest.mark.parametrize(
    ("named", "pipelines"),
    [
        ({"pipeline_name": "train"}, ["train"]),
        ({"pipeline_names": ["train", "report"], "pipeline_name": None}, ["train", "report"]),
        ({}, ["__default__"]),
    ],
)
def test_callers_that_name_one_pipeline_or_none_are_understood(named, pipelines):
    assert start_record(named, {"run": "default"}, {}).pipelines == pipelines


def test_images_that_were_there_already_are_recorded(project):
    """Kedro leaves out the nodes of ingest only after the run has begun."""
    assert project.invoke("--pipelines=ingest").exit_code == 0
    assert project.invoke("--pipelines=ingest,train", "--only-missing-outputs").exit_code == 0
    first, second = records(project)
    assert second["data"] == first["data"]


def test_a_killed_run_has_no_end_in_its_record(project):
    with running(project, **MANY) as process:
        wait_for(lambda: list(project.path("06_models", "default").glob("*.pt")), process)
    (killed,) = records(project)
    assert (killed["ended"], killed["exit"]) == (None, None)
    assert killed["data"]["sha256"]["train"]


@pytest.mark.parametrize("content", ["[", '[{"run": "default"}]'])
def test_a_file_that_holds_no_records_ends_in_one_message_and_is_left_alone(project, content):
    path = project.path("07_model_output", "default", "run_record.json")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    for _ in range(2):  # the first one has given its lock back
        result = project.invoke("--pipelines=ingest")
        assert result.exit_code == 1
        assert "run_record.json: " in result.output.splitlines()[-1].partition("Error: ")[2]
        assert "Traceback" not in result.output
    assert path.read_text() == content


def test_the_commit_and_changes_to_it_are_recorded_of_the_packages_own_repository(tmp_path, monkeypatch, caplog):
    module = tmp_path / "src" / "record.py"
    monkeypatch.setattr(record, "__file__", str(module))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

    def git(*words):
        command = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    module.parent.mkdir()
    module.touch()
    (tmp_path / ".gitignore").write_text("venv\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "All")
    commit = git("rev-parse", "HEAD")
    known = Code(version="0.1.0", commit=commit, dirty=False)
    assert code_version() == known
    (tmp_path / "parameters.yml").write_text("train: {}\n")  # beside the package
    assert code_version() == known.model_copy(update={"dirty": True})

    monkeypatch.setattr(record, "__file__", str(tmp_path / "venv" / "record.py"))
    (tmp_path / "venv").mkdir()
    assert code_version().commit is None, "installed beside somebody's own files"
    monkeypatch.setenv("PATH", "")
    with caplog.at_level(logging.DEBUG, logger="vae_mnist"):
        assert code_version().commit is None
    assert "the commit is not known: [Errno 2]" in caplog.text
