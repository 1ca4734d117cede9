"""What a run's record says, and that it says enough."""

import json
import logging
import shutil
import subprocess
import sys

import pytest
import torch

from vae_mnist.project.record import PACKAGES, code_version, pipelines_of
from vae_mnist.storage.checkpoints import read_checkpoint

from ..helpers.compare import same
from ..helpers.marks import slow_after
from ..helpers.processes import MANY, running, wait_for
from ..helpers.project import ROOT, without_coverage


def records(project, run="default"):
    return json.loads(project.path("07_model_output", run, "run_record.json").read_text())


def test_a_record_says_what_was_run_where_and_how_it_ended(finished):
    first = records(finished)[0]
    card = json.loads(finished.path("05_model_input", "data_card.json").read_text())
    assert (first["run"], first["pipelines"], first["selection"]) == ("default", ["__default__"], {})
    assert first["exit"] == "finished"
    assert first["started"] <= first["ended"]
    assert first["data"] == {"title": card["title"], "sha256": card["sha256"]}
    assert first["parameters"]["train"]["epochs"] == 2
    assert set(first["parameters"]) >= {"ingest", "model", "objective", "train", "evaluate", "report", "run"}
    assert first["packages"].keys() == set(PACKAGES)
    assert first["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    machine = {"device": "cpu", "threads": 1, "precision": "float32", "python": sys.version.split()[0]}
    assert first["machine"].items() >= machine.items()


def same_but_for_time(left, right):
    moments = {"started", "ended", "run"}
    left, right = ({key: value for key, value in record.items() if key not in moments} for record in (left, right))
    left["parameters"], right["parameters"] = (record["parameters"] | {"run": ""} for record in (left, right))
    return left == right


def test_equal_records_mean_equal_weights(finished):
    """The name of the run apart, which stands for the place; each in a process of its own."""
    for run, seed in (("one", 0), ("two", 0), ("three", 1)):
        finished.run("--pipelines=train", run=run, train__seed=seed)
    one, two, three = (
        (
            records(finished, run)[-1],
            read_checkpoint(finished.path("06_models", run, "vae_epoch_002.pt")).model_state,
        )
        for run in ("one", "two", "three")
    )
    assert same_but_for_time(one[0], two[0])
    assert same(one[1], two[1])
    assert not same_but_for_time(one[0], three[0])
    assert not same(one[1], three[1])


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


def test_digits_that_were_there_already_are_recorded(project):
    """Kedro leaves out the nodes of ingest only after the run has begun."""
    assert project.invoke("--pipelines=ingest").exit_code == 0
    assert project.invoke("--pipelines=ingest,train", "--only-missing-outputs").exit_code == 0
    first, second = records(project)
    assert second["data"] == first["data"]


def test_a_killed_run_has_no_end_in_its_record(project):
    with running(project, **MANY) as process:
        wait_for(lambda: list(project.path("06_models", "default").glob("*.pt")), process)
    (record,) = records(project)
    assert (record["ended"], record["exit"]) == (None, None)
    assert record["data"]["sha256"]["train"]


@pytest.mark.parametrize("content", slow_after(2, ["[", "{}", "3", "null", '["x"]', '[{"run": "default"}]', "\x00"]))
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
    path.unlink()
    assert project.invoke("--pipelines=ingest").exit_code == 0


def test_callers_that_name_one_pipeline_or_none_are_understood():
    assert pipelines_of({"pipeline_name": "train"}) == ["train"]
    assert pipelines_of({"pipeline_names": ["train", "report"], "pipeline_name": None}) == ["train", "report"]
    assert pipelines_of({"pipeline_names": None}) == pipelines_of({}) == ["__default__"]


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


def code_of(source):
    code = "from vae_mnist.project.record import code_version; print(code_version().model_dump_json())"
    command = [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(source)!r}); {code}"]
    environment = without_coverage()  # it would count the copies as code without tests
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def test_the_commit_and_changes_to_it_are_recorded(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert code_of(checkout / "src") == {"version": "0.1.0", "commit": commit, "dirty": False}
    (checkout / "parameters.yml").write_text("train: {}\n")  # beside the package
    assert code_of(checkout / "src") == {"version": "0.1.0", "commit": commit, "dirty": True}


def test_a_package_inside_somebody_elses_repository_has_no_commit(checkout):
    site = checkout / "venv" / "site-packages"
    shutil.copytree(checkout / "src" / "vae_mnist", site / "vae_mnist")
    assert code_of(site) == {"version": "0.1.0", "commit": None, "dirty": None}


def test_why_the_commit_is_not_known_is_logged(monkeypatch, caplog):
    monkeypatch.setenv("PATH", "")
    with caplog.at_level(logging.DEBUG, logger="vae_mnist"):
        assert code_version().commit is None
    assert "the commit is not known: [Errno 2]" in caplog.text
