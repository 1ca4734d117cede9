"""Processes that the fork server starts are like others."""

import pytest


@pytest.mark.parametrize("cold", [False, True])
def test_a_process_runs_the_code_of_its_own_project(project, cold):
    settings = project.root / "src" / "vae_mnist" / "settings.py"
    settings.write_text("import os\nraise SystemExit(os.environ['SAID'])\n")
    result = project.kedro("run", cold=cold, env={"SAID": "by the copy"})
    assert (result.returncode, result.stderr) == (1, "by the copy\n")


def test_warnings_in_a_process_are_errors(project):
    with (project.root / "src" / "vae_mnist" / "settings.py").open("a") as settings:
        settings.write("warnings.warn('old', DeprecationWarning)\n")
    result = project.kedro("run", "--pipelines=ingest")
    assert result.returncode == 1
    assert result.stderr.endswith("DeprecationWarning: old\n")


@pytest.mark.parametrize("name", ["PYTHONPATH", "OMP_NUM_THREADS"])
def test_a_process_that_has_to_start_cold_says_so(project, name):
    with pytest.raises(AssertionError, match=f"too late for {name}: start cold"):
        project.kedro("run", env={name: "1"})


def test_what_kedro_adds_to_the_environment_here_does_not_reach_a_process(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "left by a run in this process")
    project.run("--pipelines=ingest")
