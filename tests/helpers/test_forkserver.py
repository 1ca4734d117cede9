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
